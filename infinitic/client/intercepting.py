"""Puts the middlewares of a client around its calls, and says which call it is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from infinitic.client.handles import WorkflowHandle, find_target
from infinitic.client.stubs import MethodStub, QueryStub, Target, WorkflowStub
from infinitic.codec.values import value_codec
from infinitic.definitions.stubs import check_meta
from infinitic.definitions.workflow_spec import workflow_name
from infinitic.definitions.workflows import Workflow
from infinitic.middleware.call import Arguments, ClientCall
from infinitic.middleware.chain import Layer, run_through

P = ParamSpec("P")
R = TypeVar("R")


_BY_WORKFLOW = ("retry_stalled", "list_workflows", "count_workflows")
"""What takes a workflow class or its name."""


class LayeredClient(Protocol):
    """What this needs of a client."""

    name: str
    layers: tuple[Layer[ClientCall], ...]


C = TypeVar("C", bound=LayeredClient)


def client_verb(
    function: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """Put the middlewares of the client around one of its methods.

    Without any, the method is called as it is.
    """

    @wraps(function)
    def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        if not self.layers:
            return function(self, *args, **kwargs)
        return run(self, *args, **kwargs)

    async def run(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        described = _describe_verb(function.__name__, self, args, kwargs)
        return cast(R, await run_through(self.layers, described, lambda: function(self, *args, **kwargs)))

    return call


def describe_method(
    verb: str,
    client: LayeredClient,
    stub: MethodStub | QueryStub,
    arguments: bytes,
    make_id: Callable[[], str] | None = None,
) -> ClientCall:
    """Say which call of a method or query it is.

    Args:
        verb: what is done with the method.
        client: who does it.
        stub: the method.
        arguments: its arguments, encoded.
        make_id: makes the id of a new instance.
    """
    target = stub.workflow
    new_id = make_id() if make_id is not None and target.is_new else ""
    return _describe(
        verb, client, target, stub.spec.name, new_id, partial(stub.spec.signature.decode_arguments, arguments)
    )


def describe_signal(
    client: LayeredClient, target: Target, channel: str, data: bytes, meta: dict[str, bytes]
) -> ClientCall:
    """Say which signal it is.

    Args:
        client: who sends it.
        target: for whom.
        channel: the name of the channel.
        data: the value, encoded.
        meta: what travels along.
    """

    def read() -> Arguments:
        hint: Any = next(each.hint() for each in target.spec.channels.values() if each.name == channel)
        return (value_codec(hint).decode(data),), {}

    return _describe("signal", client, target._replace(meta=meta), channel, "", read)


def with_meta(stub: MethodStub, call: ClientCall) -> MethodStub:
    """The same method, with the meta that the middlewares have left.

    Raises:
        UsageError: what they have put there is no meta.
    """
    return MethodStub(stub.workflow._replace(meta=check_meta(call.meta)), stub.spec)


def _describe(
    verb: str,
    client: LayeredClient,
    target: Target,
    method_name: str,
    new_id: str,
    read: Callable[[], Arguments],
) -> ClientCall:
    return ClientCall(
        verb,
        client.name,
        target.spec.name,
        target.workflow_id or new_id,
        method_name,
        meta=target.meta,
        tags=target.tags,
        custom_id=target.custom_id or target.holder_of,
        tag=target.tag,
        arguments=read,
    )


def _describe_verb(verb: str, client: LayeredClient, args: tuple[Any, ...], options: dict[str, Any]) -> ClientCall:
    """Say which call it is of those that take a stub, a handle or a workflow class."""
    options = dict(options)
    given = args[0] if args else options.pop("target", None) or options.get("name")
    rest = args if given is None else args[1:]

    def read() -> Arguments:
        return rest, options

    if isinstance(given, WorkflowHandle | WorkflowStub | Target):
        method_name = given.method_name if isinstance(given, WorkflowHandle) else ""
        return _describe(verb, client, find_target(cast(object, given))._replace(meta={}), method_name, "", read)
    if isinstance(given, type) and issubclass(given, Workflow):
        given = workflow_name(given)
    if verb not in _BY_WORKFLOW or not isinstance(given, str):
        given, rest = "", args
    return ClientCall(verb, client.name, given, arguments=read)
