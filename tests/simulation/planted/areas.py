"""Which scenarios run with a planted bug, under which seed.

There are many scenarios, and most of them never ask a query or begin a second run. So a bug of
such a part of the product has the scenarios that use it under each second seed. A bug in what only
one of them uses names that one itself.
"""

from __future__ import annotations

from functools import cache

from tests.simulation.planted.planting import Bug
from tests.simulation.scenarios import list_scenarios

AREAS: dict[str, tuple[str, ...]] = {
    "engine, timers": ("timeouts",),
    "channels": ("channels", "signals"),
    "queries": ("queries",),
    "tags": ("tags", "unique"),
    "engine, endings": ("ending", "leaving"),
    "runs": ("runs",),
    "children and calls": ("family", "unique"),
    "repair": ("repairs",),
    "delegated tasks": ("delegated",),
    "batches": ("batches",),
    "events": ("events",),
    "heartbeats": ("heartbeats",),
    "local tasks": ("local",),
}
"""For the places of bugs: the modules with the scenarios of this area."""

_SLOW = {"value_at_the_limit", "values_too_large", "long_loop"}


def list_area(bug: Bug) -> list[str]:
    """List the scenarios that use what a bug breaks. The list is empty if most scenarios do."""
    if bug.scenarios:
        return list(bug.scenarios)
    modules = AREAS.get(bug.place, ())
    return [name for name, each in _list_quick().items() if each in modules]


def choose_scenario(bug: Bug, seed: int) -> str:
    """Choose the scenario that runs with a bug under a seed.

    Under odd seeds it is one of the area of the bug, if it has one, and otherwise any one. Both
    take turns.

    Args:
        bug: the bug.
        seed: from 1 on.
    """
    area, names = list_area(bug), list(_list_quick())
    if not area:
        return names[seed % len(names)]
    if seed % 2:
        return area[seed // 2 % len(area)]
    return names[seed // 2 % len(names)]


@cache
def _list_quick() -> dict[str, str]:
    """List all scenarios, but for a few slow ones, with the names of their modules."""
    return {
        name: function.__module__.rpartition(".")[2] for name, function in list_scenarios().items() if name not in _SLOW
    }
