"""Custom ids: racing starts, and starts while the holder closes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infinitic import (
    Channel,
    RequestRefusedError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowUnknownError,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.repairs import Garage, insist
from tests.simulation.scenarios.services import KEPT, Office


class Order(Workflow):
    office = Workflow.new_service(Office)
    items = Channel[int]()

    async def fill(self, number: int) -> int:
        """Add up so many items."""
        total = 0
        for _ in range(number):
            total += await self.office.add(await self.items.receive(), 0)
        return total


async def simulate_racing_starts(sim: Simulation) -> object:
    """Ten starts of one custom id at once make one instance. The next ten make another."""
    sim.add_service(Office)
    sim.add_workflow(Order, retention=KEPT)
    client = sim.client
    totals: list[int] = []
    seen: set[str] = set()
    for number in range(3):
        start = client.new_workflow(Order, custom_id="order-7", tags={"orders"})
        handles: list[WorkflowHandle[int]] = await asyncio.gather(*(client.dispatch(start.fill, 2) for _ in range(10)))
        ids = {handle.workflow_id for handle in handles}
        assert len(ids) == 1, ids
        assert not ids & seen, "the custom id is free once its holder has ended"
        seen |= ids
        order = client.get_workflow_by_custom_id(Order, "order-7")
        for item in (number, 10):
            await order.items.send(item)
        # Who awaits instead of dispatching has the result of the same instance.
        awaited = await asyncio.gather(handles[0].result(), *(handle.result() for handle in handles))
        assert len(set(awaited)) == 1
        totals.append(awaited[0])
    return totals


async def simulate_attached_waiters(sim: Simulation) -> object:
    """Those who start it and those who attach all get the result of the one instance."""
    sim.add_service(Office)
    sim.add_workflow(Order, retention=KEPT)
    client = sim.client
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-8").fill, 1)
    waiting = [asyncio.create_task(client.new_workflow(Order, custom_id="order-8").fill(1)) for _ in range(4)]
    await sim.sleep(60.0)
    await client.get_workflow_by_id(Order, holder.workflow_id).items.send(5)
    return [await holder.result(), *await asyncio.gather(*waiting)]


async def simulate_start_or_signal(sim: Simulation) -> object:
    """Each item is in exactly one order, whoever starts it, and whenever it closes."""
    sim.add_service(Office)
    sim.add_workflow(Order, retention=KEPT)
    client = sim.client
    handles: dict[str, WorkflowHandle[int]] = {}
    for item in range(12):
        while True:
            handle = await client.dispatch(client.new_workflow(Order, custom_id="order-9").fill, 3)
            handles[handle.workflow_id] = handle
            order = client.get_workflow_by_id(Order, handle.workflow_id)
            try:
                await order.items.send(item, confirm=True)
            except WorkflowUnknownError:
                # It has closed since.
                continue
            break
    # The last ones wait for further items. An item that comes while an order ends is lost with it.
    last = await client.dispatch(client.new_workflow(Order, custom_id="order-9").fill, 3)
    for _ in range(3):
        await client.get_workflow_by_id(Order, last.workflow_id).items.send(0)
    handles[last.workflow_id] = last
    assert all([await handle.result() >= 0 for handle in handles.values()])
    return None


async def _cancel(sim: Simulation, handle: WorkflowHandle[str]) -> None:
    """Cancel an instance. Its start may be so late that the engine does not know it yet."""
    while True:
        try:
            await sim.client.cancel(handle, confirm=True)
        except WorkflowUnknownError:
            # It may also have attached to a child that was just cancelled, and have failed by that.
            try:
                await handle.result(timeout=60.0)
            except (WorkflowCanceledError, WorkflowFailedError):
                return
            except (TimeoutError, WorkflowUnknownError):
                continue
        else:
            with suppress(WorkflowCanceledError, WorkflowFailedError):
                await handle.result()
            return


class Buyer(Workflow):
    """Several of them have the same order filled."""

    order = Workflow.new_workflow(Order, custom_id="order-10", tags={"bought"})
    ready = Channel[bool]()

    async def buy(self, number: int) -> int:
        filling = self.dispatch(self.order.fill, 1)
        await self.ready.receive()
        await self.get_workflow_by_tag(Order, "bought").items.send(number)
        return await filling

    async def give_up(self) -> str:
        """Start or attach, and be cancelled."""
        return str(await self.order.fill(1))

    async def ask(self) -> int:
        return await self.get_workflow_by_custom_id(Counter, "counter").count(5)

    async def tell(self) -> list[bool]:
        """Signal itself, by a tag that it has."""
        # A broker that loses the order of a key may deliver the signal before the tag.
        await asyncio.sleep(60.0)
        await self.get_workflow_by_tag(Buyer, "tellers").ready.send(True)
        return [await self.ready.receive()]


class Counter(Workflow):
    office = Workflow.new_service(Office)
    total = 0

    async def run(self, number: int) -> int:
        await self.wait_until(lambda: self.total >= number)
        return self.total

    async def count(self, number: int) -> int:
        added = await self.office.add(number, 0)
        self.total += added
        return number


async def simulate_parents_of_one_child(sim: Simulation) -> object:
    """Parents that start a child with one custom id share it. All of them get its result."""
    sim.add_service(Office)
    sim.add_workflow(Order, Buyer, retention=KEPT)
    client = sim.client
    buyers = [await client.dispatch(client.new_workflow(Buyer, tags={"buyers"}).buy, 7) for _ in range(4)]
    # Until all of them have started it, or attached to it.
    await sim.sleep(600.0)
    await client.get_workflow_by_tag(Buyer, "buyers").ready.send(True)
    return [await buyer.result() for buyer in buyers]


async def simulate_cancel_of_one_parent(sim: Simulation) -> object:
    """The cancelled parent has attached to a child, which runs on for the other one."""
    sim.add_service(Office)
    sim.add_workflow(Order, Buyer, retention=KEPT)
    client = sim.client
    order = client.get_workflow_by_custom_id(Order, "order-10")
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-10").fill, 1)
    buyer = await client.dispatch(client.new_workflow(Buyer).give_up)
    await sim.sleep(1.0)
    await _cancel(sim, buyer)
    await order.items.send(3)
    return await holder.result()


async def simulate_cancel_of_the_starting_parent(sim: Simulation) -> object:
    """A child that its parent has started with a custom id is cancelled with it, and frees it."""
    sim.add_service(Office)
    sim.add_workflow(Order, Buyer, retention=KEPT)
    client = sim.client
    for seconds in (0.0, 0.001, 0.02, 0.3, 5.0):
        buyer = await client.dispatch(client.new_workflow(Buyer).give_up)
        await sim.sleep(seconds)
        await _cancel(sim, buyer)
    await sim.sleep(600.0)
    return await client.get_ids(client.get_workflow_by_custom_id(Order, "order-10"))


async def simulate_calls_by_custom_id(sim: Simulation) -> object:
    """Methods of the holder of a custom id, called by workflows that only know the custom id."""
    sim.add_service(Office)
    sim.add_workflow(Counter, Buyer, retention=KEPT)
    client = sim.client
    counter = await client.dispatch(client.new_workflow(Counter, custom_id="counter").run, 20)
    askers = [await client.dispatch(client.new_workflow(Buyer).ask) for _ in range(4)]
    counted = [await asker.result() for asker in askers]
    return [*counted, await counter.result()]


async def simulate_own_tag(sim: Simulation) -> object:
    """A workflow signals a tag that it has itself (S31, F5)."""
    sim.add_service(Office)
    sim.add_workflow(Order, Buyer, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Buyer, tags={"tellers"}).tell) for _ in range(3)]
    return [await handle.result() for handle in handles]


class Mending(Workflow):
    garage = Workflow.new_service(Garage)

    async def mend(self, times: int) -> int:
        return await self.garage.mend(1, times)


async def simulate_reopened_with_custom_id(sim: Simulation) -> object:
    """A failed instance is re-opened. It has its custom id then, and frees it at its end (S34)."""
    sim.add_service(Garage)
    sim.add_workflow(Mending, retention=KEPT)
    start = sim.client.new_workflow(Mending, custom_id="car-1", tags={"cars"})
    results: list[int] = []
    seen: set[str] = set()
    for _ in range(2):
        handle = await sim.client.dispatch(start.mend, 2)
        result, _ = await insist(sim, handle)
        results.append(result)
        assert handle.workflow_id not in seen, "the custom id is free once the result is known"
        seen.add(handle.workflow_id)
    return results


async def simulate_reopened_or_started_anew(sim: Simulation) -> object:
    """Operators re-open failed instances while others start with the same custom id."""
    sim.add_service(Garage)
    sim.add_workflow(Mending, retention=KEPT)
    start = sim.client.new_workflow(Mending, custom_id="car-2")

    async def work(number: int) -> None:
        handle = await sim.client.dispatch(start.mend, number % 2)
        for _ in range(3):
            try:
                await handle.result()
            except WorkflowFailedError:
                # Another one may have the custom id by now, or have asked for the same.
                with suppress(RequestRefusedError):
                    await sim.client.retry_tasks(handle)
            else:
                return

    await asyncio.gather(*(work(number) for number in range(6)))
    # Who wins depends on the order.
    return None
