"""Every example runs as a program, and its scenario has the same outcome in virtual time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import pytest

from examples import (
    approval,
    booking_saga,
    carts,
    fan_out,
    film_lab,
    hello,
    newsletter,
    parcels,
    rate_limit,
    retries,
    structured_logs,
)
from infinitic import Client, Middleware, Workflow
from infinitic_testing.simulation import Simulation

ROOT = Path(__file__).parents[2]

OUTCOMES: dict[str, dict[str, str]] = {
    "hello": {"Ada": "Hello, Ada! Goodbye, Ada.", "Grace": "Hello, Grace! Goodbye, Grace."},
    "booking_saga": {
        "Lisbon": "seat Lisbon-12A, room Lisbon-7, 580 paid by Ada's card",
        "Tokyo": "NotBooked: CardDeclined: 2380 is above the limit of Ada's card",
        "Undone": "room Tokyo-7, seat Tokyo-12A",
    },
    "approval": {
        "desk": "order of a desk, approved by Grace",
        "yacht": "refused by Grace",
        "lamp": "nobody answered in time",
    },
    "fan_out": {
        "best offer": "Snail for 144",
        "announced": "pick-up by Snail",
        "labels": " ".join(f"Snail/parcel-{n}" for n in range(1, 9)),
    },
    "parcels": {
        "first": "a book, a lamp",
        "second": "a chair, no unicorn: there are no unicorns, no piano: it took too long",
        "shipped": "3",
    },
    "carts": {
        "carts": "2",
        "Ada": "a book, a gift, 10 % off",
        "Grace": "a gift, 10 % off",
    },
    "film_lab": {
        "holidays": "36 prints",
        "wedding": "no prints: the film was exposed to light",
        "frames": "36",
    },
    "rate_limit": {"requests": "5", "too early": "0"},
    "structured_logs": {
        "outcome": "ada paid 42 euros",
        "line": '{"level": "INFO", "message": "charging 42 euros", "tenant": "ada", "workflow_name": "Shop", '
        '"workflow_id": "WORKFLOW", "service_name": "Payments", "task_name": "charge", "task_id": "WORKFLOW-0", '
        '"retry_index": 0}',
    },
    "newsletter": {
        "Ada": "sent to Ada at attempt 1",
        "Grace": "sent to Grace at attempt 2",
        "Edsger": "sent to Edsger at attempt 1",
        "Barbara": "sent to Barbara at attempt 1",
        "Alan": "sent to Alan at attempt 1",
        "Margaret": "sent to Margaret at attempt 1",
        "nobody": "not sent: NoSuchAddress: a letter needs one",
    },
    "retries": {
        "charge": "420 charged, answered at attempt 3",
        "receipt": "receipt for 420, printed at attempt 2",
        "block": "CardStolen: card 42, final at attempt 1",
    },
}


class Example(Protocol):
    """The shape of an example."""

    SERVICES: list[Callable[[], object]]
    WORKFLOWS: list[type[Workflow]]

    def scenario(self, client: Client) -> Coroutine[Any, Any, dict[str, str]]: ...
    def main(self) -> Coroutine[Any, Any, None]: ...


EXAMPLES: dict[str, Example] = {
    "hello": hello,
    "booking_saga": booking_saga,
    "approval": approval,
    "carts": carts,
    "fan_out": fan_out,
    "film_lab": film_lab,
    "newsletter": newsletter,
    "parcels": parcels,
    "rate_limit": rate_limit,
    "retries": retries,
    "structured_logs": structured_logs,
}


def test_every_example_is_tested() -> None:
    files = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert files == EXAMPLES.keys() == OUTCOMES.keys()


def make_middleware(name: str) -> list[Middleware]:
    """Make the middlewares that an example needs."""
    return [make() for make in getattr(EXAMPLES[name], "MIDDLEWARE", ())]


@pytest.mark.parametrize("name", OUTCOMES)
def test_it_runs_on_its_own(name: str) -> None:
    program = ROOT / "examples" / f"{name}.py"
    run = subprocess.run([sys.executable, program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    for value in OUTCOMES[name].values():
        assert value in run.stdout


@pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])
@pytest.mark.parametrize("name", OUTCOMES)
def test_its_scenario_has_its_outcome(name: str, cache_size: int) -> None:
    """Also if each activation replays the whole history."""
    example = EXAMPLES[name]

    async def play() -> dict[str, str]:
        middleware = make_middleware(name)
        async with Simulation(cache_size=cache_size, middleware=middleware) as sim:
            for service in example.SERVICES:
                sim.add_service(service)
            for workflow in example.WORKFLOWS:
                sim.add_workflow(workflow)
            return await example.scenario(sim.client)

    assert Simulation.run(play()) == OUTCOMES[name]
