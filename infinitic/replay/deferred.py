"""What workflow code waits for: `Deferred`, and its combinations `|`, `&`, `any_of`, `all_of`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
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
_WAIT_FOR: CodeType | None = vars(asyncio.tasks)["_cancel_and_wait"].__code__ if sys.version_info < (3, 12) else None
_watch = asyncio.Future[Any].add_done_callback  # that of a plain future: `Combination` has another one


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

    def __init__(self, home: Home, position: int) -> None:
        super().__init__(loop=home.loop)
        self.home = home
        self._position = position
        self._number = home.next_number()

    def __hash__(self) -> int:
        return self._number

    def status(self) -> DeferredStatus:
        return status_of(self)

    def fail(self, error: BaseException) -> None:
        """Settle with an error. Unlike a plain future's, one that nobody awaits is not logged: fire and forget."""
        self.set_exception(error)
        self._log_traceback = False

    def cancel(self, msg: object = _BY_USER) -> bool:
        """Cancel what stands behind it. Awaiting it raises `TaskCanceledError` from then on.

        Returns False if it was settled already.
        """
        if self.done():
            return False
        self._abandon()
        if msg is _BY_USER and not _called_by_wait_for():
            self.fail(self._cancellation())
            return True
        return super().cancel(None if msg is _BY_USER else msg)

    @property
    def id(self) -> str:
        """The id of the task behind it; empty for a combination."""
        return ""

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("deferred", type(self).__name__.lower(), self.id)

    def _abandon(self) -> None:
        self.home.cancel_position(self._position)

    def __or__(self, other: Waitable[U]) -> Deferred[T | U]:
        """Whichever completes first."""
        return Combination(self.home, (self, other), every=False)

    def __and__(self, other: Waitable[U]) -> Deferred[tuple[T, U]]:
        """The values of both, as `all_of` gives them."""
        return Combination(self.home, (self, other), every=True)


def _called_by_wait_for() -> bool:
    """`asyncio.wait_for` of 3.11 cancels with a bare `cancel()`, and means it as asyncio does."""
    return _WAIT_FOR is not None and sys._getframe(2).f_code is _WAIT_FOR  # pyright: ignore[reportPrivateUsage]  # documented


class Combination(Deferred[Any]):
    """`any_of` or `all_of` of deferreds and receivers. Its receivers take signals only while it is awaited."""

    def __init__(self, home: Home, parts: Sequence[Waitable[Any]], *, every: bool) -> None:
        super().__init__(home, -1)
        self._parts = cast("Sequence[Deferred[Any] | Receiver[Any]]", parts)
        self._every = every
        self._missing = len(parts)
        self._awaits = 0
        self._futures: list[asyncio.Future[Any] | None] = [
            part if isinstance(part, Deferred) else None for part in parts
        ]
        if not parts:
            self.set_result([])
        for part in parts:
            if not isinstance(part, Deferred):
                continue
            if part.done():
                self._on_done(part)
            else:
                _watch(part, self._on_done, context=_EMPTY)

    def _on_done(self, future: asyncio.Future[Any]) -> None:
        """A part is done. Called once for each."""
        if self.done():
            return
        self._missing -= 1
        failure = _failure_of(future)
        if failure is not None:
            if self._every or not self._missing:
                self.fail(failure)
                self._release(None)
        elif not self._every:
            self.set_result(future.result())
            self._release(future)
        elif not self._missing:
            self.set_result([part.result() for part in self._futures if part is not None])

    def arm(self) -> None:
        """Somebody waits: let the receivers inside take signals, in order, until this is done."""
        for index, part in enumerate(self._parts):
            if self.done():
                return
            if isinstance(part, Combination):
                part.arm()
            elif not isinstance(part, Deferred) and self._futures[index] is None:
                taking = self._futures[index] = part.begin()
                if taking.done():
                    self._on_done(taking)
                else:
                    taking.add_done_callback(self._on_done, context=_EMPTY)

    def disarm(self) -> None:
        """Nobody waits any more: what the receivers inside have taken goes back."""
        if not self.done():
            self._release(None)

    def _release(self, used: asyncio.Future[Any] | None) -> None:
        """Have the receivers inside give back what they took, but for the one whose value is used."""
        for index, part in enumerate(self._parts):
            future = self._futures[index]
            if isinstance(part, Combination):
                if part is not used:
                    part.disarm()
            elif not isinstance(part, Deferred) and future is not None and future is not used:
                future.remove_done_callback(self._on_done)
                self._missing += future.done()
                self._futures[index] = None
                part.release(future)

    def _abandon(self) -> None:
        self._release(None)
        for part in self._parts:
            if isinstance(part, Deferred):
                part.cancel(None)

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        super().add_done_callback(fn, context=context)
        self._awaits += 1
        if not self.done():
            self.arm()

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        removed = super().remove_done_callback(fn)
        self._awaits -= removed
        if removed and self._awaits <= 0:
            self.disarm()
        return removed


_EMPTY = Context()


def _failure_of(future: asyncio.Future[Any]) -> BaseException | None:
    """Why a future that is done has no value, None if it has one."""
    try:
        return future.exception()
    except asyncio.CancelledError as error:
        return error


def _home_of(parts: Sequence[Waitable[Any]]) -> Home:
    return parts[0].home if parts else current_home()


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
    return Combination(_home_of(deferreds), deferreds, every=False)


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
    return Combination(_home_of(deferreds), deferreds, every=True)


def current_home() -> Home:
    """The instance whose loop runs. Raises `UsageError` outside of a workflow."""
    loop = asyncio._get_running_loop()
    owner = getattr(loop, "owner", None)
    if owner is None:
        raise UsageError("This is for the code of workflows, while it runs in one")
    home: Home = owner
    return home
