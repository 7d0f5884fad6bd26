"""Workflows that go on as new ones, while signals, calls and queries come."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow, WorkflowCanceledError, WorkflowHandle, query, workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw


class Counter(Workflow):
    """Adds up signals, some in each run, and goes on as a new run."""

    office = Workflow.new_service(Office)
    sums = Channel[int]()
    words = Channel[str]()

    def __init__(self) -> None:
        self.total = 0
        self.heard = list[int]()

    async def count(self, left: int, total: int, heard: list[int]) -> tuple[int, list[int]]:
        self.total, self.heard = total, heard
        for _ in range(min(left, 3)):
            amount, drawn = await self.sums.receive(), self.inline(draw)
            self.heard.append(amount)
            self.total += await self.office.add(amount, drawn) - drawn
            left -= 1
        if left:
            if left % 2:
                # A timer and a task that nobody waits for.
                self.timer(3600)
                self.dispatch(self.office.add, left, 1)
            self.continue_as_new(self.count, left, self.total, self.heard)
        return self.total, self.heard

    async def look(self, seconds: float) -> int:
        before = self.total
        await asyncio.sleep(seconds)
        return self.total - before

    async def double(self, number: int) -> int:
        return await self.office.add(number, number)

    @query
    def read(self) -> tuple[int, int]:
        return self.total, len(self.heard)


@workflow(name="Counter", version=1)
class NewCounter(Counter):
    """A version with the same code, which some workers may lack."""


async def simulate_runs(sim: Simulation) -> object:
    """A flood of signals over several runs: each is heard once, and in order (S20)."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Counter, NewCounter, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Counter).count, 10, 0, []) for _ in range(4)]

    async def flood(handle: WorkflowHandle[tuple[int, list[int]]], wait: float) -> tuple[int, list[int]]:
        counter = sim.client.get_workflow_by_id(Counter, handle.workflow_id)
        for number in range(10):
            await counter.sums.send(number, confirm=True)
            if number % 3 == 0:
                await sim.sleep(wait)
        return await handle.result()

    return await asyncio.gather(*(flood(handle, 0.05 * number) for number, handle in enumerate(handles)))


async def simulate_calls_over_runs(sim: Simulation) -> object:
    """Methods that are called while one run ends and the next one begins all return once."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Counter, NewCounter, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Counter).count, 12, 0, [])
    counter = sim.client.get_workflow_by_id(Counter, handle.workflow_id)
    calls = list[WorkflowHandle[int]]()
    last = (0, 0)
    for number in range(12):
        calls.append(await sim.client.dispatch(counter.double, number))
        if number % 4 == 0:
            await sim.client.dispatch(counter.look, 0.3)
        await counter.sums.send(number, confirm=True)
        seen = await sim.client.query(counter.read)
        assert seen >= last, "what a run has reached is not lost in the next one"
        last = seen
        await sim.sleep(0.05)
    doubled = [await each.result() for each in calls]
    return doubled, await handle.result()


async def simulate_cancelled_runs(sim: Simulation) -> object:
    """Whoever is cancelled while the next run waits has no next run."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Counter, NewCounter, retention=KEPT)
    ends = list[str]()
    for number in range(4):
        handle = await sim.client.dispatch(sim.client.new_workflow(Counter).count, 6, 0, [])
        counter = sim.client.get_workflow_by_id(Counter, handle.workflow_id)
        await sim.client.dispatch(counter.look, 50.0)
        for amount in range(3):
            await counter.sums.send(amount, confirm=True)
        await sim.sleep(1.0 + number)
        # The first run has ended its main method, and waits for the other one.
        await sim.client.cancel(counter, confirm=True)
        try:
            await handle.result()
        except WorkflowCanceledError:
            ends.append("canceled")
        else:
            ends.append("completed")
    return ends
