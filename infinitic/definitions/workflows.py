"""What workflow authors use: `Workflow` and its decorators."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from logging import Logger, LoggerAdapter
from types import FunctionType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast, overload
from uuid import UUID
from weakref import WeakKeyDictionary

from infinitic.clock import add_seconds, to_datetime, to_instant, to_seconds
from infinitic.definitions.channels import Channel, Receiver
from infinitic.definitions.combination import all_of, any_of
from infinitic.definitions.deferred import Deferred, DeferredStatus
from infinitic.definitions.home import WorkflowContext
from infinitic.definitions.kinds import is_contract
from infinitic.definitions.other_workflows import OtherWorkflows
from infinitic.definitions.stubs import ServiceStub
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
C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_OPTIONS = "__infinitic_workflow_options__"
METHOD_OPTIONS = "__infinitic_method__"
DEFAULT_RETENTION = 86_400.0


class ReplayCheck(StrEnum):
    """How much of a command is compared with the history.

    none: its position. simple: its kind and name, too. strict: its arguments and times, too.
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
    """Name a workflow class, and say how its instances are kept and checked.

    The decorator is optional: a class without it has its own name, version 0 and the other
    defaults::

        @workflow(name="trip", version=2, retention=timedelta(days=7))
        class Trip(Workflow):
            async def book(self, request: Request) -> str: ...

    Args:
        name: the name in messages; by default that of the class. The versions of one workflow share
            it.
        version: the version of this class. New instances take the highest version that their worker
            has, and keep it to their end.
        retention: seconds (or a timedelta) for which the result and the history of a closed
            instance are kept; a day by default.
        replay_check: what replay compares with the history: "none" (positions), "simple" (kinds and
            names, too) or "strict" (arguments and times, too).

    Raises:
        UsageError: a value makes no sense, or the class is no subclass of `Workflow` and no ABC or
            Protocol. Such a contract gets a name only: callers of the workflow know it by that.
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
            _check_contract(decorated)
        setattr(decorated, WORKFLOW_OPTIONS, options)
        return decorated

    return decorate if cls is None else decorate(cls)


def _check_contract(decorated: object) -> None:
    """Check that this describes a workflow without being one: an ABC or a Protocol."""
    if not isinstance(decorated, type) or not is_contract(decorated):
        raise UsageError(
            f"@workflow is for subclasses of Workflow, and for an ABC or Protocol that describes one, got {decorated!r}"
        )


def _check_version(version: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise UsageError(f"@workflow(version={version!r}): a version is a whole number from 0 to {MAX_VERSION:,}")


def is_workflow(cls: object) -> bool:
    """Tell whether something is a workflow class."""
    return isinstance(cls, type) and issubclass(cls, Workflow)


@overload
def method(function: F, /) -> F: ...
@overload
def method(*, name: str | None = None, total_timeout: float | timedelta | None = None) -> Callable[[F], F]: ...
def method(
    function: F | None = None, /, *, name: str | None = None, total_timeout: float | timedelta | None = None
) -> F | Callable[[F], F]:
    """Rename a method of a workflow, or limit how long its callers wait.

    The decorator is optional: every public `async def` method of a workflow can be started.

    Args:
        name: the name in messages; by default that of the method. Keep it when you rename the
            method.
        total_timeout: seconds (or a timedelta) that a caller waits for the result. The caller gets
            `WorkflowTimedOutError` then; the workflow is not told, and runs on.

    Raises:
        UsageError: the name cannot be used, or the timeout is not above zero.
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
    """Return the workflow class whose body holds a function; None if there is none."""
    return _OWNERS.get(function)


class Workflow(OtherWorkflows):
    """Base class of all workflows.

    Public `async def` methods can be started by a client. The code is ordinary asyncio code:
    `asyncio.sleep` is a durable timer; `gather`, `TaskGroup`, `timeout`, `wait`, `Event`, `Queue`
    and `Lock` work, and replay exactly::

        class Trip(Workflow):
            flights = Workflow.new_service(Flights)
            approvals = Channel[bool]()

            async def book(self, request: Request) -> str:
                booking = await self.flights.book(request)
                if not await self.approvals.receive():
                    await self.flights.cancel(booking)
                return booking

    Attributes are not stored: after a crash the code runs again with the results that history
    holds, and so makes them anew. That is why it must do the same each time. Do not use the clock,
    random numbers, files, sockets or threads: use `now`, `random`, `uuid4` and `inline`, and put
    everything else into tasks of services.
    """

    __infinitic_workflow__ = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for member in vars(cls).values():
            if isinstance(member, FunctionType):
                _OWNERS[member] = cls

    @staticmethod
    def new_service(
        contract: Callable[..., T],
        *,
        tags: Iterable[str] = (),
        meta: Mapping[str, bytes] | None = None,
        total_timeout: float | timedelta | None = None,
    ) -> T:
        """Make a stub of a service, for the class body.

        ``flights = Workflow.new_service(Flights)``.

        The code of the workflow uses the stub as if it were a `Flights`. A call runs as a task, in
        whatever worker hosts the service::

            booking = await self.flights.book(request)

        Args:
            contract: the class of the service: its contract, or the implementation itself.
            tags: texts that every task of this stub carries.
            meta: named bytes that every task of this stub carries.
            total_timeout: seconds (or a timedelta) to wait for each task, with all its retries.
                `TaskTimedOutError` is raised then.

        Raises:
            UsageError: what was given is not the class of a service, or cannot be sent.
        """
        return cast(T, ServiceStub(contract, tags, meta, total_timeout))

    @overload
    def dispatch(self, method: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[R]: ...
    @overload
    def dispatch(self, method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[R]: ...
    def dispatch(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Run a task, a child or a call in parallel, and return a `Deferred` of its result.

        ``await self.hotels.book(request)`` waits at once; this starts the task now, to wait later::

            hotel = self.dispatch(self.hotels.book, request)
            flight = await self.flights.book(request)
            return flight, await hotel

        Args:
            method: a method of a stub of this workflow.
            args: its positional arguments.
            kwargs: its other arguments.

        Raises:
            UsageError: `method` is something else, or cannot be called so.
            PayloadError: an argument does not fit its type hint.
            PayloadTooLargeError: the arguments are too large to be sent.
        """
        deferred: Deferred[Any] = self._infinitic.dispatch(method, args, kwargs)
        return deferred

    def timer(self, when: float | timedelta | datetime) -> Deferred[datetime]:
        """Start a durable timer. Its value is the instant at which it was due.

        Unlike `asyncio.sleep` it can be combined: ``await (self.approvals.receive() |
        self.timer(3600))``.

        Args:
            when: a duration (seconds or a timedelta), or an aware datetime. One in the past
                completes at once.

        Raises:
            UsageError: the datetime is naive, or the timer is due after the year 9999.
        """
        instance = self._infinitic
        due = to_instant(when) if isinstance(when, datetime) else add_seconds(instance.loop.now, to_seconds(when))
        deferred: Deferred[datetime] = instance.timer(due)
        return deferred

    def inline(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function once and remember its result: replay does not call it again.

        Use it for a little randomness or a look at the environment: ``self.inline(os.getpid)``.
        Real work belongs into a task: while the function runs, all workflows of this worker wait,
        and after a crash it may be called a second time.

        Args:
            function: a plain function; it must not use the workflow.
            args: its positional arguments.
            kwargs: its other arguments.

        Returns:
            What the function returned, as its return hint reads it from JSON.

        Raises:
            TaskFailedError: the function raised; the service of the error is "inline".
            UsageError: it is a coroutine function, or it used the workflow.
            PayloadError: its result does not fit its return hint, or is too large.
        """
        return cast(R, self._infinitic.inline(function, args, kwargs))

    def now(self) -> datetime:
        """Return the time of this activation, as an aware UTC datetime: the same in every replay.

        It stands still while the code runs, and never goes back. Use it in place of `datetime.now`.
        """
        return to_datetime(self._infinitic.loop.now)

    @property
    def random(self) -> random.Random:
        """A generator of random numbers that are the same in every replay.

        It depends on the id of the instance only. Do not use it for secrets.
        """
        return self._infinitic.random

    def uuid4(self) -> UUID:
        """Return a random UUID that is the same in every replay."""
        return UUID(int=self._infinitic.random.getrandbits(128), version=4)

    def continue_as_new(
        self, method: Callable[P, Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> NoReturn:
        """End this run, and go on with a new one that has no history.

        Use it where a workflow would go on for ever: its history would grow for ever, too::

            async def run(self, day: int) -> None:
                await self.reports.send(day)
                await asyncio.sleep(86_400)
                self.continue_as_new(self.run, day + 1)

        The new run is the same instance: it has the same id, tags and waiting clients, and gets the
        signals that nobody has taken. Attributes are new: give what the next run needs as
        arguments. It takes the newest version of the code.

        It begins when all other methods have returned, and all tasks have ended. Methods that are
        called meanwhile begin in the new run. If the workflow is cancelled before that, there is
        none. Timers and background tasks of asyncio end with this run.

        Args:
            method: a method of this workflow, not called.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UsageError: other code than that of the first method asks, or it gives something else
                than a method of this workflow.
            PayloadError: an argument does not fit its type hint, or is too large.
        """
        self._infinitic.continue_as_new(method, args, kwargs)

    def patched(self, change_id: str) -> bool:
        """Tell whether this instance has a change of its code.

        Use it for a change that is too small for a new version. Instances that were there before
        the change go on as before, all others take it::

            if self.patched("confirm-by-mail"):
                await self.mailer.confirm(booking)

        An instance takes a change if its code asks for it for the first time. One that replays its
        history there, because an older code was there before, never takes it. When no old instance
        runs any more, remove the condition: the record in the history does no harm.

        Args:
            change_id: names the change in this workflow, for ever. Do not use an id again.

        Raises:
            UsageError: the id is empty, too long, or not text.
        """
        return self._infinitic.patched(change_id)

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes of this workflow holds.

        It is checked whenever the code pauses, so something else must change the attributes:
        another method of this workflow, or a task of asyncio::

            await self.wait_until(lambda: len(self.votes) >= 3)

        Args:
            predicate: returns whether to go on. It must not change anything. What it raises is
                raised here.
        """
        await self._infinitic.wait_until(predicate)

    @property
    def context(self) -> WorkflowContext:
        """What this workflow may know about itself.

        Its id, name and version, and which method runs.
        """
        return self._infinitic.context

    @property
    def logger(self) -> LoggerAdapter[Logger]:
        """A logger named like the class.

        It is silent during replay, so each line is logged once.
        """
        return self._infinitic.logger
