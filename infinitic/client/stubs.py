"""Typed stubs of workflows for clients: they look like the workflow class, and turn calls into messages."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from infinitic.codec.values import value_codec
from infinitic.definitions.channels import Channel
from infinitic.definitions.workflow_spec import MethodSpec, WorkflowSpec, spec_of
from infinitic.definitions.workflows import Workflow, owner_of
from infinitic.errors import PayloadError, UsageError

if TYPE_CHECKING:
    from infinitic.client.client import Client


class Target(NamedTuple):
    """What a stub stands for: new instances of a workflow (`workflow_id` None), or one that runs."""

    client: Client
    spec: WorkflowSpec
    workflow_id: str | None
    meta: dict[str, bytes]


class WorkflowStub:
    """Looks like a workflow. It has no public attribute of its own: any could be the name of a method."""

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
        if name.startswith("_"):
            raise AttributeError(name)
        known = ", ".join(sorted([*spec.attributes, *spec.channels]))
        raise UsageError(f"The workflow {spec.name} has no public coroutine or channel '{name}'; it has {known}")

    def __repr__(self) -> str:
        return f"<stub of {self._target.spec.name} {self._target.workflow_id or '(new)'}>"


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
        return self.workflow.client.call(self, self.spec.signature.encode_arguments(args, kwargs))


class ClientChannel(Channel[Any]):
    """A channel of an instance, from outside."""

    def __init__(self, workflow: Target, channel: Channel[Any]) -> None:
        super().__init__(keep=channel.keep)
        self.name = channel.name
        self._workflow = workflow
        self._hint = channel.hint()

    async def send(self, value: Any, *, confirm: bool = False) -> None:
        try:
            data = value_codec(self._hint).encode(value)
        except PayloadError as error:
            raise PayloadError(f"{self._workflow.spec.name}.{self.name}.send(): {error}") from error
        await self._workflow.client.signal(self._workflow, self.name, data, confirm=confirm)


def stub_of(client: Client, cls: type[Any], workflow_id: str | None, meta: dict[str, bytes]) -> WorkflowStub:
    """A stub of a workflow class. Raises `UsageError` if it is none."""
    return WorkflowStub(Target(client, spec_of(cls), workflow_id, meta))


def stub_of_function(client: Client, method: object) -> tuple[Target, MethodSpec]:
    """The workflow and method that ``Trip.book`` stands for."""
    if isinstance(method, MethodStub):
        return method.workflow, method.spec
    owner = owner_of(method) if inspect.isfunction(method) else None
    if owner is None:
        of_object = isinstance(getattr(method, "__self__", None), Workflow)
        raise UsageError(
            f"get_handle takes a method of a workflow class, as in get_handle(Trip.book, …), got {method!r}"
            + (": give the method of the class, not of an object" if of_object else "")
        )
    workflow = Target(client, spec_of(owner), None, {})
    methods = workflow.spec.attributes.values()
    spec = next((each for each in methods if getattr(owner, each.attribute) is method), None)
    if spec is None:
        raise UsageError(f"{method!r} is not a public coroutine of the workflow {workflow.spec.name}")
    return workflow, spec


def method_stub(method: object) -> MethodStub:
    """The method of a stub that `Client.dispatch` was given. Raises `UsageError` if it is none."""
    if not isinstance(method, MethodStub):
        raise UsageError(
            "dispatch takes a method of a stub, as in client.dispatch(client.new_workflow(Trip).book, …), "
            f"got {method!r}"
        )
    return method
