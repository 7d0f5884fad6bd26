"""Names and signatures of services.

They are what a caller needs of a contract, and a worker of an implementation.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast, get_type_hints

from infinitic.codec.signatures import Signature
from infinitic.definitions.batch_methods import BatchMethod, find_batches, read_batch
from infinitic.definitions.kinds import check_class, is_workflow
from infinitic.definitions.local_tasks import check_local
from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.services import OPTIONS, TaskOptions
from infinitic.errors import RegistrationError, UsageError
from infinitic.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])

_NONE = TaskOptions()


def remember(read: F) -> F:
    """Remember what was read of the latest 1024 classes.

    As `lru_cache`, which hides the types of its arguments from type checkers.
    """
    return cast(F, lru_cache(1024)(read))


@dataclass(frozen=True, slots=True, eq=False)
class TaskSpec:
    """One task of a contract, for its callers. `total_timeout` is in seconds."""

    attribute: str
    name: str
    signature: Signature
    total_timeout: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ServiceContract:
    """A service as its callers see it. `tasks` by the name of the attribute."""

    name: str
    cls: type[Any]
    tasks: dict[str, TaskSpec]


@dataclass(frozen=True, slots=True, eq=False)
class TaskImplementation:
    """One task of an implementation, for its executor. Timeouts are in seconds.

    With a `batch`, that runs in place of `function`. `delegated` says that somebody outside ends
    it, once its function has returned. `local` says that the state engine of the same worker runs
    it inside its step.
    """

    name: str
    function: Callable[..., Any]
    signature: Signature
    retry: RetryPolicy | None
    attempt_timeout: float | None
    batch: BatchMethod | None = None
    delegated: bool = False
    heartbeat_timeout: float | None = None
    local: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ServiceImplementation:
    """A service as its executor sees it. `tasks` by their name in messages."""

    name: str
    tasks: dict[str, TaskImplementation]


def _own_options(cls: type[Any]) -> TaskOptions | None:
    options = vars(cls).get(OPTIONS)
    return options if isinstance(options, TaskOptions) else None


def _list_bases(cls: type[Any]) -> list[type[Any]]:
    return [base for base in cls.__mro__ if base.__module__ not in ("builtins", "abc", "typing") and base is not object]


def service_name(cls: type[Any]) -> str:
    """Find the name of a service.

    It is the nearest one that is given, else that of the contract it implements, else its own. A
    contract is a base that is decorated with `@service`, or describes tasks without implementing
    them.

    Raises:
        RegistrationError: two unrelated contracts are candidates.
    """
    bases = _list_bases(cls)
    given = next((options.name for base in bases if (options := _own_options(base)) and options.name), None)
    contracts = [base for base in bases if _own_options(base) or (base is not cls and _is_contract(base))]
    roots = [base for base in contracts if not any(base is not other and other in base.__mro__ for other in contracts)]
    own = _own_options(cls)
    if len(roots) > 1 and not (own and own.name):
        names = " or ".join(sorted(base.__name__ for base in roots))
        raise RegistrationError(f"{cls.__qualname__} could be the service {names}: decorate it with @service(name=…)")
    return given or (roots[0].__name__ if roots else cls.__name__)


def _is_contract(cls: type[Any]) -> bool:
    """True for a class that describes a service without being one.

    That is an abstract one, a Protocol, or one with bodies of `...`.
    """
    if cls is Protocol:
        return False
    return (
        inspect.isabstract(cls)
        or bool(getattr(cls, "_is_protocol", False))
        or any(is_unimplemented(function) for name, function in vars(cls).items() if not name.startswith("_"))
    )


_TRIVIAL = {"RESUME", "RETURN_GENERATOR", "POP_TOP", "RETURN_VALUE", "NOP", "CALL_INTRINSIC_1", "RERAISE"}


def is_unimplemented(function: object) -> bool:
    """True for an abstract function, and for a body of just `...`, `pass` or a docstring."""
    target = getattr(function, "__func__", function)
    if getattr(target, "__isabstractmethod__", False):
        return True
    code = getattr(target, "__code__", None)
    if code is None:
        return False
    return all(
        step.argval is None if step.opname in ("LOAD_CONST", "RETURN_CONST") else step.opname in _TRIVIAL
        for step in dis.get_instructions(code)
    )


def public_functions(cls: type[Any]) -> dict[str, Any]:
    """The public functions of a class and its bases, by name.

    They are given as they stand in the class; static and class methods too.
    """
    found: dict[str, Any] = {}
    for base in reversed(_list_bases(cls)):
        for name, value in vars(base).items():
            if name.startswith("_") or isinstance(value, type):
                continue
            if isinstance(value, staticmethod | classmethod) or callable(value):
                found[name] = value
    return found


def list_tasks(cls: type[Any]) -> dict[str, Any]:
    """The functions of a class and its bases that are tasks, by name: all public ones but batches.

    Raises:
        RegistrationError: two methods are the batch of one task.
    """
    batches = {each.attribute for each in find_batches(cls).values()}
    return {name: function for name, function in public_functions(cls).items() if name not in batches}


def _options_of(function: object) -> TaskOptions:
    target = getattr(function, "__func__", function)
    options = getattr(target, OPTIONS, None)
    return options if isinstance(options, TaskOptions) else _NONE


def _collect_options(cls: type[Any], attribute: str) -> list[TaskOptions]:
    """The options of a method and then of its classes, nearest first."""
    bases = _list_bases(cls)
    of_methods = [_options_of(vars(base)[attribute]) for base in bases if attribute in vars(base)]
    return of_methods + [options for base in bases if (options := _own_options(base)) is not None]


def _find_first(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _task_name(cls: type[Any], attribute: str) -> str:
    names = [_options_of(vars(base)[attribute]).name for base in _list_bases(cls) if attribute in vars(base)]
    return _find_first(names) or attribute


def check_service(what: str, given: object) -> None:
    """Check that something is the class of a service.

    Args:
        what: what was given it, such as "new_service": the error begins so.
        given: what should be such a class.

    Raises:
        UsageError: it is none, with a hint what to give instead.
    """
    cls = check_class(what, "service", given)
    if is_workflow(cls):
        raise UsageError(
            f"{what} takes the class of a service, and {cls.__qualname__} is a workflow. A client starts it, with"
            f" client.new_workflow({cls.__qualname__}); so may a task, with task_context().client. A workflow has a"
            f" stub of it in its class body: Workflow.new_workflow({cls.__qualname__})"
        )


def read_service_name(what: str, given: type[Any] | str) -> str:
    """Read the name of a service from its class, or check a name.

    Args:
        what: what was given it, such as "add_service_tag_engine": an error begins so.
        given: the class, or the name.

    Raises:
        UsageError: it is no name, or no class of a service.
        RegistrationError: it is a class that could be two services.
    """
    if isinstance(given, str):
        return check_name("The name of a service", given)
    check_service(what, given)
    return service_name(given)


@remember
def contract_of(cls: type[Any]) -> ServiceContract:
    """Read the contract that a class describes.

    Raises:
        UsageError: it is not the class of a service.
        RegistrationError: its type hints or names cannot be used, or it has no public method.
    """
    check_service("new_service", cls)
    tasks: dict[str, TaskSpec] = {}
    for attribute, function in list_tasks(cls).items():
        total = _find_first([options.total_timeout for options in _collect_options(cls, attribute)])
        signature = signature_of(cls, attribute, function)
        tasks[attribute] = TaskSpec(attribute, _task_name(cls, attribute), signature, total)
    if not tasks:
        raise RegistrationError(f"{cls.__qualname__} has no public method: it describes no service")
    name = service_name(cls)
    check_names(cls, name, "service", {attribute: task.name for attribute, task in tasks.items()})
    return ServiceContract(name, cls, tasks)


def check_names(cls: type[Any], name: str, kind: str, functions: Mapping[str, str]) -> None:
    """Raise `RegistrationError` for names that messages do not carry.

    The names are those of classes and functions.

    Args:
        cls: the class.
        name: what messages call it.
        kind: "service" or "workflow".
        functions: what messages call its functions, by attribute.
    """
    part = "task" if kind == "service" else "method"
    try:
        check_name(f"The name of a {kind}", name)
    except UsageError as error:
        raise RegistrationError(f"{cls.__qualname__[:80]}: {error}: give it a shorter one, @{kind}(name=…)") from error
    for attribute, function in functions.items():
        try:
            check_name(f"The name of a {part}", function)
        except UsageError as error:
            where = f"{cls.__qualname__[:80]}.{attribute[:80]}"
            raise RegistrationError(f"{where}: {error}: give it a shorter one, @{part}(name=…)") from error


def signature_of(cls: type[Any], attribute: str, function: Any) -> Signature:
    """Read the signature of a method as it is called, without `self`.

    Args:
        cls: the class.
        attribute: the name of the method in it.
        function: the method as it stands in the class, perhaps a static or class method.

    Raises:
        RegistrationError: a type hint cannot be resolved or sent.
    """
    static = isinstance(function, staticmethod)
    target = getattr(function, "__func__", function)
    try:
        return Signature.of(target, skip_first=not static)
    except UsageError as error:
        raise RegistrationError(f"{cls.__qualname__}.{attribute}: {error}") from error


def implementation_of(
    instance: object,
    *,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | None = None,
    local: bool | None = None,
) -> ServiceImplementation:
    """Read an instance of a service, for its executor.

    What is given here wins over `@task`, which wins over `@service`.

    Args:
        instance: the object whose public methods are the tasks.
        retry: the retry policy of all tasks; None to leave it to the decorators.
        attempt_timeout: seconds that one attempt may take; None to leave it to the decorators.
        local: whether all tasks are local; None to leave it to the decorators.

    Raises:
        UsageError: it is no service.
        RegistrationError: a method is not implemented, or two have one name.
    """
    cls = type(instance)
    if is_workflow(cls):  # made by a factory, or given as an object
        raise UsageError(f"{cls.__qualname__} is a workflow, not a service: add_workflow({cls.__qualname__}) hosts it")
    if cls.__module__ == "builtins":
        raise UsageError(f"A service is an instance of a class of yours, its class or a factory, got {instance!r}")
    functions: dict[str, Callable[..., Any]] = {}
    batches = _read_batches(cls, instance)
    for attribute, function in list_tasks(cls).items():
        inherited = attribute not in vars(cls) or getattr(function, "__isabstractmethod__", False)
        if inherited and is_unimplemented(function) and _task_name(cls, attribute) not in batches:
            raise RegistrationError(f"{cls.__qualname__}.{attribute} is declared but not implemented")
        functions[attribute] = getattr(instance, attribute)
    return implementation_with(
        cls, functions, retry=retry, attempt_timeout=attempt_timeout, batches=batches, local=local
    )


def _read_batches(cls: type[Any], instance: object) -> dict[str, BatchMethod]:
    """Read the batch methods of a service, by the name of their task.

    Raises:
        RegistrationError: one of them does not fit its task, or there is no such task.
    """
    batches: dict[str, BatchMethod] = {}
    tasks = {_task_name(cls, attribute): attribute for attribute in list_tasks(cls)}
    for name, found in find_batches(cls).items():
        where = f"{cls.__qualname__}.{found.attribute}"
        if name not in tasks:
            renamed = next((other for other, attribute in tasks.items() if attribute == name), None)
            hint = (
                f'it is called "{renamed}" in messages' if renamed else f"it has {', '.join(sorted(tasks)) or 'none'}"
            )
            raise RegistrationError(f'{where}: @batch("{name}") names no task of this service: {hint}')
        options = _options_of(found.function)
        if options.name is not None or options.total_timeout is not None:
            raise RegistrationError(
                f"{where}: the name and the total_timeout of a task belong to its own method, not to its batch"
            )
        if is_unimplemented(found.function):
            raise RegistrationError(f"{where} is declared but not implemented")
        attribute = tasks[name]
        function = public_functions(cls)[attribute]
        signature_of(cls, attribute, function)
        batches[name] = read_batch(cls, instance, found, attribute, function)
    return batches


def implementation_with(
    cls: type[Any],
    functions: Mapping[str, Callable[..., Any]],
    *,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | None = None,
    batches: Mapping[str, BatchMethod] = MappingProxyType({}),
    local: bool | None = None,
) -> ServiceImplementation:
    """Make the service that a class describes of functions, for its executor.

    Args:
        cls: the class.
        functions: what to call, by the names of its public methods.
        retry: the retry policy of all tasks; None to leave it to the decorators.
        attempt_timeout: seconds that one attempt may take; None to leave it to the decorators.
        local: whether all tasks are local; None to leave it to the decorators.
        batches: the batch methods, by the name of their task. What `@task` says of them wins over
            what it says of the task's own method.

    Raises:
        RegistrationError: the class has no public method, two tasks have one name, or a task cannot
            be local.
    """
    tasks: dict[str, TaskImplementation] = {}
    for attribute, function in list_tasks(cls).items():
        name = _task_name(cls, attribute)
        if name in tasks:
            raise RegistrationError(f"{cls.__qualname__} has two tasks named '{name}'")
        options = _collect_options(cls, attribute)
        batch = batches.get(name)
        if batch is not None:
            options = [_options_of(batch.function), *options]
        delegated = bool(_find_first([each.delegated for each in options]))
        if batch is not None and delegated:
            raise RegistrationError(
                f"{cls.__qualname__}.{attribute} is delegated, and has a batch: "
                "a batch returns the results of its tasks"
            )
        heartbeat_timeout: float | None = _find_first([each.heartbeat_timeout for each in options])
        if batch is not None and heartbeat_timeout is not None:
            raise RegistrationError(
                f"{cls.__qualname__}.{attribute} has a heartbeat_timeout, and a batch: many tasks run in one call, "
                "and have no heartbeats of their own"
            )
        is_local = bool(_find_first([local, *(each.local for each in options)]))
        if is_local:
            total: float | None = _find_first([each.total_timeout for each in options])
            check_local(f"{cls.__qualname__}.{attribute}", total, batch, heartbeat_timeout, delegated=delegated)
        tasks[name] = TaskImplementation(
            name,
            functions[attribute],
            signature_of(cls, attribute, function),
            retry or _find_first([each.retry for each in options]),
            attempt_timeout or _find_first([each.attempt_timeout for each in options]),
            batch,
            delegated,
            heartbeat_timeout,
            is_local,
        )
    if not tasks:
        raise RegistrationError(f"{cls.__qualname__} has no public method: there is no task in it")
    called = service_name(cls)
    check_names(cls, called, "service", {name: name for name in tasks})
    return ServiceImplementation(called, tasks)


def result_hint(function: Callable[..., Any]) -> object:
    """The return hint of any callable; `Any` where there is none or it cannot be resolved."""
    try:
        return get_type_hints(function, include_extras=True).get("return", Any)
    except (TypeError, NameError):
        return Any
