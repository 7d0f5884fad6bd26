"""The part of a client that asks instances something, by their `@query` methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from msgspec import Raw

from infinitic.client.connection import ClientConnection
from infinitic.client.intercepting import describe_method
from infinitic.client.requests import Requests
from infinitic.client.results import make_unknown_error
from infinitic.client.stubs import QueryStub, Target, check_query_stub
from infinitic.codec.payloads import Coder
from infinitic.errors import QueryFailedError, UsageError
from infinitic.limits import check_value, compute_value_limit
from infinitic.messages import client as responses, engine
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer, run_through

P = ParamSpec("P")
R = TypeVar("R")


class Queries:
    """The part of `Client` that asks queries."""

    name: str
    layers: tuple[Layer[ClientCall], ...]
    _connection: ClientConnection
    _requests: Requests
    _coder: Coder | None

    async def query(self, query: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask a workflow something, by one of its `@query` methods.

        ::

            points = await client.query(client.get_workflow_by_id(Trip, workflow_id).balance)

        The answer takes all into account that the engine had taken before: a signal that was sent
        with `confirm`, for instance. A closed workflow can be asked until its retention ends.

        Args:
            query: a query of a stub, not called.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            What the query returned.

        Raises:
            QueryFailedError: the query raised, or did more than read; or the workflow is stalled.
            WorkflowUnknownError: there is no such instance, or its retention has ended.
            RequestRefusedError: the instance takes no requests.
            UsageError: the arguments do not fit, or `query` is not of a stub. Nothing was sent.
            PayloadError: an argument cannot be sent. Nothing was sent.
        """
        stub = check_query_stub(query)
        signature = stub.spec.signature
        arguments = signature.encode_arguments(args, kwargs)
        if not self.layers:
            return cast(R, await self._query(stub, arguments))
        call = describe_method("query", self, stub, arguments)
        return cast(R, await run_through(self.layers, call, lambda: self._query(stub, arguments)))

    async def _query(self, stub: QueryStub, arguments: bytes) -> Any:
        value = await self.ask(stub.workflow, stub.spec.name, arguments)
        return stub.spec.signature.decode_result(value)

    async def ask(self, stub: Target, query: str, arguments: bytes) -> bytes | Raw:
        """Ask a query whose arguments are encoded already. Returns its value as JSON text.

        Errors are those of `query`.

        Args:
            stub: the instance.
            query: the query, as messages name it.
            arguments: its arguments, as JSON text.
        """
        name = stub.spec.name
        if stub.is_new:
            raise UsageError(
                f"{name}.{query}: a query asks a workflow that was started: take the stub from "
                "client.get_workflow_by_id(…)"
            )
        _, workflow_id = await self._requests.find_one(stub)
        data = arguments if self._coder is None else await self._coder.encode_outside(arguments)
        check_value(f"The arguments of {name}.{query}", data, 0, compute_value_limit(self._connection.max_payload))
        response: responses.Response = responses.AskAgain("", 0.0)
        while isinstance(response, responses.AskAgain):
            response = await self._connection.ask(
                name,
                workflow_id,
                lambda at, to: engine.AskQuery(made_at=at, query=query, arguments=Raw(data), reply_to=to),
            )
        match response:
            case responses.Queried():
                return response.value if self._coder is None else await self._coder.decode_outside(response.value)
            case responses.QueryFailed():
                raise QueryFailedError(name, query, workflow_id, response.failure)
            case _:
                raise make_unknown_error(response, name, query, workflow_id)
