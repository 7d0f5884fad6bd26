"""The runner of a simulation runs parts of a test one after the other, in any order of its loop."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Workflow
from infinitic_testing.runner import Runner
from infinitic_testing.simulation import Simulation


class Waits(Workflow):
    async def wait(self, seconds: float) -> float:
        await self.timer(seconds)
        return seconds


async def give(value: int) -> int:
    """It ends in one step, perhaps before anything else of the simulation has run."""
    return value


async def fail() -> None:
    raise LookupError("x")


@pytest.mark.parametrize("seed", range(20))
def test_short_parts_in_any_order(seed: int) -> None:
    runner = Runner(Simulation(seed=seed, profile="seeded"))
    assert [runner.run(give(value)) for value in range(5)] == [0, 1, 2, 3, 4]
    runner.close()
    runner.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_short_part_that_fails(seed: int) -> None:
    runner = Runner(Simulation(seed=seed, profile="seeded"))
    with pytest.raises(LookupError):
        runner.run(fail())
    runner.close()


@pytest.mark.parametrize("profile", ["fifo", "seeded"])
def test_parts_share_one_simulation(profile: str) -> None:
    sim = Simulation(seed=1, profile=profile)
    sim.add_workflow(Waits)
    runner = Runner(sim)
    assert runner.run(sim.client.new_workflow(Waits).wait(60)) == 60
    runner.run_test(sim.sleep(60))
    assert runner.virtual_seconds >= 120
    assert bool(runner.trace_digest) == (profile == "seeded")


def test_an_interrupted_part_does_not_go_on() -> None:
    steps: list[str] = []

    async def part() -> None:
        steps.append("begins")
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(1)
        steps.append("goes on")

    def interrupt() -> None:
        raise KeyboardInterrupt

    runner = Runner(Simulation())
    with pytest.raises(KeyboardInterrupt):
        runner.run(part())
    runner.close()
    assert steps == ["begins"]
