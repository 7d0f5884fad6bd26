"""What a process that belongs to a worker does for it: it heeds signals, and is tuned to run for long."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress

from infinitic.runtime.watchdog import Watchdog

GARBAGE_THRESHOLD = 50_000
"""Objects of the youngest generation until garbage is looked for; what lives at the start is left out."""


@contextmanager
def stop_signals() -> Generator[asyncio.Future[None]]:
    """A future that SIGTERM or SIGINT completes. A second signal cancels the current task."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    current = asyncio.current_task()

    def on_signal() -> None:
        if not stop.done():
            stop.set_result(None)
        elif current is not None:
            current.cancel()

    handled: list[signal.Signals] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not on this system, or not in this thread
            loop.add_signal_handler(number, on_signal)
            handled.append(number)
    try:
        yield stop
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


@contextmanager
def tuned() -> Generator[None]:
    """Watch for code that blocks the loop, and look for garbage less often."""
    watchdog = Watchdog()
    watchdog.start()
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *thresholds[1:])
    try:
        yield
    finally:
        watchdog.stop()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
