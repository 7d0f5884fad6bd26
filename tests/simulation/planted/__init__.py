"""Bugs that are planted into the product, to see that campaigns find them.

Each of them is a mistake that somebody could make in the engines, the runtime, replay or an
adapter. `make planted` looks for each one under many seeds, and writes docs/planted-bugs.md.
"""

from __future__ import annotations

from importlib import import_module

from tests.simulation.planted.planting import BUGS, Bug

MODULES = (
    "steps",
    "inputs",
    "timers",
    "replays",
    "split",
    "executors",
    "lanes",
    "stored",
    "messages",
    "told",
    "channels",
    "queries",
    "tags",
    "ending",
    "runs",
    "family",
    "repairs",
    "task_tags",
    "delegated",
    "batches",
    "events",
    "heartbeats",
    "whole_steps",
    "local",
)
"""The modules of this package that have bugs."""


def list_bugs() -> dict[str, Bug]:
    """Return all bugs by name."""
    for module in MODULES:
        import_module(f"{__name__}.{module}")
    return BUGS
