"""When garbage is collected in a repeatable run: at fixed steps, never in between.

Python collects when it has made many objects, and this differs from run to run. What it collects
may run code: `__del__`, the `finally` of a lost coroutine, callbacks of weak references.
"""

from __future__ import annotations

import gc

_PERIOD = 20_000
"""Steps of the loop between two collections."""


class GarbageSchedule:
    """Switches the collector off, and collects at fixed steps until `end`.

    Objects of before are not searched meanwhile, which makes a collection cheap.
    """

    __slots__ = ("_due", "_was_enabled", "_was_frozen")

    def __init__(self) -> None:
        self._due = _PERIOD
        self._was_enabled = gc.isenabled()
        self._was_frozen = gc.get_freeze_count() > 0
        gc.disable()
        if not self._was_frozen:
            gc.freeze()

    def take_steps(self, steps: int) -> None:
        """Count steps, and collect if it is time to.

        Args:
            steps: how many callbacks the loop has run since the last call.
        """
        self._due -= steps
        if self._due <= 0:
            self._due = _PERIOD
            gc.collect()

    def end(self) -> None:
        """Collect, and give the collector back as it was."""
        gc.collect()
        if not self._was_frozen:
            gc.unfreeze()
        if self._was_enabled:
            gc.enable()
