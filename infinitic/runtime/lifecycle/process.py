"""What a process does for the workers in it: it heeds signals, and is tuned to run for long.

Both concern the whole process, whatever the number of workers in it. The first worker changes them,
and the last one restores what the application had.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from infinitic.runtime.lifecycle.early_signals import STOPPING, release_signals
from infinitic.runtime.lifecycle.memory import give_back_large_blocks
from infinitic.runtime.lifecycle.watchdog import Watchdog

_logger = logging.getLogger("infinitic.worker")

GARBAGE_THRESHOLD = 50_000
"""How many new objects there are before garbage is collected.

What lives at the start is left out.
"""

FROZEN_BY_PYTHON = 1000
"""More objects than Python 3.12 freezes when it starts (375), fewer than an application would."""


class Stop:
    """Whether somebody wants a worker to stop.

    Attributes:
        requested: done with the first signal.
        forced: True from the second signal on, which cancels the task of the worker. Later signals
            change nothing.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self.requested: asyncio.Future[None] = self._loop.create_future()
        self.forced = False

    def tell(self) -> None:
        """Note that a signal has come. For use in a signal handler."""
        self._loop.call_soon_threadsafe(self._heed)

    def _heed(self) -> None:
        if not self.requested.done():
            self.requested.set_result(None)
        elif not self.forced:
            self.forced = True
            _logger.warning("A second signal: the worker stops at once")
            if self._task is not None:
                self._task.cancel()


class _Signals:
    """The handlers of the process, while one of its workers runs."""

    def __init__(self) -> None:
        self._stops: list[Stop] = []
        self._before: dict[int, Any] = {}
        self._of_loops: list[tuple[dict[int, Any], int, Any]] = []

    def add(self, stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
        self._stops.append(stop)
        if len(self._stops) > 1:
            return
        # Handlers of the loop (`add_signal_handler`) would be called beside ours: they are kept
        # aside.
        of_loop: dict[int, Any] = getattr(loop, "_signal_handlers", {})
        for number in STOPPING:
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not in this thread
                return
            if number in of_loop:
                self._of_loops.append((of_loop, number, of_loop.pop(number)))
        release_signals()

    def remove(self, stop: Stop) -> None:
        self._stops.remove(stop)
        if self._stops:
            return
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        of_loops, self._of_loops = self._of_loops, []
        for of_loop, number, handler in of_loops:
            of_loop[number] = handler

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        for stop in self._stops:
            stop.tell()


_signals = _Signals()


@contextmanager
def heed_signals() -> Generator[Stop]:
    """Have SIGTERM and SIGINT stop the worker of the current task, until the block ends.

    Example::

        with heed_signals() as stop:
            await stop.requested
    """
    stop = Stop()
    _signals.add(stop, asyncio.get_running_loop())
    try:
        yield stop
    finally:
        _signals.remove(stop)


class _Tuning:
    """How the process looks for garbage, while one of its workers runs."""

    def __init__(self) -> None:
        self._users = 0
        self._restore: Callable[[], object] = int

    def begin(self) -> None:
        self._users += 1
        if self._users > 1:
            return
        before = gc.get_threshold()
        froze = gc.get_freeze_count() <= FROZEN_BY_PYTHON  # else the application has frozen what it wants to be frozen
        if froze:
            gc.freeze()
        ours = (GARBAGE_THRESHOLD, *before[1:])
        gc.set_threshold(*ours)

        def restore() -> None:
            if gc.get_threshold() == ours:  # else the application has set others meanwhile
                gc.set_threshold(*before)
            if froze:
                gc.unfreeze()

        self._restore = restore

    def end(self) -> None:
        self._users -= 1
        if not self._users:
            self._restore()


_tuning = _Tuning()


@contextmanager
def tune_process() -> Generator[None]:
    """Tune the process for a worker, until the block ends.

    It warns of code that blocks the loop, collects garbage less often, and gives large blocks of
    memory back at once.
    """
    give_back_large_blocks()
    watchdog = Watchdog()
    watchdog.start()
    _tuning.begin()
    try:
        yield
    finally:
        watchdog.stop()
        _tuning.end()
