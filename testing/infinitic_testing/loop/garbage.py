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


def freeze_heap() -> None:
    """Collect, and never again search what is in memory now. This makes collections cheap.

    It is for a process that does nothing but run seeds, once all is imported. There,
    `collect_earlier_runs` is called before each run.
    """
    gc.collect()
    gc.freeze()


def collect_earlier_runs() -> None:
    """Collect what earlier runs have left: nothing of it may end in the middle of the next one.

    Only after `freeze_heap`. Elsewhere, `SteadyCollector` freezes it for the time of the run.
    """
    if _is_frozen():
        gc.collect()


def _is_frozen() -> bool:
    return gc.get_freeze_count() > _FROZEN_BY_PYTHON


class SteadyCollector:
    """Switches the collector off until `end`. Meanwhile only `collect` collects.

    Objects of before are not searched, which makes a collection cheap.
    """

    __slots__ = ("_was_enabled", "_was_frozen")

    def __init__(self) -> None:
        self._was_enabled = gc.isenabled()
        self._was_frozen = _is_frozen()
        gc.disable()
        if not self._was_frozen:
            gc.freeze()

    def collect(self) -> None:
        """Collect now. The loop calls this at fixed steps."""
        gc.collect()

    def end(self) -> None:
        """Collect, and give the collector back as it was."""
        if not self._was_frozen and next(_runs) % RUNS_TO_COLLECT == 0:
            # What a run leaves is garbage only after `end`: now it is the turn of earlier runs. Not
            # when a run begins: then a loop runs, and what is left could start tasks in it.
            gc.unfreeze()
        gc.collect()
        if not self._was_frozen:
            gc.unfreeze()
        if self._was_enabled:
            gc.enable()
