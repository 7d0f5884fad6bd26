"""Makes a failing run small: it keeps the few choices that matter, and makes all others plain.

A choice is known by its key: its label, and its number among those of the label. So a choice can be
made plain, and the others keep their values. The order is: whole faults, then delays, then the
order of steps, then choices one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from infinitic_testing.choices import Key

MOST_RUNS = 500
"""How many runs it may take to make one failing run small."""

Fails = Callable[[frozenset[Key]], Collection[Key] | None]
"""Runs with these choices, and all others plain.

Returns the choices of the run that were not plain, if it fails in the same way. Otherwise None.
"""


class Shrunk(NamedTuple):
    """A run that is as small as was found.

    Args:
        kept: the choices that it needs.
        runs: how many runs it took to find it.
        is_smallest: True if no choice of it can be made plain alone. False: runs or time were used
            up.
    """

    kept: frozenset[Key]
    runs: int
    is_smallest: bool


class _UsedUp(Exception):
    """No run is left."""


def shrink(
    taken: Iterable[Key],
    fails: Fails,
    *,
    most_runs: int = MOST_RUNS,
    is_late: Callable[[], bool] = lambda: False,
) -> Shrunk:
    """Find a small part of the choices of a failing run that still fails in the same way.

    Args:
        taken: the choices of the failing run that were not plain.
        fails: runs with a part of them.
        most_runs: how many times it may be called.
        is_late: asked before each run. True ends the search.
    """
    search = _Search(frozenset(taken), fails, most_runs, is_late)
    try:
        search.drop_everything()
        for labels in _list_stages(search.kept):
            search.reduce([[key for key in sorted(search.kept) if key[0] == label] for label in labels])
        # Labels that were needed together with others may be dropped by now.
        while True:
            before = search.kept
            search.reduce([[key] for key in sorted(search.kept)])
            if search.kept == before:
                return Shrunk(search.kept, search.runs, is_smallest=True)
    except _UsedUp:
        return Shrunk(search.kept, search.runs, is_smallest=False)


def name_fault(label: str) -> str | None:
    """Return the fault that a choice belongs to: "pauses" for "plan/pauses". None: to none."""
    kind, _, name = label.partition("/")
    return name.partition("/")[0] if kind in ("plan", "rate", "fault", "nemesis") else None


def _list_stages(kept: Iterable[Key]) -> list[list[str]]:
    """Order labels: first those of faults, then delays, then the schedule, then all others."""
    stages: list[list[str]] = [[], [], [], []]
    for label in sorted({label for label, _ in kept}):
        if name_fault(label) is not None:
            stages[0].append(label)
        elif label.startswith("latency"):
            stages[1].append(label)
        elif label.startswith("schedule"):
            stages[2].append(label)
        else:
            stages[3].append(label)
    return stages


class _Search:
    """What is known so far: a set of choices that fails, and which sets do not."""

    def __init__(self, kept: frozenset[Key], fails: Fails, most_runs: int, is_late: Callable[[], bool]) -> None:
        self.kept = kept
        self.runs = 0
        self._fails = fails
        self._most_runs = most_runs
        self._is_late = is_late
        self._passed: set[frozenset[Key]] = set()

    def drop_everything(self) -> None:
        """Try the plain run, and then that without any fault: the failure may need none."""
        if not self._try(frozenset()):
            self._try(frozenset(key for key in self.kept if name_fault(key[0]) is None))

    def reduce(self, groups: Sequence[Sequence[Key]]) -> None:
        """Drop as many groups as possible: many at once first, then fewer (delta debugging)."""
        left = [group for group in groups if group]
        size = len(left)
        while left and size:
            at = 0
            while at < len(left):
                dropped = {key for group in left[at : at + size] for key in group}
                if dropped.isdisjoint(self.kept):
                    # It went with another group: a run without that one does not come to it.
                    del left[at : at + size]
                elif self._try(self.kept - dropped):
                    del left[at : at + size]
                else:
                    at += size
            size = min(size // 2, len(left))

    def _try(self, candidate: frozenset[Key]) -> bool:
        if candidate == self.kept:
            return True
        if candidate in self._passed:
            return False
        if self.runs >= self._most_runs or self._is_late():
            raise _UsedUp
        self.runs += 1
        taken = self._fails(candidate)
        if taken is None:
            self._passed.add(candidate)
            return False
        # Choices that this run did not come to are of no use either.
        self.kept = candidate & frozenset(taken)
        return True
