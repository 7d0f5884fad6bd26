"""What is read from a workflow class.

Its name and version, its methods, channels and defaults.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infinitic.codec.payloads import Coder
from infinitic.codec.values import value_codec
from infinitic.definitions.batches import read_batch_options
from infinitic.definitions.channels import Channel
from infinitic.definitions.home import WorkflowContext
from infinitic.definitions.queries import QuerySpec, read_queries
from infinitic.definitions.service_contract import check_names, public_functions, remember, signature_of
from infinitic.definitions.stubs import ServiceStub
from infinitic.definitions.workflow_contract import MethodSpec as MethodSpec, WorkflowContract
from infinitic.definitions.workflow_stubs import NewWorkflow, check_workflow
from infinitic.definitions.workflows import (
    METHOD_OPTIONS,
    WORKFLOW_OPTIONS,
    MethodOptions,
    ReplayCheck,
    Workflow,
    WorkflowOptions,
    is_workflow,
)
from infinitic.errors import RegistrationError, UsageError
from infinitic.ids import check_name


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowSpec:
    """A workflow class, read.

    `methods` and `queries` are by name in messages, `attributes` are the methods by attribute.
    `retention` is in seconds. The worker sets `around`, which runs activations inside middlewares,
    and `carried_meta`, the names of the meta entries that instances hand on.
    """

    cls: type[Workflow]
    factory: Callable[[], Workflow] | None
    name: str
    version: int
    retention: float
    check: ReplayCheck
    methods: dict[str, MethodSpec]
    attributes: dict[str, MethodSpec]
    channels: dict[str, Channel[Any]]
    mutable: tuple[tuple[str, Any], ...]
    coder: Coder | None = None
    queries: dict[str, QuerySpec] = field(default_factory=dict[str, QuerySpec])
    around: Callable[[WorkflowContext, Callable[[], None]], None] | None = None
    carried_meta: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """True if no code of the user runs when an object is made."""
        return self.factory is None and self.cls.__init__ is object.__init__ and self.cls.__new__ is object.__new__


@remember
def workflow_contract_of(cls: type[Any]) -> WorkflowContract:
    """Read what callers need of a workflow: from its class, or from a contract without code.

    A contract is an ABC or a Protocol with `async def` methods. It has the name of the workflow, or
    `@workflow` gives it.

    Raises:
        UsageError: it is no such class.
        RegistrationError: its type hints or names cannot be used.
    """
    check_workflow("new_workflow", cls)
    if is_workflow(cls):
        spec = spec_of(cls)
        return WorkflowContract(spec.name, spec.attributes, spec.channels, spec.queries)
    methods = {
        name: _read_method(cls, name, function)
        for name, function in public_functions(cls).items()
        if inspect.iscoroutinefunction(function)
    }
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        members |= vars(base)
    channels: dict[str, Any] = {name: member for name, member in members.items() if isinstance(member, Channel)}
    for name, channel in channels.items():
        _check_channel(cls, name, channel)
    called = workflow_name(cls)
    check_names(cls, called, "workflow", {name: spec.name for name, spec in methods.items()})
    return WorkflowContract(called, methods, channels, read_queries(cls, members))


def workflow_options(cls: type[Any]) -> WorkflowOptions:
    """What `@workflow` says of this very class; the defaults if it is not decorated."""
    options = vars(cls).get(WORKFLOW_OPTIONS)
    return options if isinstance(options, WorkflowOptions) else WorkflowOptions()


def workflow_name(cls: type[Any]) -> str:
    """The name of a workflow in messages.

    It is the one that `@workflow` gives the class, or else the nearest contract that it derives
    from, or else that of the class.
    """
    contracts = (workflow_options(base).name for base in cls.__mro__ if not is_workflow(base))
    return workflow_options(cls).name or next(filter(None, contracts), None) or cls.__name__


@remember
def spec_of(cls: type[Workflow]) -> WorkflowSpec:
    """Read a workflow class. Raises `RegistrationError` if it cannot run as it is written."""
    if not is_workflow(cls) or cls is Workflow:
        raise UsageError(f"A workflow is a subclass of Workflow, got {cls!r}{_suggest(cls)}")
    options = workflow_options(cls)
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base not in Workflow.__mro__:
            members |= vars(base)
    public = {name: member for name, member in members.items() if not name.startswith("_")}
    methods = {
        name: _read_method(cls, name, member) for name, member in public.items() if inspect.iscoroutinefunction(member)
    }
    for name, member in members.items():
        if isinstance(member, ServiceStub):
            _ = member.contract
        elif isinstance(member, NewWorkflow):
            workflow_contract_of(member.contract_class)
        elif isinstance(member, Channel):
            _check_channel(cls, name, member)
        elif name in public and inspect.isasyncgenfunction(member):
            raise RegistrationError(f"{cls.__qualname__}.{name} is an asynchronous generator: it cannot be started")
    queries = read_queries(cls, members)
    if not methods:
        raise RegistrationError(f"The workflow {cls.__qualname__} has no public `async def` method: nothing to start")
    called = {name: spec.name for name, spec in methods.items()} | {name: spec.name for name, spec in queries.items()}
    check_names(cls, workflow_name(cls), "workflow", called)
    by_name: dict[str, MethodSpec] = {}
    for spec in methods.values():
        if spec.name in by_name:
            raise RegistrationError(f"The workflow {cls.__qualname__} has two methods named '{spec.name}'")
        by_name[spec.name] = spec
    return WorkflowSpec(
        cls,
        None,
        workflow_name(cls),
        options.version,
        options.retention,
        options.replay_check,
        by_name,
        methods,
        {name: member for name, member in members.items() if isinstance(member, Channel)},
        tuple((name, value) for name, value in members.items() if not name.startswith("__") and _is_mutable(value)),
        queries={spec.name: spec for spec in queries.values()},
    )


def _suggest(given: object) -> str:
    """What somebody may have meant who gave this for the class of a workflow."""
    if given is Workflow:
        return ": derive your own class from it"
    if is_workflow(type(given)):
        return f": give the class {type(given).__qualname__}, not an instance"
    if isinstance(given, type) and public_functions(given):
        return (
            f". If it is a service: add_service({given.__qualname__}) hosts it, and a workflow calls it by a stub in"
            f" its class body, Workflow.new_service({given.__qualname__})"
        )
    return ""


def _check_channel(cls: type[Workflow], name: str, channel: Any) -> None:
    try:
        check_name("The name of a channel", name)
        value_codec(channel.hint())
    except UsageError as error:
        raise RegistrationError(f"{cls.__qualname__}.{name}: {error}") from error


def _is_mutable(value: object) -> bool:
    """True for a default that instances would share.

    That is one that has no hash by value, and that can be copied.
    """
    if isinstance(value, Channel) or hasattr(type(value), "__get__"):
        return False
    by_identity = type(value).__hash__ is object.__hash__
    try:
        if not by_identity:
            hash(value)
            return False
    except TypeError:
        pass
    try:
        return copy.deepcopy(value) is not value
    except Exception:  # noqa: BLE001 (it is what it is: a lock of a thread, a connection)
        return False


def _read_method(cls: type[Workflow], attribute: str, function: Any) -> MethodSpec:
    if read_batch_options(function) is not None:
        raise RegistrationError(f"{cls.__qualname__}.{attribute}: @batch is for services, and this is a workflow")
    options = getattr(function, METHOD_OPTIONS, None)
    if not isinstance(options, MethodOptions):
        options = MethodOptions()
    return MethodSpec(
        attribute, options.name or attribute, signature_of(cls, attribute, function), options.total_timeout
    )


def make_object(spec: WorkflowSpec, attributes: Mapping[str, object]) -> Workflow:
    """Make an object of a workflow class.

    It has the attributes and its own defaults before its constructor runs. Where a factory makes
    the object, they come after the constructor.

    Args:
        spec: what was read of the class.
        attributes: what the object must have: its instance and its channels.
    """
    if spec.factory is not None:
        made = spec.factory()
        fields = vars(made)
        fields.update({name: copy.deepcopy(value) for name, value in spec.mutable if name not in fields})
        fields.update(attributes)
        return made
    created = spec.cls.__new__(spec.cls)
    fields = vars(created)
    fields.update(attributes)
    for name, value in spec.mutable:
        fields[name] = copy.deepcopy(value)
    created.__init__()  # type: ignore[misc]  # a constructor in the ordinary way would come before the instance
    return created
