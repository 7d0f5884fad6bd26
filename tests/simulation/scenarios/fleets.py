"""Families whose members have custom ids, fail, and are run again, or start late."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infinitic import Channel, Deferred, Workflow, WorkflowFailedError, WorkflowUnknownError, ids, query
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.repairs import Garage, Part
from tests.simulation.scenarios.services import KEPT


class Fleet(Workflow):
    """One child in each run. In one of them it fails, and so does the run."""

    garage = Workflow.new_service(Garage)
    part = Workflow.new_workflow(Part, tags={"parts"})
    words = Channel[str]()

    def __init__(self) -> None:
        self.done = list[int]()

    async def work(self, left: int, failing: int, done: list[int]) -> tuple[list[int], list[str]]:
        self.done = done
        fitted = await self.part.fit(left, 1 if left == failing else 0)
        self.done.append(await self.garage.polish(fitted))
        if left:
            self.continue_as_new(self.work, left - 1, failing, self.done)
        receiver = self.words.receive()
        return self.done, [await receiver for _ in range(2)]

    async def twice(self, number: int) -> int:
        return await self.garage.polish(2 * number)

    @query
    def count(self) -> int:
        return len(self.done)


class Owner(Workflow):
    """Has a fleet with a custom id, and a custom id of its own."""

    fleet = Workflow.new_workflow(Fleet, custom_id="fleet-1", tags={"fleets"})

    async def run(self, left: int, failing: int) -> list[int]:
        return (await self.fleet.work(left, failing, []))[0]


MOST = 2000
"""Seconds to wait for a re-opening, at most."""


async def simulate_fleets_that_fail(sim: Simulation) -> object:
    """A signal is sent again and again, until the instance that it is for is re-opened."""
    sim.add_service(Garage)
    for each in (Owner, Fleet, Part):
        sim.add_workflow(each, retention=KEPT)
    client = sim.client
    outcomes: list[object] = []
    for failing in (2, 1, 0):
        owner = await client.dispatch(client.new_workflow(Owner, custom_id="owner-1").run, 2, failing)
        with suppress(WorkflowFailedError):
            await owner.result()
            raise AssertionError("it did not fail")
        await sim.sleep(30)
        fleet = ids.remote_id(owner.workflow_id, 0, 0)
        stub = client.get_workflow_by_id(Fleet, fleet)
        child = client.get_workflow_by_id(Part, ids.remote_id(fleet, 2 - failing, 0))
        asked = asyncio.create_task(client.retry_tasks(child))
        await _signal_when_open(sim, stub, "a")
        await asked
        await stub.twice(2)
        await client.query(stub.count)
        await stub.words.send("b", confirm=True)
        for _ in range(MOST):
            # The owner is told after its fleet, and fails until then.
            try:
                outcomes.append(await owner.result())
                break
            except WorkflowFailedError:
                await sim.sleep(1)
        outcomes.append((await client.get_handle(Fleet.work, fleet).result())[1])
        await sim.sleep(30)
    return outcomes


async def _signal_when_open(sim: Simulation, stub: Fleet, word: str) -> None:
    for _ in range(MOST):
        try:
            await stub.words.send(word, confirm=True)
        except WorkflowUnknownError:
            await sim.sleep(1)
        else:
            return


class Stock(Workflow):
    words = Channel[str]()

    async def count(self, words: int) -> list[str]:
        receiver = self.words.receive()
        return sorted([await receiver for _ in range(words)])

    async def add(self, number: int) -> int:
        return number + 1

    async def hear(self, cleanup: float) -> str:
        try:
            return await self.words.receive()
        except asyncio.CancelledError:
            await self.timer(cleanup)
            raise


async def _wait_for(deferred: Deferred[str]) -> str:
    return await deferred


class Shop(Workflow):
    stock = Workflow.new_workflow(Stock, custom_id="stock-1")
    garage = Workflow.new_service(Garage)

    async def open(self) -> tuple[list[str], int]:
        counted = self.dispatch(self.stock.count, 2)
        child = self.get_workflow_by_id(Stock, counted.id)
        await child.words.send("b")
        await child.words.send("a")
        added = await child.add(1)
        return await counted, added

    async def mend(self, cleanup: float) -> list[str]:
        """The failure of the task cancels the child. Both are asked for once more."""
        hearing = self.dispatch(self.stock.hear, cleanup)
        shown = [hearing.id]
        await self.garage.polish(1)
        async with asyncio.TaskGroup() as group:
            heard = group.create_task(_wait_for(hearing))
            await self.garage.mend(1, 1)
            shown.append(hearing.id)
            await self.get_workflow_by_id(Stock, hearing.id).words.send("go on")
        return [*shown, heard.result()]


async def simulate_children_told_early(sim: Simulation) -> object:
    """A parent signals and calls a child by its id. Its start goes another way."""
    sim.add_service(Garage)
    for each in (Shop, Stock):
        sim.add_workflow(each, retention=KEPT)
    new = sim.client.new_workflow(Shop)
    return [await new.open() for _ in range(4)]


async def simulate_children_asked_for_again(sim: Simulation) -> object:
    """A child runs again whose clean-up, once it was cancelled, takes a while."""
    sim.add_service(Garage)
    for each in (Shop, Stock):
        sim.add_workflow(each, retention=KEPT)
    outcomes: list[object] = []
    for cleanup in (0.0, 3.0, 30.0):
        shop = await sim.client.dispatch(sim.client.new_workflow(Shop).mend, cleanup)
        with suppress(WorkflowFailedError):
            await shop.result()
            raise AssertionError("it did not fail")
        await sim.client.retry_tasks(shop)
        first, second, heard = await shop.result()
        outcomes.append([first != second, heard])
    return outcomes
