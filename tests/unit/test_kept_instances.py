"""The instances of a simulation at its end: all of them are replayed, as production may do it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from infinitic import NonDeterminismError, Workflow, workflow
from infinitic.errors import WorkflowFailedError
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation

SEEN: list[str] = []


class Adder:
    async def add(self, x: int) -> int:
        return x + 1


class Careless(Workflow):
    """Its methods depend on what happened to other objects of the same class."""

    adder = Workflow.new_service(Adder)

    async def result(self) -> int:
        SEEN.append("run")
        await self.timer(1)
        return len(SEEN)

    async def argument(self) -> int:
        SEEN.append("run")
        return await self.adder.add(len(SEEN)) * 0

    async def time(self) -> None:
        SEEN.append("run")
        await self.timer(len(SEEN))

    async def failure(self) -> None:
        SEEN.append("run")
        await self.timer(1)
        raise ValueError("x") if len(SEEN) == 1 else KeyError("x")

    async def eviction(self) -> int:
        if SEEN:
            await self.timer(1)
        try:
            await self.timer(1)
            await self.timer(1)
            await self.timer(1)
        except GeneratorExit:
            SEEN.append("evicted")
            raise
        return 0


@workflow(name="Careless", replay_check="none")
class Unchecked(Careless): ...


class Careful(Workflow):
    async def fail(self) -> None:
        await self.timer(1)
        raise ValueError(f"{object()} is no trip")

    async def wait(self, seconds: float) -> float:
        await self.timer(seconds)
        return seconds


def play(test: Callable[[Simulation], Coroutine[Any, Any, object]]) -> None:
    async def main() -> None:
        async with Simulation() as sim:
            await test(sim)

    SEEN.clear()
    run(main())


def play_careless(name: str, cls: type[Careless] = Careless) -> None:
    async def test(sim: Simulation) -> None:
        sim.add_service(Adder)
        sim.add_workflow(cls)
        handle = await sim.client.dispatch(getattr(sim.client.new_workflow(cls), name))
        try:
            await handle.result()
        except WorkflowFailedError:
            assert name == "failure"

    play(test)


REPORTS = {
    "result": r"holds the return of method \w+ with 1, the code asks for the return of method \w+ with 3",
    "argument": r"holds task Adder.add with \[1\], the code asks for task Adder.add with \[2\], at .* in Careless.arg",
    "time": r"holds a timer, due 2030-01-01T00:00:01\+00:00, the code asks for a timer, due .*:02\+00:00, at .*.time",
    "failure": r"holds the failure of method \w+ \(builtins.ValueError\), the code asks for .* \(builtins.KeyError\)",
    "eviction": "holds the return of .* with 0, the code asks for a timer, due .*:04.*, at .* in Careless.eviction",
}


@pytest.mark.parametrize("name", REPORTS)
def test_code_that_depends_on_objects_in_memory(name: str) -> None:
    with pytest.raises(NonDeterminismError, match=REPORTS[name]):
        play_careless(name)


def test_a_workflow_may_ask_not_to_be_checked() -> None:
    play_careless("result", Unchecked)


def test_texts_of_errors_may_have_addresses() -> None:
    async def test(sim: Simulation) -> None:
        sim.add_workflow(Careful)
        with pytest.raises(WorkflowFailedError):
            await sim.client.new_workflow(Careful).fail()

    play(test)


async def start_and_forget(sim: Simulation) -> None:
    """An instance ends, and its retention, too, while another one runs."""
    sim.add_workflow(Careless, retention=60)
    sim.add_workflow(Careful)
    await sim.client.new_workflow(Careless).result()
    await sim.client.new_workflow(Careful).wait(timedelta(days=2).total_seconds())
    assert sum(1 for key in sim.system.database.list_keys() if key.name == "Careless") == 0


def test_an_instance_whose_retention_is_over_is_replayed() -> None:
    with pytest.raises(NonDeterminismError, match="Workflow Careless"):
        play(start_and_forget)


async def test_its_steps_are_still_there(sim: Simulation) -> None:
    sim.add_workflow(Careful, retention=60)
    handle = await sim.client.dispatch(sim.client.new_workflow(Careful).wait, 1)
    await handle.result()
    before = sim.steps(handle)
    await sim.client.new_workflow(Careful).wait(timedelta(days=2).total_seconds())
    assert len(sim.system.database.list_keys()) == 1
    assert sim.steps(handle) == before != []
