"""Clocks in virtual time: the right one, and one that is wrong."""

from __future__ import annotations

import asyncio

from infinitic.clock import Clock
from infinitic.errors import UsageError
from infinitic_testing.loop.virtual import VirtualLoop

EPOCH = 1_893_456_000.0
"""Where a `VirtualClock` begins: 2030-01-01T00:00:00Z, in seconds since the Unix epoch."""


class VirtualClock(Clock):
    """The clock of a loop in virtual time: `start` plus ``loop.time()``.

    Args:
        loop: the loop. None: whichever `VirtualLoop` runs when `now` is called.
        start: what the clock shows at the time 0.0 of the loop, in seconds since the Unix epoch.

    Raises:
        UsageError: by `now`, if there is no `loop` and no `VirtualLoop` runs.
    """

    __slots__ = ("_loop", "_start")

    def __init__(self, loop: VirtualLoop | None = None, start: float = EPOCH) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        loop = self._loop
        if loop is None:
            running = asyncio._get_running_loop()
            if not isinstance(running, VirtualLoop):
                raise UsageError("VirtualClock() shows the time of the running VirtualLoop, and none is running")
            loop = running
        return self._start + loop.time()


class SkewedClock(Clock):
    """A clock that is wrong by an offset, as the clock of a machine may be.

    Give it to the worker of one process. Timers do not read it: a sleep of ten seconds takes ten.

    Attributes:
        offset: how many seconds it is ahead; below 0: behind. It may be changed at any time. A
            change makes the clock jump, also back.

    Args:
        clock: the right clock.
        offset: the first offset, in seconds.
    """

    __slots__ = ("_clock", "offset")

    def __init__(self, clock: Clock, offset: float = 0.0) -> None:
        self.offset = offset
        self._clock = clock

    def now(self) -> float:
        return self._clock.now() + self.offset
