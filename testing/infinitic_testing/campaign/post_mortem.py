"""What people want to know of a run that has failed: who waits for what, and what led to it."""

from __future__ import annotations

from collections.abc import Iterable

from infinitic.storage import StateKey
from infinitic.storage.integrity import ensure_checked
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.cluster.cluster import Cluster
from infinitic_testing.explaining import explain_workflows
from infinitic_testing.loop import DeadlockError
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
    if not isinstance(error, DeadlockError):
        # The message of a `DeadlockError` says this already.
        storage = ensure_checked(InMemoryStorage(system.database))
        # Not who hosts nothing: the workers are gone.
        lines += _list("at the end:", explain_workflows(storage, system.find_specs, system.stalled))
    if isinstance(system, Cluster):
        key = getattr(error, "key", None)
        if isinstance(key, StateKey):
            ancestors = system.log.find_ancestors([key.id], MOST_ANCESTORS)
            lines += _list(f"what led to it, of {key.name} {key.id}:", map(str, ancestors))
        lines += _list("last events:", map(str, system.log.entries()[-MOST_LAST:]))
    return lines


def _list(title: str, lines: Iterable[str]) -> list[str]:
    """Put a title above lines. No lines, no title."""
    listed = [f"  {line}" for line in lines]
    return [title, *listed] if listed else []
