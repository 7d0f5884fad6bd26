"""Typed stubs of workflows for the code of workflows: new instances, and those that run already.

They look like the workflow. Calls become requests of the instance whose code uses the stub.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from infinitic.codec.values import value_codec
from infinitic.definitions.channels import Channel
from infinitic.definitions.home import Home, find_home
from infinitic.definitions.kinds import check_class, is_contract, is_workflow
from infinitic.definitions.service_contract import public_functions
from infinitic.definitions.services import check_timeout
from infinitic.definitions.stubs import INSTANCE, check_meta
from infinitic.definitions.tags import check_custom_id, check_tags
from infinitic.definitions.workflow_contract import MethodSpec, WorkflowContract
from infinitic.errors import PayloadError, UsageError


def check_workflow(what: str, given: object) -> None:
    """Check that something is the class of a workflow, or a contract of one.

    Args:
        what: what was given it, such as "new_workflow": the error begins so.
        given: what should be such a class.

    Raises:
        UsageError: it is none, with a hint what to give instead.
    """
    cls = check_class(what, "workflow", given)
    if is_workflow(cls):
        return
    functions = public_functions(cls).values() if is_contract(cls) else ()
    if not any(inspect.iscoroutinefunction(each) for each in functions):
        service = ""
        if public_functions(cls):
            service = f". If it is a service, use Workflow.new_service({cls.__qualname__})"
        raise UsageError(
            f"{what} takes the class of a workflow, or an ABC or Protocol with `async def` methods, got "
            f"{cls.__qualname__}{service}"
        )


class NewWorkflow:
    """Starts instances of a workflow: what `Workflow.new_workflow` gives.

    In a class body, each workflow object gets its own `RemoteWorkflow` of it.
    """

    def __init__(
        self,
        contract: Callable[..., Any],
        meta: Mapping[str, bytes] | None = None,
        total_timeout: float | timedelta | None = None,
        tags: Iterable[str] = (),
        custom_id: str | None = None,
    ) -> None:
        check_workflow("new_workflow", contract)
        self.contract_class: Any = contract
        self.meta = check_meta(meta or {})
        self.tags = check_tags("new_workflow", tags)
        self.custom_id = "" if custom_id is None else check_custom_id(custom_id)
        self.total_timeout = check_timeout("total_timeout of a stub", total_timeout)
        self.attribute = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.attribute = name

    def __get__(self, workflow: object | None, owner: type[Any] | None = None) -> object:
        if workflow is None:
            return self
        instance: Home | None = getattr(workflow, INSTANCE, None)
        if instance is None:
            raise UsageError(
                f"The stub '{self.attribute}' of {type(workflow).__name__} is for a running workflow: "
                "start one through a client"
            )
        bound: object = instance.bind_workflow(self)
        if self.attribute:
            vars(workflow)[self.attribute] = bound
        return bound

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        home = find_home()
        if home is None:
            raise UsageError(
                f"A stub of {self.contract_class.__name__} is for the code of a workflow: use it as "
                f"self.{self.attribute or 'stub'}.{name}(…) in a method"
            )
        # It was made by the code of a method, not in a class body.
        return getattr(home.bind_workflow(self), name)


class RemoteTarget(NamedTuple):
    """Which instances a stub stands for.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of an instance.
        tag: all instances that have this tag.
        holder_of: the instance that holds this custom id. If all three are empty, each call starts
            a new instance.
        tags: those of new instances.
        custom_id: that of a new instance.
    """

    workflow: str
    workflow_id: str = ""
    tag: str = ""
    holder_of: str = ""
    tags: tuple[str, ...] = ()
    custom_id: str = ""

    @property
    def is_new(self) -> bool:
        """True if each call starts a new instance."""
        return not (self.workflow_id or self.tag or self.holder_of)

    def describe(self) -> str:
        """Describe it for people: the id of the instance, or what is known instead."""
        if self.tag:
            return f"with tag {self.tag!r}"
        return self.workflow_id or (f"with custom id {self.holder_of!r}" if self.holder_of else "(new)")


class RemoteWorkflow:
    """Another instance, or new ones, as the code of one instance sees them.

    It has no public attribute of its own: any could be the name of a method.
    """

    def __init__(
        self,
        home: Home,
        contract: WorkflowContract,
        target: RemoteTarget,
        *,
        meta: dict[str, bytes],
        total_timeout: float | None = None,
        attribute: str = "",
    ) -> None:
        self._home = home
        self._contract = contract
        self._target = target
        self._meta = meta
        self._total_timeout = total_timeout
        self._attribute = attribute

    def __getattr__(self, name: str) -> Any:
        contract = self._contract
        spec = contract.attributes.get(name)
        if spec is not None:
            return RemoteMethod(
                self._home,
                self._target,
                spec,
                self._meta,
                self._total_timeout or spec.total_timeout,
                self._attribute,
            )
        channel = contract.channels.get(name)
        if channel is not None:
            return RemoteChannel(self._home, self._target, channel)
        if name.startswith("_"):
            raise AttributeError(name)
        known = ", ".join(sorted([*contract.attributes, *contract.channels]))
        raise UsageError(f"The workflow {contract.name} has no public coroutine or channel '{name}'; it has {known}")

    def __repr__(self) -> str:
        return f"<stub of {self._contract.name} {self._target.describe()}>"


class RemoteMethod:
    """One method of another instance, or of new ones.

    Call it for a coroutine, or give it to `Workflow.dispatch`.
    """

    __slots__ = ("attribute", "home", "meta", "spec", "target", "total_timeout")

    def __init__(
        self,
        home: Home,
        target: RemoteTarget,
        spec: MethodSpec,
        meta: dict[str, bytes],
        total_timeout: float | None,
        attribute: str,
    ) -> None:
        self.home = home
        self.target = target
        self.spec = spec
        self.meta = meta
        self.total_timeout = total_timeout
        self.attribute = attribute

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        self.check_one()
        if self.home.loop.dead:
            self.home.refuse("a call of another workflow")
        return self._call(self.spec.signature.encode_arguments(args, kwargs))

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self.target.workflow

    def check_one(self) -> None:
        """Check that the method is not called on all instances of a tag.

        Raises:
            UsageError: it is: nobody could wait for so many results.
        """
        if self.target.tag:
            raise UsageError(
                f"{self.workflow}.{self.spec.name} has no result by tag {self.target.tag!r}, since many instances may "
                "have it: signal a channel, or call an instance by its id or custom id"
            )

    async def _call(self, arguments: bytes) -> Any:
        return await self.home.request(self, arguments)


class RemoteChannel(Channel[Any]):
    """A channel of another instance, as the code of one instance sees it."""

    def __init__(self, home: Home, target: RemoteTarget, channel: Channel[Any]) -> None:
        super().__init__(keep=channel.keep)
        self.name = channel.name
        self.target = target
        self._home = home
        self._hint = channel.hint()

    async def send(self, value: Any, *, confirm: bool = False, meta: Mapping[str, bytes] | None = None) -> None:
        if self.target.is_new:
            raise UsageError(
                f"Channel '{self.name}': signals go to a workflow that runs, as in self.get_workflow_by_id(…)"
            )
        if confirm:
            raise UsageError(
                f"Channel '{self.name}': confirm=True is for clients. The code of a workflow calls a method instead, "
                "and awaits it"
            )
        try:
            data = value_codec(self._hint).encode(value)
        except PayloadError as error:
            raise PayloadError(f"{self.target.workflow}.{self.name}.send(): {error}") from error
        self._home.signal(self, data, check_meta(meta or {}))
