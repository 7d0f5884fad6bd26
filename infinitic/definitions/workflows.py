"""What workflow authors use: `Workflow` and its decorators."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from logging import Logger, LoggerAdapter
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast, overload
from uuid import UUID
from weakref import WeakKeyDictionary

from infinitic.clock import to_datetime, to_instant, to_seconds
from infinitic.definitions.channels import Channel, Receiver
from infinitic.definitions.combination import all_of, any_of
from infinitic.definitions.deferred import Deferred, DeferredStatus
from infinitic.definitions.home import Home, WorkflowContext
from infinitic.definitions.stubs import INSTANCE, ServiceStub
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.limits import MAX_VERSION

__all__ = [
    "Channel",
    "Deferred",
    "DeferredStatus",
    "Receiver",
    "Workflow",
    "WorkflowContext",
    "all_of",
    "any_of",
    "method",
    "workflow",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C", bound="type[Workflow]")
F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_OPTIONS = "__infinitic_workflow__"
METHOD_OPTIONS = "__infinitic_method__"
DEFAULT_RETENTION = 86_400.0


class ReplayCheck(StrEnum):
    """How much of a command is compared with the history.

    none: its position. simple: its kind and name too. strict: its arguments and times too.
    """

    NONE = "none"
    SIMPLE = "simple"
    STRICT = "strict"


@dataclass(frozen=True)
class WorkflowOptions:
    """What `@workflow` says. `retention` is in seconds."""

    name: str | None = None
    version: int = 0
    retention: float = DEFAULT_RETENTION
    replay_check: ReplayCheck = ReplayCheck.SIMPLE


@dataclass(frozen=True)
class MethodOptions:
    """What `@method` says. `total_timeout` is in seconds."""

    name: str | None = None
    total_timeout: float | None = None


@overload
def workflow(cls: C, /) -> C: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: int = 0,
    retention: float | timedelta = DEFAULT_RETENTION,
    replay_check: str = "simple",
) -> Callable[[C], C]: ...
def workflow(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 0,
    retention: float | timedelta = DEFAULT_RETENTION,
    replay_check: str = "simple",
) -> C | Callable[[C], C]:
    """Name a workflow class, and say how it is kept and checked.

    Args:
        name: the name in messages; that of the class by default. Versions of one workflow share it.
        version: new instances take the highest version that their worker has, and keep it.
        retention: seconds for which the result and the history of a closed instance are kept; a day
            by default.
        replay_check: what replay compares with the history: "none", "simple" (kind and name) or
            "strict" (arguments too).
    """
    if name is not None:
        check_name("The name in @workflow", name)
    _check_version(version)
    seconds = to_seconds(retention)
    if seconds < 0:
        raise UsageError(f"@workflow(retention={retention!r}) is negative")
    try:
        check = ReplayCheck(replay_check)
    except ValueError:
        raise UsageError(f"@workflow(replay_check={replay_check!r}): it is 'none', 'simple' or 'strict'") from None
    options = WorkflowOptions(name, version, seconds, check)

    def decorate(decorated: C) -> C:
        if not is_workflow(decorated):
            raise UsageError(f"@workflow is for subclasses of Workflow, got {decorated!r}")
        setattr(decorated, WORKFLOW_OPTIONS, options)
        return decorated

    return decorate if cls is None else decorate(cls)


def _check_version(version: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise UsageError(f"@workflow(version={version!r}): a version is a whole number from 0 to {MAX_VERSION:,}")


def is_workflow(cls: object) -> bool:
    """True for a workflow class."""
    return isinstance(cls, type) and issubclass(cls, Workflow)


@overload
def method(function: F, /) -> F: ...
@overload
def method(*, name: str | None = None, total_timeout: float | timedelta | None = None) -> Callable[[F], F]: ...
def method(
    function: F | None = None, /, *, name: str | None = None, total_timeout: float | timedelta | None = None
) -> F | Callable[[F], F]:
    """Rename a method of a workflow, or bound the time its callers wait.

    Every public `async def` can be started.

    Args:
        name: the name in messages.
        total_timeout: seconds that a caller waits for the result; the workflow runs on.
    """
    if name is not None:
        check_name("The name in @method", name)
    seconds = None if total_timeout is None else to_seconds(total_timeout)
    if seconds is not None and seconds <= 0:
        raise UsageError(f"@method(total_timeout={total_timeout!r}) must be above zero")
    options = MethodOptions(name, seconds)

    def decorate(decorated: F) -> F:
        setattr(decorated, METHOD_OPTIONS, options)
        return decorated

    return decorate if function is None else decorate(function)


_OWNERS: WeakKeyDictionary[Callable[..., Any], type[Workflow]] = WeakKeyDictionary()


def owner_of(function: Callable[..., Any]) -> type[Workflow] | None:
    """The workflow class whose body holds this function."""
    return _OWNERS.get(function)


class Workflow:
    """Base of all workflows.

    Public `async def` methods can be started; attributes are rebuilt by replay.

    The code is ordinary asyncio code: `asyncio.sleep` is a durable timer; `gather`, `TaskGroup`,
    `timeout`, `wait`, `Event`, `Queue` and `Lock` work and replay exactly. Real I/O and threads
    belong into services.
    """

    __infinitic_workflow__ = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for member in vars(cls).values():
            if isinstance(member, FunctionType):
                _OWNERS[member] = cls

    @property
    def _infinitic(self) -> Home:
        instance = vars(self).get(INSTANCE)
        if instance is None:
            raise UsageError(f"This {type(self).__name__} does not run: start a workflow through a client")
        return cast("Home", instance)

    @staticmethod
    def new_service(
        contract: Callable[..., T],
        *,
        tags: Iterable[str] = (),
        meta: Mapping[str, bytes] | None = None,
        total_timeout: float | timedelta | None = None,
    ) -> T:
        """A stub of a service, for the class body: ``flights = Workflow.new_service(Flights)``.

        Use it as a `Flights`.

        Args:
            contract: the class of the service: its contract, or the implementation itself.
            tags: given to every task of this stub.
            meta: given to every task of this stub.
            total_timeout: seconds to wait for each task, with its retries; `TaskTimedOutError` is
                raised then.
        """
        return cast(T, ServiceStub(contract, tags, meta, total_timeout))

    @overload
    def dispatch(self, method: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[R]: ...
    @overload
    def dispatch(self, method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[R]: ...
    def dispatch(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Run a task in parallel: ``hotel = self.dispatch(self.hotels.book, request)``.

        Await the deferred later.
        """
        deferred: Deferred[Any] = self._infinitic.dispatch(method, args, kwargs)
        return deferred

    def timer(self, when: float | timedelta | datetime) -> Deferred[datetime]:
        """A durable timer: its value is the instant at which it was due.

        Args:
            when: a duration (seconds or timedelta), or an aware datetime; one that is past
                completes at once.
        """
        instance = self._infinitic
        due = to_instant(when) if isinstance(when, datetime) else instance.loop.now + to_seconds(when)
        deferred: Deferred[datetime] = instance.timer(due)
        return deferred

    def inline(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function once and remember its result: replay does not call it again.

        For a little randomness or a look at the environment; real work belongs into a task. The
        result follows the return hint of the function. If it raises, `TaskFailedError` (of the
        service "inline") is raised here.
        """
        return cast(R, self._infinitic.inline(function, args, kwargs))

    def now(self) -> datetime:
        """The time of this activation, aware UTC: the same in every replay. It never goes back."""
        return to_datetime(self._infinitic.loop.now)

    @property
    def random(self) -> random.Random:
        """A generator of random numbers that are the same in every replay."""
        return self._infinitic.random

    def uuid4(self) -> UUID:
        """A random UUID that is the same in every replay."""
        return UUID(int=self._infinitic.random.getrandbits(128), version=4)

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes of this workflow holds.

        It is looked at whenever the code pauses.
        """
        await self._infinitic.wait_until(predicate)

    @property
    def context(self) -> WorkflowContext:
        """What this workflow may know about itself, and which of its methods runs."""
        return self._infinitic.context

    @property
    def logger(self) -> LoggerAdapter[Logger]:
        """A logger named like the class, silent during replay."""
        return self._infinitic.logger
