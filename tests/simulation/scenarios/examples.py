"""The programs of `examples/`, which users copy.

Some of their outcomes depend on how long things take. A fault may take longer than their limits,
so such outcomes are checked here, and replaced by words that do not depend on time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from examples import approval, booking_saga, fan_out, film_lab, hello, retries
from infinitic import Client, Workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT


class Example(Protocol):
    """The shape of an example."""

    SERVICES: list[Callable[[], object]]
    WORKFLOWS: list[type[Workflow]]

    def scenario(self, client: Client) -> Coroutine[Any, Any, dict[str, str]]: ...


async def _play(sim: Simulation, example: Example) -> dict[str, str]:
    for service in example.SERVICES:
        sim.add_service(service)
    for workflow in example.WORKFLOWS:
        sim.add_workflow(workflow, retention=KEPT)
    # Examples tell what they do, also after their outcome is known: when a task comes again.
    vars(example)["print"] = _say_nothing
    return await example.scenario(sim.client)


def _say_nothing(*words: object) -> None:
    """Take the place of `print`."""


async def simulate_hello(sim: Simulation) -> object:
    """The example `hello`."""
    return await _play(sim, hello)


async def simulate_booking_saga(sim: Simulation) -> object:
    """The example `booking_saga`: what was booked is undone in reverse order."""
    return await _play(sim, booking_saga)


async def simulate_fan_out(sim: Simulation) -> object:
    """The example `fan_out`."""
    return await _play(sim, fan_out)


async def simulate_film_lab(sim: Simulation) -> object:
    """The example `film_lab`: somebody outside ends a task, and another one goes on."""
    return await _play(sim, film_lab)


async def simulate_approval(sim: Simulation) -> object:
    """The example `approval`. An answer may come after the deadline."""
    outcome = await _play(sim, approval)
    late = "nobody answered in time"
    assert outcome["desk"] in ("order of a desk, approved by Grace", late), outcome
    assert outcome["yacht"] in ("refused by Grace", late), outcome
    assert outcome["lamp"] == late, outcome
    return sorted(outcome)


async def simulate_retries(sim: Simulation) -> object:
    """The example `retries`. An attempt may time out once more than it should."""
    outcome = await _play(sim, retries)
    return {what: re.sub(r"attempt \d", "attempt", text) for what, text in outcome.items()}
