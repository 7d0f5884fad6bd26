"""What workflow code waits for: `Deferred`, and its combinations `|`, `&`, `any_of`, `all_of`."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from types import CodeType
from typing import Any, Generic, Protocol, TypeVar, cast

from infinitic.definitions.home import Home
from infinitic.errors import (
    DeferredError,
    TaskCanceledError,
    TaskTimedOutError,
    WorkflowCanceledError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")

_Future: Any = asyncio.Future
"""For calls of its methods by name: `super()` costs 800 instructions more, twice for each task."""

BY_USER = object()
"""In place of the message that asyncio cancels with."""

_WAIT_FOR: CodeType = vars(asyncio.tasks)["_cancel_and_wait"].__code__


class DeferredStatus(StrEnum):
    """What has become of a `Deferred`; `Deferred.status` gives it."""

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
    """Return the status of any future of the loop."""
    if not future.done():
        return DeferredStatus.ONGOING
    if future.cancelled():
        return DeferredStatus.CANCELED
    error = future.exception()
    if error is None:
        return DeferredStatus.COMPLETED
    return next((status for cls, status in _STATUS if isinstance(error, cls)), DeferredStatus.FAILED)


class Waitable(Generic[T_co]):
    """A `Deferred` or a `Receiver`: it can be awaited and combined, and has a status."""

    __slots__ = ()

    home: Home

    def status(self) -> DeferredStatus:
        """Return what has become of it. The same in every replay."""
        raise NotImplementedError

    def is_ongoing(self) -> bool:
        """Tell whether it is still open."""
        return self.status() is DeferredStatus.ONGOING

    def is_completed(self) -> bool:
        """Tell whether it has a value."""
        return self.status() is DeferredStatus.COMPLETED

    def is_failed(self) -> bool:
        """Tell whether it failed."""
        return self.status() is DeferredStatus.FAILED

    def is_canceled(self) -> bool:
        """Tell whether it was cancelled."""
        return self.status() is DeferredStatus.CANCELED

    def is_timed_out(self) -> bool:
        """Tell whether its total timeout is over."""
        return self.status() is DeferredStatus.TIMED_OUT

    def is_unknown(self) -> bool:
        """Tell whether the workflow that it is of is unknown."""
        return self.status() is DeferredStatus.UNKNOWN


class Watcher(Protocol):
    """A combination that is told when its parts are settled."""

    watchers: dict[Watcher, int] | None

    def take(self, part: Deferred[Any]) -> bool:
        """A part is settled. Returns True if this is settled by it."""
        ...


class Deferred(asyncio.Future[T], Waitable[T]):
    """The value of a task, a timer or a combination, once it is there.

    `Workflow.dispatch`, `Workflow.timer`, `any_of` and `all_of` give it. It is a future of the loop
    of its workflow, so it works with all of asyncio. Await it as often as you like; it gives the
    same value each time. Awaiting it raises a `DeferredError` if it did not complete::

        hotel = self.dispatch(self.hotels.book, request)
        try:
            room = await hotel
        except TaskFailedError as error:
            ...

    Unlike with a plain future, no exception is logged if nobody awaits it.

    Warning: whoever cancels an await of it cancels the task behind it, as in asyncio. A timeout of
    `asyncio.timeout` and a failure in a `TaskGroup` do so, too. `asyncio.shield` keeps the task.
    """

    _position: int
    _number: int
    watchers: dict[Watcher, int] | None = None

    def __init__(self, home: Home, position: int) -> None:
        _Future.__init__(self, loop=home.loop)
        self.home = home
        self._position = position
        self._number = home.next_number()

    def __hash__(self) -> int:
        return self._number

    def status(self) -> DeferredStatus:
        return status_of(self)

    def set_result(self, result: T, /) -> None:
        """Settle with a value."""
        _Future.set_result(self, result)
        if self.watchers is not None:
            notify_watchers(self)

    def fail(self, error: BaseException) -> None:
        """Settle with an error.

        Unlike a plain future's, one that nobody awaits is not logged: fire and forget.
        """
        self.set_exception(error)
        self._log_traceback = False
        if self.watchers is not None:
            notify_watchers(self)

    def cancel(self, msg: object = BY_USER) -> bool:
        """Cancel the task or timer behind it. Awaiting it raises `TaskCanceledError` from then on.

        A task is stopped wherever it runs or waits.

        Returns:
            False if it was settled already.
        """
        if self.done():
            return False
        by_user = self._is_meant_by_user(msg)
        self.home.cancel_position(self._position)
        self._end(by_user, msg)
        if self.watchers is not None:
            notify_watchers(self)
        return True

    def _is_meant_by_user(self, msg: object) -> bool:
        """False for a cancellation by asyncio.

        That is one of an await of this, or one by `wait_for`, which has no message.
        """
        caller = sys._getframe(2).f_code  # pyright: ignore[reportPrivateUsage]  # documented
        return msg is BY_USER and caller is not _WAIT_FOR

    def _end(self, by_user: bool, msg: object) -> None:
        """Be cancelled: as a user means it, or as asyncio does."""
        if by_user:
            self.set_exception(self._cancellation())
            self._log_traceback = False
        else:
            super().cancel(None if msg is BY_USER else msg)

    @property
    def id(self) -> str:
        """The id of the task behind it; empty for a combination."""
        return ""

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("deferred", type(self).__name__.lower(), self.id)

    def __or__(self, other: Waitable[U]) -> Deferred[T | U]:
        """Whichever completes first."""
        both: Deferred[T | U] = self.home.combine((self, other), every=False)
        return both

    def __and__(self, other: Waitable[U]) -> Deferred[tuple[T, U]]:
        """The values of both, as `all_of` gives them."""
        both: Deferred[tuple[T, U]] = self.home.combine((self, other), every=True)
        return both


def notify_watchers(deferred: Deferred[Any]) -> None:
    """Tell those who watch a deferred that it is settled.

    And those who watch them, if they are settled by that.
    """
    settled: list[Deferred[Any] | Watcher] = [deferred]
    for each in settled:
        watchers: dict[Watcher, int] | None
        watchers, each.watchers = each.watchers, None
        for watcher, times in (watchers or {}).items():
            for _ in range(times):
                if watcher.take(cast("Deferred[Any]", each)):
                    settled.append(watcher)
