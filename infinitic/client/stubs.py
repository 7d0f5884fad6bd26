"""Typed stubs of workflows for clients.

They look like the workflow class, and turn calls into messages.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

from infinitic.codec.values import value_codec
from infinitic.definitions.channels import Channel
from infinitic.definitions.kinds import is_contract
from infinitic.definitions.queries import QuerySpec
from infinitic.definitions.stubs import check_meta
from infinitic.definitions.workflow_contract import MethodSpec, WorkflowContract
from infinitic.definitions.workflow_spec import spec_of, workflow_contract_of
from infinitic.definitions.workflows import Workflow, owner_of
from infinitic.errors import PayloadError, UsageError


class StubClient(Protocol):
    """What stubs need of the client that made them."""

    def call(self, stub: MethodStub, arguments: bytes, /) -> Coroutine[Any, Any, Any]:
        """Start a method and wait for its result. `arguments` are encoded already."""
        ...

    async def signal(
        self, stub: Target, channel: str, data: bytes, /, *, confirm: bool, meta: dict[str, bytes] = ...
    ) -> str | None:
        """Send a signal whose value is encoded already."""
        ...


class Target(NamedTuple):
    """What a stub stands for: one instance, all that have a tag, or new ones.

    Attributes:
        client: sends what the stub is asked.
        spec: the workflow.
        workflow_id: the instance; None: the stub stands for something else.
        meta: bytes that a new instance finds in its context.
        tags: those of a new instance.
        custom_id: that of a new instance; empty: it has none.
        tag: the stub stands for all instances with this tag; empty: it does not.
        holder_of: the stub stands for the instance that holds this custom id; empty: it does not.
    """

    client: StubClient
    spec: WorkflowContract
    workflow_id: str | None
    meta: dict[str, bytes]
    tags: tuple[str, ...] = ()
    custom_id: str = ""
    tag: str = ""
    holder_of: str = ""

    @property
    def is_new(self) -> bool:
        """Whether each call of the stub starts an instance."""
        return self.workflow_id is None and not self.tag and not self.holder_of

    def describe(self) -> str:
        """Say for people which instances these are."""
        if self.tag:
            return f"with tag {self.tag!r}"
        if self.holder_of:
            return f"with custom id {self.holder_of!r}"
        return self.workflow_id or "(new)"


class WorkflowStub:
    """Looks like a workflow.

    It has no public attribute of its own: any could be the name of a method.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        spec = self._target.spec
        method = spec.attributes.get(name)
        if method is not None:
            return MethodStub(self._target, method)
        channel = spec.channels.get(name)
        if channel is not None:
            return ClientChannel(self._target, channel)
        query = next((each for each in spec.queries.values() if each.attribute == name), None)
        if query is not None:
            return QueryStub(self._target, query)
        if name.startswith("_"):
            raise AttributeError(name)
        known = ", ".join(
            sorted([*spec.attributes, *spec.channels, *(each.attribute for each in spec.queries.values())])
        )
        raise UsageError(f"The workflow {spec.name} has no public coroutine, query or channel '{name}'; it has {known}")

    def __repr__(self) -> str:
        return f"<stub of {self._target.spec.name} {self._target.describe()}>"


def target_of(stub: WorkflowStub) -> Target:
    """What a stub stands for."""
    target: Target = vars(stub)["_target"]
    return target


class MethodStub:
    """One method: call it and await the result, or give it to `Client.dispatch`."""

    __slots__ = ("spec", "workflow")

    def __init__(self, workflow: Target, spec: MethodSpec) -> None:
        self.workflow = workflow
        self.spec = spec

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        self.check_one("awaited")
        return self.workflow.client.call(self, self.spec.signature.encode_arguments(args, kwargs))

    def check_one(self, what: str) -> None:
        """Check that this is a method of one instance.

        Args:
            what: what is done with the method, for the error.

        Raises:
            UsageError: it is one of all instances that have a tag.
        """
        if self.workflow.tag:
            name = f"{self.workflow.spec.name}.{self.spec.name}"
            raise UsageError(
                f"{name} by tag cannot be {what}: the tag {self.workflow.tag!r} may have many instances, and so many "
                f"results. `await client.broadcast(stub.{self.spec.attribute}, …)` calls it on all of them"
            )


class QueryStub:
    """One query of an instance: give it to `Client.query`."""

    __slots__ = ("spec", "workflow")

    def __init__(self, workflow: Target, spec: QuerySpec) -> None:
        self.workflow = workflow
        self.spec = spec

    @property
    def called(self) -> str:
        """What it is called in errors."""
        return f"{self.workflow.spec.name}.{self.spec.attribute}"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(f"{self.called} is a query: it is asked by await client.query(stub.{self.spec.attribute}, …)")

    def __await__(self) -> Generator[Any, None, NoReturn]:
        raise UsageError(f"{self.called} is a query: it is asked by await client.query(stub.{self.spec.attribute}, …)")


class ClientChannel(Channel[Any]):
    """A channel of an instance, from outside."""

    def __init__(self, workflow: Target, channel: Channel[Any]) -> None:
        super().__init__(keep=channel.keep)
        self.name = channel.name
        self._workflow = workflow
        self._hint = channel.hint()

    async def send(self, value: Any, *, confirm: bool = False, meta: Mapping[str, bytes] | None = None) -> None:
        try:
            data = value_codec(self._hint).encode(value)
        except PayloadError as error:
            raise PayloadError(f"{self._workflow.spec.name}.{self.name}.send(): {error}") from error
        checked = check_meta(meta or {})
        await self._workflow.client.signal(self._workflow, self.name, data, confirm=confirm, meta=checked)


def make_stub(
    client: StubClient,
    cls: object,
    workflow_id: str | None = None,
    *,
    meta: dict[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
    custom_id: str = "",
    tag: str = "",
    holder_of: str = "",
) -> WorkflowStub:
    """Make a stub of a workflow class.

    Args:
        client: sends what the stub is asked.
        cls: the workflow class, or an ABC or Protocol that describes it.
        workflow_id: the instance; None: what the other arguments say.
        meta: bytes that a new instance, or a called method, finds in its context.
        tags: those of a new instance.
        custom_id: that of a new instance.
        tag: the instances that are meant have this one.
        holder_of: the instance that is meant has this custom id.

    Raises:
        UsageError: `cls` is no workflow class.
    """
    contract = read_contract(cls)
    return WorkflowStub(Target(client, contract, workflow_id, meta or {}, tags, custom_id, tag, holder_of))


def read_contract(cls: Any) -> WorkflowContract:
    """Read a workflow class, or an ABC or Protocol that describes a workflow.

    Raises:
        UsageError: it is neither.
    """
    if not (isinstance(cls, type) and is_contract(cls)):
        # It says best what somebody may have meant who gave something else.
        spec_of(cls)
    return workflow_contract_of(cls)


def read_method(client: StubClient, method: object) -> tuple[Target, MethodSpec]:
    """Read which workflow and method ``Trip.book`` stands for.

    Raises:
        UsageError: it is no method of a workflow class.
    """
    if isinstance(method, MethodStub):
        return method.workflow, method.spec
    owner = owner_of(method) if inspect.isfunction(method) else None
    if owner is None:
        of_object = isinstance(getattr(method, "__self__", None), Workflow)
        raise UsageError(
            f"get_handle takes a method of a workflow class, as in get_handle(Trip.book, …), got {method!r}"
            + (": give the method of the class, not of an object" if of_object else "")
        )
    workflow = Target(client, read_contract(owner), None, {})
    methods = workflow.spec.attributes.values()
    spec = next((each for each in methods if getattr(owner, each.attribute) is method), None)
    if spec is None:
        raise UsageError(f"{method!r} is not a public coroutine of the workflow {workflow.spec.name}")
    return workflow, spec


def check_method_stub(method: object) -> MethodStub:
    """Return the method of a stub that `Client.dispatch` was given.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(method, QueryStub):
        raise UsageError(
            f"{method.called} is a query, and dispatch starts methods: use await client.query(stub."
            f"{method.spec.attribute}, …)"
        )
    if isinstance(method, MethodStub):
        method.check_one("dispatched")
    else:
        raise UsageError(
            "dispatch takes a method of a stub, as in client.dispatch(client.new_workflow(Trip).book, …), "
            f"got {method!r}"
        )
    return method


def check_query_stub(query: object) -> QueryStub:
    """Return the query of a stub that `Client.query` was given.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(query, MethodStub):
        raise UsageError(
            f"{query.workflow.spec.name}.{query.spec.attribute} is a method, not a query: call it, or give it to "
            "client.dispatch. A query is a plain `def` with @query"
        )
    if not isinstance(query, QueryStub):
        raise UsageError(
            "query takes a query of a stub, as in client.query(client.get_workflow_by_id(Trip, …).balance), "
            f"got {query!r}"
        )
    return query
