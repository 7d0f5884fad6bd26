"""Warns of code that blocks the loop.

A workflow or task that computes for long stops its whole worker.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback

_logger = logging.getLogger("infinitic.worker")

LIMIT_SECONDS = 2.0


class Watchdog:
    """A thread that looks whether the loop still runs.

    It only warns: nothing can stop code that blocks.

    Args:
        limit: for how many seconds the loop may be blocked. Each longer time is reported once.
    """

    def __init__(self, limit: float = LIMIT_SECONDS) -> None:
        self._limit = limit
        self._turned = threading.Event()
        self._stopped = threading.Event()
        self._watched = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, name="infinitic watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the loop that runs."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopped.set()
        self._turned.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit / 2):
            self._turned.clear()
            if self._stopped.is_set():  # `stop` may have set the other one just before it was cleared
                return
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:  # the loop is closed
                return
            if self._turned.wait(self._limit):
                continue
            frame = sys._current_frames().get(self._watched)  # pyright: ignore[reportPrivateUsage]  # documented
            stack = "".join(traceback.format_stack(frame)) if frame is not None else "  unknown\n"
            _logger.warning(
                "The loop has been blocked for %.1f s. Blocking work belongs into `def` tasks:\n%s", self._limit, stack
            )
            self._turned.wait()
