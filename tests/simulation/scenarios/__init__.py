"""The scenarios of campaigns: what users do with the framework, in many shapes.

Each scenario is a function that takes a simulation. It hosts services and workflows, acts as a
client, and returns an outcome. The outcome depends neither on the order of things nor on faults: it
is the same in each run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from infinitic_testing.simulation import Simulation

Scenario = Callable[[Simulation], Coroutine[Any, Any, object]]

MODULES = (
    "basics",
    "signals",
    "queries",
    "races",
    "timeouts",
    "methods",
    "leaving",
    "ending",
    "values",
    "versions",
    "runs",
    "purges",
    "decisions",
    "stalls",
    "programs",
    "examples",
    "told",
    "channels",
    "tags",
    "unique",
    "family",
    "repairs",
    "mended",
    "task_tags",
    "fleets",
    "delegated",
    "batches",
    "events",
    "heartbeats",
    "local",
    "everyday",
)
"""The modules of this package that have scenarios."""


def list_scenarios() -> dict[str, Scenario]:
    """Return all scenarios, by their names without `simulate_`."""
    found = dict[str, Scenario]()
    for module in MODULES:
        content = vars(import_module(f"{__name__}.{module}"))
        found |= {
            name.removeprefix("simulate_"): each for name, each in content.items() if name.startswith("simulate_")
        }
    return found
