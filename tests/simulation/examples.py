"""The programs of `examples/` as cases. Users copy them, so they must survive everything too."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from infinitic import Client, Workflow
from tests.simulation.cases import Case

_FOLDER = Path(__file__).parents[2] / "examples"


class _Example(Protocol):
    SERVICES: list[Callable[[], object]]
    WORKFLOWS: list[type[Workflow]]

    def scenario(self, client: Client) -> Coroutine[Any, Any, object]: ...


def _make_case(name: str) -> Case:
    module = cast(_Example, import_module(f"examples.{name}"))
    return Case(f"example {name}", tuple(module.WORKFLOWS), module.scenario, tuple(module.SERVICES))


EXAMPLES = tuple(_make_case(path.stem) for path in sorted(_FOLDER.glob("*.py")) if path.stem != "__init__")

_TELL_OF_ATTEMPTS = {"example rate_limit", "example structured_logs"}

STEADY_EXAMPLES = tuple(case for case in EXAMPLES if case.name not in _TELL_OF_ATTEMPTS)
"""Examples whose outcome does not tell when, and how often, their tasks ran."""
