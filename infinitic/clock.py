"""Time as an argument: everything that needs the time of day is given a `Clock`.

Instants are `float` seconds since the Unix epoch inside, aware UTC `datetime` where users see them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

from infinitic.errors import UsageError


class Clock(ABC):
    """Tells the time of day."""

    __slots__ = ()

    @abstractmethod
    def now(self) -> float:
        """Seconds since the Unix epoch. Never goes back within one process."""


class SystemClock(Clock):
    """The clock of this machine."""

    __slots__ = ()

    # As it is: a method that calls it takes twice as long.
    now = staticmethod(time.time)  # pyright: ignore[reportAssignmentType]  # called on instances, it is the same


def to_seconds(duration: object) -> float:
    """Convert a duration to seconds.

    Args:
        duration: a number of seconds, or a timedelta.

    Raises:
        UsageError: it is neither, or it is not finite.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < 1e12:
        raise UsageError(f"A duration is a finite number of seconds or a timedelta, not {duration!r}")
    return float(seconds)


def to_instant(moment: datetime) -> float:
    """Convert an aware datetime to seconds since the Unix epoch.

    Raises:
        UsageError: the datetime has no time zone.
    """
    if moment.tzinfo is None:
        raise UsageError(f"{moment!r} has no time zone: use an aware datetime, e.g. datetime.now(UTC)")
    return moment.timestamp()


def to_datetime(instant: float) -> datetime:
    """Convert seconds since the Unix epoch to an aware datetime in UTC."""
    return datetime.fromtimestamp(instant, UTC)


def add_seconds(instant: float, seconds: float) -> float:
    """Add a duration, so that the datetimes of both instants are no less than that apart.

    Datetimes are rounded to microseconds. So the later one might be shown a microsecond too early.

    Args:
        instant: seconds since the Unix epoch.
        seconds: the duration.
    """
    later = instant + seconds
    try:
        shown = to_datetime(instant) + timedelta(seconds=seconds)
        return to_instant(shown) if to_datetime(later) < shown else later
    except (ValueError, OverflowError):
        # No datetime can hold it. Whoever needs one finds that out.
        return later
