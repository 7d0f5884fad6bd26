"""What workflow code waits for: `Deferred`, and its combinations `|`, `&`, `any_of`, `all_of`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import Context
from enum import StrEnum
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast, overload

from infinitic.errors import (
    DeferredError,
    TaskCanceledError,
    TaskTimedOutError,
    UsageError,
    WorkflowCanceledError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)

if TYPE_CHECKING:
    from infinitic.replay.channels import Receiver

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")

_BY_USER = object()
_WAIT_FOR: CodeType = vars(asyncio.tasks)["_cancel_and_wait"].__code__


class DeferredStatus(StrEnum):
    """What has become of a `Deferred`."""

    ONGOING = "ongoing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"


_STATUS: tuple[tuple[type[BaseException], DeferredStatus], ...] = (
    (TaskTimedOutError, DeferredStatus.TIMED_OUT),
    (WorkflowTimedOutError, DeferredStatus.TIMED_OUT),
    (TaskCanceledError, DeferredStatus.CANCELED),
    (WorkflowCanceledError, DeferredStatus.CANCELED),
    (asyncio.CancelledError, DeferredStatus.CANCELED),
    (WorkflowUnknownError, DeferredStatus.UNKNOWN),
)


def status_of(future: asyncio.Future[Any]) -> DeferredStatus:
    """The status of any future of the loop."""
    if not future.done():
        return DeferredStatus.ONGOING
    if future.cancelled():
        return DeferredStatus.CANCELED
    error = future.exception()
    if error is None:
        return DeferredStatus.COMPLETED
    return next((status for cls, status in _STATUS if isinstance(error, cls)), DeferredStatus.FAILED)


class Home(Protocol):
    """What a deferred needs of its instance."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def next_number(self) -> int: ...
    def cancel_position(self, position: int) -> None: ...


class Waitable(Generic[T_co]):
    """A `Deferred` or a `Receiver`: what can be awaited and combined, and asked what has become of it."""

    __slots__ = ()

    home: Home

    def status(self) -> DeferredStatus:
        """What has become of it. The same in every replay."""
        raise NotImplementedError

    def is_ongoing(self) -> bool:
        """True if nothing has become of it yet."""
        return self.status() is DeferredStatus.ONGOING

    def is_completed(self) -> bool:
        """True if it has a value."""
        return self.status() is DeferredStatus.COMPLETED

    def is_failed(self) -> bool:
        """True if it failed."""
        return self.status() is DeferredStatus.FAILED

    def is_canceled(self) -> bool:
        """True if it was cancelled."""
        return self.status() is DeferredStatus.CANCELED

    def is_timed_out(self) -> bool:
        """True if its total timeout is over."""
        return self.status() is DeferredStatus.TIMED_OUT

    def is_unknown(self) -> bool:
        """True if the workflow that it is of is unknown."""
        return self.status() is DeferredStatus.UNKNOWN


class Deferred(asyncio.Future[T], Waitable[T]):
    """The value of a task or timer, once it is there: a future of the workflow's own loop.

    Await it as often as you like. Awaiting raises a `DeferredError` if it did not complete. Cancelling an await of it
    cancels what stands behind it, as in asyncio; `asyncio.shield` keeps it.
    """

    _position: int
    _number: int
    watchers: dict[Combination, int] | None = None

    def __init__(self, home: Home, position: int) -> None:
        super().__init__(loop=home.loop)
        self.home = home
        self._position = position
        self._number = home.next_number()

    def __hash__(self) -> int:
        return self._number

    def status(self) -> DeferredStatus:
        return status_of(self)

    def set_result(self, result: T, /) -> None:
        """Settle with a value."""
        super().set_result(result)
        if self.watchers is not None:
            tell(self)

    def fail(self, error: BaseException) -> None:
        """Settle with an error. Unlike a plain future's, one that nobody awaits is not logged: fire and forget."""
        self.set_exception(error)
        self._log_traceback = False
        if self.watchers is not None:
            tell(self)

    def cancel(self, msg: object = _BY_USER) -> bool:
        """Cancel what stands behind it. Awaiting it raises `TaskCanceledError` from then on.

        Returns False if it was settled already.
        """
        if self.done():
            return False
        by_user = msg is _BY_USER and not _called_by_wait_for()
        self.home.cancel_position(self._position)
        self._end(by_user, None if msg is _BY_USER else msg)
        if self.watchers is not None:
            tell(self)
        return True

    def _end(self, by_user: bool, msg: object) -> None:
        """Be cancelled: as a user means it, or as asyncio does."""
        if by_user:
            self.set_exception(self._cancellation())
            self._log_traceback = False
        else:
            super().cancel(msg)

    @property
    def id(self) -> str:
        """The id of the task behind it; empty for a combination."""
        return ""

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("deferred", type(self).__name__.lower(), self.id)

    def __or__(self, other: Waitable[U]) -> Deferred[T | U]:
        """Whichever completes first."""
        return Combination(self.home, (self, other), every=False)

    def __and__(self, other: Waitable[U]) -> Deferred[tuple[T, U]]:
        """The values of both, as `all_of` gives them."""
        return Combination(self.home, (self, other), every=True)


def _called_by_wait_for() -> bool:
    """`asyncio.wait_for` cancels with a bare `cancel()`, and means it as asyncio does."""
    return sys._getframe(2).f_code is _WAIT_FOR  # pyright: ignore[reportPrivateUsage]  # documented


class Taking(asyncio.Future[Any]):
    """One await of a receiver. `signal` is what it has taken, until it gives that back."""

    watchers: dict[Combination, int] | None = None
    signal: Any = None


def tell(future: Deferred[Any] | Taking) -> None:
    """Tell the combinations that a future is part of that it is settled.

    At once, not by a callback: whatever happens next in this activation must find them settled, so that a receiver
    which has lost its race takes nothing.
    """
    settled: list[Deferred[Any] | Taking] = [future]
    for each in settled:
        watchers, each.watchers = each.watchers, None
        for combination, times in (watchers or {}).items():
            for _ in range(times):
                if combination.take(each):
                    settled.append(combination)


class Combination(Deferred[Any]):
    """`any_of` or `all_of` of deferreds and receivers. Its receivers take signals only while it is awaited.

    It is *wanted* by each await of it, and by each combination around it that is wanted. Nothing here is recursive: a
    thousand parts joined by `|` are nested a thousand deep.
    """

    def __init__(self, home: Home, parts: Sequence[Waitable[Any]], *, every: bool) -> None:
        super().__init__(home, -1)
        self._parts = _checked(parts, every=every)
        self._every = every
        self._missing = len(parts)
        self._wanted = 0
        self._armed = False
        self._reached = 0  # how many parts have been told that it is armed
        self._used: asyncio.Future[Any] | None = None
        self._futures: list[Deferred[Any] | Taking | None] = []
        self._receives = False
        for part in self._parts:
            self._futures.append(part if isinstance(part, Deferred) else None)
            self._receives |= part._receives if isinstance(part, Combination) else not isinstance(part, Deferred)
        if not parts:
            super().set_result([])
        for part in self._parts:
            if isinstance(part, Deferred):
                if part.done():
                    self.take(part)
                elif not self.done():
                    self._watch(part)

    def _watch(self, part: Deferred[Any] | Taking) -> None:
        if part.watchers is None:
            part.watchers = {}
        part.watchers[self] = part.watchers.get(self, 0) + 1

    def take(self, part: Deferred[Any] | Taking) -> bool:
        """A part is settled. Returns True if this is settled by it; then whoever watches this is to be told."""
        if self.done():
            return False
        self._missing -= 1
        failure = _failure_of(part)
        if failure is not None:
            if self._missing and not self._every:
                return False
            self.set_exception(failure)
            self._log_traceback = False
        elif not self._every:
            self._used = part
            super(Deferred, self).set_result(part.result())
        elif self._missing:
            return False
        else:
            self._used = self
            super(Deferred, self).set_result([each.result() for each in self._futures if each is not None])
        self._leave()
        return True

    def _leave(self) -> None:
        """This is settled: it is told no more of its parts, and its receivers take nothing any more."""
        for part in self._futures:
            if part is not None and part.watchers is not None:
                part.watchers.pop(self, None)
        self._disarm()

    def _want(self) -> None:
        """Somebody waits: let the receivers inside take signals, in the order of the parts."""
        self._wanted += 1
        if self._wanted > 1 or not self._receives or self.done():
            return
        self._armed = True
        arming: list[tuple[Combination, Iterator[tuple[int, Any]]]] = [(self, enumerate(self._parts))]
        while arming:
            combination, parts = arming[-1]
            index, part = next(parts, (-1, None))
            if part is None or not combination._armed:
                arming.pop()
                continue
            combination._reached = index + 1
            if isinstance(part, Combination):
                part._wanted += 1
                if part._wanted == 1 and part._receives and not part.done():
                    part._armed = True
                    arming.append((part, enumerate(part._parts)))
            elif not isinstance(part, Deferred):
                taking = combination._futures[index] = part.begin()
                combination._watch(taking)
                if taking.done():
                    tell(taking)

    def _unwant(self) -> None:
        """One waits no more. If it was the last one, what the receivers inside have taken goes back."""
        self._wanted -= 1
        if self._wanted <= 0:
            self._disarm()

    def _disarm(self) -> None:
        disarming: list[Combination] = [self]
        while disarming:
            combination = disarming.pop()
            if not combination._armed:
                continue
            combination._armed = False
            for index, part in enumerate(combination._parts[: combination._reached]):
                future = combination._futures[index]
                if isinstance(part, Combination):
                    part._wanted -= 1
                    if part._wanted <= 0:
                        disarming.append(part)
                elif isinstance(future, Taking) and combination._used not in (future, combination):
                    combination._missing += future.done()
                    combination._futures[index] = None
                    future.watchers = None
                    cast("Receiver[Any]", part).release(future)

    def cancel(self, msg: object = _BY_USER) -> bool:
        """Cancel all its parts. Awaiting it or them raises `TaskCanceledError` from then on.

        Returns False if it was settled already.
        """
        if self.done():
            return False
        by_user = msg is _BY_USER and not _called_by_wait_for()
        reason = None if msg is _BY_USER else msg
        combinations: list[Combination] = [self]
        leaves: list[Deferred[Any]] = []
        for combination in combinations:
            if not combination.done():
                combination._end(by_user, reason)
                combination._leave()
                for part in combination._parts:
                    if isinstance(part, Combination):
                        combinations.append(part)
                    elif isinstance(part, Deferred):
                        leaves.append(part)
        for leaf in leaves:
            leaf.cancel() if by_user else leaf.cancel(None)
        for combination in combinations:
            tell(combination)
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            if self._wanted <= 1 and self.done() and self._give_back():
                self.cancel(None)
            raise

    def _give_back(self) -> bool:
        """The only wait for this was cancelled in the activation that settled it: it was in vain.

        Returns False if there is no signal to give back. If there is, this is as it was before.
        """
        returned = False
        waiting: list[Combination] = [self]
        for combination in waiting:
            used = combination._used
            for index, part in enumerate(combination._parts):
                future = combination._futures[index]
                if future is None or used not in (future, combination):
                    continue
                if isinstance(future, Combination) and future._receives and future._wanted <= 0:
                    waiting.append(future)
                elif isinstance(future, Taking) and future.signal is not None:
                    returned = True
                    combination._futures[index] = None
                    cast("Receiver[Any]", part).release(future)
        for combination in waiting if returned else ():
            combination._used = None
            super(Deferred, combination).__init__(loop=combination.home.loop)  # makes it pending again
        return returned

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        super().add_done_callback(fn, context=context)
        if not self.done():
            self._want()

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        removed = super().remove_done_callback(fn)
        for _ in range(removed):
            self._unwant()
        return removed


def _failure_of(future: asyncio.Future[Any]) -> BaseException | None:
    """Why a future that is done has no value, None if it has one."""
    try:
        return future.exception()
    except asyncio.CancelledError as error:
        return error


def _checked(parts: Sequence[Waitable[Any]], *, every: bool) -> Sequence[Deferred[Any] | Receiver[Any]]:
    """The parts, if they are such. Raises `UsageError`."""
    for part in parts:
        if not isinstance(cast(object, part), Waitable):
            what = "all_of() and & take" if every else "any_of() and | take"
            raise UsageError(f"{what} deferreds and receivers, one by one, got {part!r}: use asyncio for others")
    return cast("Sequence[Deferred[Any] | Receiver[Any]]", parts)


def _home_of(parts: Sequence[Waitable[Any]], *, every: bool) -> Home:
    return _checked(parts, every=every)[0].home if parts else current_home()


@overload
def any_of(d1: Waitable[T1], /) -> Deferred[T1]: ...
@overload
def any_of(d1: Waitable[T1], d2: Waitable[T2], /) -> Deferred[T1 | T2]: ...
@overload
def any_of(d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], /) -> Deferred[T1 | T2 | T3]: ...
@overload
def any_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], /
) -> Deferred[T1 | T2 | T3 | T4]: ...
@overload
def any_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], d5: Waitable[T5], /
) -> Deferred[T1 | T2 | T3 | T4 | T5]: ...
@overload
def any_of(*deferreds: Waitable[T]) -> Deferred[T]: ...
def any_of(*deferreds: Waitable[Any]) -> Deferred[Any]:
    """The first value; a failure only when none is pending any more, and then the last one. Losers are left alone.

    Raises `UsageError` for no deferred at all: it could never complete.
    """
    if not deferreds:
        raise UsageError("any_of() of nothing can never complete")
    return Combination(_home_of(deferreds, every=False), deferreds, every=False)


@overload
def all_of(  # pyright: ignore[reportOverlappingOverload]  # a list in truth: as typeshed has it for gather
    d1: Waitable[T1], d2: Waitable[T2], /
) -> Deferred[tuple[T1, T2]]: ...
@overload
def all_of(d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], /) -> Deferred[tuple[T1, T2, T3]]: ...
@overload
def all_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], /
) -> Deferred[tuple[T1, T2, T3, T4]]: ...
@overload
def all_of(
    d1: Waitable[T1], d2: Waitable[T2], d3: Waitable[T3], d4: Waitable[T4], d5: Waitable[T5], /
) -> Deferred[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def all_of(*deferreds: Waitable[T]) -> Deferred[list[T]]: ...
def all_of(*deferreds: Waitable[Any]) -> Deferred[Any]:
    """The values of all, in the order of the arguments; the first failure at once. ``[]`` for none.

    It is a list always; typed as a tuple, as `asyncio.gather` is, it can be unpacked with the type of each value.
    """
    return Combination(_home_of(deferreds, every=True), deferreds, every=True)


def current_home() -> Home:
    """The instance whose loop runs. Raises `UsageError` outside of a workflow."""
    loop = asyncio._get_running_loop()
    owner = getattr(loop, "owner", None)
    if owner is None:
        raise UsageError("This is for the code of workflows, while it runs in one")
    home: Home = owner
    return home
