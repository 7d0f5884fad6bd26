"""`max_per_second`: at most so many attempts begin in a second, in each worker."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from infinitic import ExponentialBackoff, UsageError, Workflow, batch, service, task
from infinitic.runtime.service_executor.pace import Pace
from infinitic.topics import service_executor
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.simulation.world import World


class Gate:
    """Notes when its tasks begin."""

    def __init__(self) -> None:
        self.begun = list[float]()

    def note(self) -> int:
        self.begun.append(round(asyncio.get_running_loop().time(), 6))
        return len(self.begun)

    async def enter(self, number: int) -> int:
        self.note()
        return number

    async def stay(self, number: int) -> int:
        self.note()
        await asyncio.sleep(1000.0)
        return number

    @task(retry=ExponentialBackoff(minimum_seconds=0.001, maximum_seconds=0.001, maximum_retries=20))
    async def stumble(self, number: int) -> int:
        if self.note() < 10:
            raise LookupError("not yet")
        return number


@service(name="Gate")
class Together(Gate):
    @batch("enter", max_messages=4, max_seconds=0.0)
    async def enter_all(self, numbers: dict[str, int]) -> dict[str, int]:
        self.note()
        return numbers


class Guests(Workflow):
    gate = Workflow.new_service(Gate)

    async def run(self, name: str, count: int) -> list[int]:
        return list(await asyncio.gather(*(getattr(self.gate, name)(number) for number in range(count))))


def find_gaps(begun: list[float]) -> list[float]:
    return [round(after - before, 6) for before, after in pairwise(begun)]


@pytest.mark.parametrize(("rate", "gap"), [(10, 0.1), (0.5, 2.0)])
async def test_attempts_begin_evenly_spread(sim: Simulation, rate: float, gap: float) -> None:
    gate = Gate()
    sim.add_service(gate, max_per_second=rate)
    sim.add_workflow(Guests)
    assert await sim.client.new_workflow(Guests).run("enter", 30) == list(range(30))
    assert find_gaps(gate.begun) == [gap] * 29


async def test_retries_count_and_long_tasks_do_not_wait_for_one_another(sim: Simulation) -> None:
    gate = Gate()
    sim.add_service(gate, max_per_second=4)
    sim.add_workflow(Guests)
    await sim.client.new_workflow(Guests).run("stumble", 1)
    assert len(gate.begun) == 10
    assert min(find_gaps(gate.begun)) == 0.25
    gate.begun.clear()
    await sim.client.new_workflow(Guests).run("stay", 8)
    assert find_gaps(gate.begun) == [0.25] * 7


async def test_all_that_may_run_at_once_do_so_at_a_low_rate(sim: Simulation) -> None:
    """What runs is in hand until it is reported. It must not count as what waits."""
    gate = Gate()
    sim.add_service(gate, max_per_second=0.5)
    sim.add_workflow(Guests)
    await sim.client.new_workflow(Guests).run("stay", 10)
    assert find_gaps(gate.begun) == [2.0] * 9


async def test_a_pause_is_not_made_up_for(sim: Simulation) -> None:
    gate = Gate()
    sim.add_service(gate, max_per_second=10)
    sim.add_workflow(Guests)
    await sim.client.new_workflow(Guests).run("enter", 5)
    await sim.sleep(1_000)
    await sim.client.new_workflow(Guests).run("enter", 5)
    assert sorted(find_gaps(gate.begun))[:8] == [0.1] * 8


async def test_another_service_of_the_worker_has_a_pace_of_its_own(sim: Simulation) -> None:
    class Office:
        async def work(self, number: int) -> int:
            return number

    class Mixed(Workflow):
        gate = Workflow.new_service(Gate)
        office = Workflow.new_service(Office)

        async def run(self) -> float:
            slow = [self.dispatch(self.gate.enter, number) for number in range(20)]
            began = self.now()
            for number in range(20):
                await self.office.work(number)
            took = (self.now() - began).total_seconds()
            for each in slow:
                await each
            return took

    sim.add_service(Gate(), max_per_second=1)
    sim.add_service(Office())
    sim.add_workflow(Mixed)
    assert await sim.client.new_workflow(Mixed).run() < 1.0


async def test_each_task_of_a_batch_counts(sim: Simulation) -> None:
    gate = Together()
    sim.add_service(gate, max_per_second=8)
    sim.add_workflow(Guests)
    await sim.client.new_workflow(Guests).run("enter", 20)
    assert len(gate.begun) >= 5
    took = gate.begun[-1] - gate.begun[0]
    # The last batch may have been the smallest one.
    assert took >= (20 - 4) / 8


def test_what_waits_for_its_turn_stays_with_the_broker_for_others() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            slow, fast = Gate(), Gate()
            worker = world.worker()
            worker.add_service(slow, max_per_second=2)
            worker.add_workflow(Guests)
            world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Guests).run, "enter", 100)
            await asyncio.sleep(5.0)
            stats = (await world.transport.stats(service_executor("Gate"))).subscriptions["service-executor"]
            assert stats.unacked <= 5
            other = world.worker()
            other.add_service(fast)
            world.start(other)
            await handle.result()
            assert len(slow.begun) <= 16
            assert len(slow.begun) + len(fast.begun) == 100
            await world.settle()

    run(main())


def test_a_worker_that_waits_for_its_turn_does_nothing_meanwhile() -> None:
    """Its timer is the only one: between two begins no asyncio task runs."""

    async def main() -> None:
        world = World()
        async with world.open():
            gate, worker = Gate(), world.worker()
            worker.add_service(gate, max_per_second=0.001)
            worker.add_workflow(Guests)
            world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Guests).run, "enter", 3)
            assert await handle.result() == [0, 1, 2]
            assert find_gaps(gate.begun) == [1000.0] * 2

    run(main())


def test_S40_a_worker_that_stops_hands_back_what_waits_for_its_turn() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            first, second = Gate(), Gate()
            worker = world.worker()
            worker.add_service(first, max_per_second=5)
            worker.add_workflow(Guests)
            async with worker.running():
                handle = await world.client.dispatch(world.client.new_workflow(Guests).run, "enter", 50)
                await asyncio.sleep(2.0)
            other = world.worker()
            other.add_service(second)
            other.add_workflow(Guests)
            world.start(other)
            assert await handle.result() == list(range(50))
            assert len(first.begun) <= 12
            await world.settle()
            assert world.backlog() == {}

    run(main())


def test_high_rates_begin_a_few_at_a_time() -> None:
    async def main() -> list[float]:
        pace, begun = Pace(1_000), list[float]()
        loop = asyncio.get_running_loop()
        while len(begun) < 3_000:
            if (delay := pace.compute_delay()) > 0:
                await asyncio.sleep(delay)
            else:
                pace.note_begun(1)
                begun.append(loop.time())
        return begun

    begun = run(main())
    for start in (0.0, 0.5, 1.234):
        first = begun[0] + start
        assert sum(first <= each < first + 1.0 for each in begun) <= 1_010
    assert begun[-1] - begun[0] >= 2.98


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "10"])
async def test_a_rate_is_a_number_above_zero(sim: Simulation, given: Any) -> None:
    with pytest.raises(UsageError, match="max_per_second must be a number above zero"):
        sim.add_service(Gate(), max_per_second=given)
