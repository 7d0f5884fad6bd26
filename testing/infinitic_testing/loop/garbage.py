"""When garbage is collected in a repeatable run: at fixed steps, never in between.

Python collects when it has made many objects, and this differs from run to run. What it collects
may run code: `__del__`, the `finally` of a lost coroutine, callbacks of weak references.
"""

from __future__ import annotations

import gc
import itertools

STEPS_TO_COLLECT = 20_000
"""Steps of the loop between two collections."""


RUNS_TO_COLLECT = 16
"""After so many runs, what they have left is collected. To do so after each run takes too long."""

_FROZEN_BY_PYTHON = 2_000
"""Python 3.12 starts with some hundred frozen objects. Whoever calls `gc.freeze` has more."""

_runs = itertools.count(1)


class SteadyCollector:
    """Switches the collector off until `end`. Meanwhile only `collect` collects.

    Objects of before are not searched, which makes a collection cheap.
    """

    __slots__ = ("_was_enabled", "_was_frozen")

    def __init__(self) -> None:
        self._was_enabled = gc.isenabled()
        self._was_frozen = gc.get_freeze_count() > _FROZEN_BY_PYTHON
        gc.disable()
        if not self._was_frozen:
            if next(_runs) % RUNS_TO_COLLECT == 0:
                # What a run leaves is garbage only after `end`. It must not be frozen for ever.
                gc.collect()
            gc.freeze()

    def collect(self) -> None:
        """Collect now. The loop calls this at fixed steps."""
        gc.collect()

    def end(self) -> None:
        """Collect, and give the collector back as it was."""
        gc.collect()
        if not self._was_frozen:
            gc.unfreeze()
        if self._was_enabled:
            gc.enable()
