"""What people want to know of a run that has failed: who waits for what, and what led to it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from infinitic.storage import StateKey
from infinitic_testing.cluster.cluster import Cluster
from infinitic_testing.cluster.run_log import RunLogEntry
from infinitic_testing.simulation import Simulation

MOST_ANCESTORS = 20
"""How many entries of the log of a run are shown that led to its failure."""

MOST_LAST = 15
"""How many of the last entries are shown."""


def describe_end(sim: Simulation, error: BaseException) -> list[str]:
    """Describe how a run stood when it failed.

    Args:
        sim: the simulation. It is closed.
        error: what it raised.

    Returns:
        Lines for people: notes of the error, what each workflow waits for, which events led to the
        failure, and the last events.
    """
    system = sim.system
    lines = [note for note in getattr(error, "__notes__", ()) if not note.startswith("In Simulation(")]
    lines += _list("at the end:", system.explain_failure(error))
    if isinstance(system, Cluster):
        entries = system.log.entries()
        subjects = _find_subjects(error, entries)
        if subjects:
            ancestors = system.log.find_ancestors(subjects, MOST_ANCESTORS)
            lines += _list("what led to it:", _join_repeated(map(str, ancestors)))
        lines += _list("last events:", _join_repeated(map(str, entries[-MOST_LAST:])))
    return lines


def _find_subjects(error: BaseException, entries: Iterable[RunLogEntry]) -> set[str]:
    """Find what a failure is about: ids of instances and messages that its message names."""
    key = getattr(error, "key", None)
    found = {key.id} if isinstance(key, StateKey) and key.id else set[str]()
    text = str(error)
    return found | {name for entry in entries for name in (entry.id, entry.key) if len(name) > 3 and name in text}


def _join_repeated(lines: Iterable[str]) -> list[str]:
    """Write lines that follow on each other and are equal only once, with their number."""
    counted = [(line, sum(1 for _ in same)) for line, same in groupby(lines)]
    return [line if count == 1 else f"{line} ({count} times)" for line, count in counted]


def _list(title: str, lines: Iterable[str]) -> list[str]:
    """Put a title above lines. No lines, no title."""
    listed = [f"  {line}" for line in lines]
    return [title, *listed] if listed else []
