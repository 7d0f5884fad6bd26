"""Custom ids: racing starts, and starts while the holder closes."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow, WorkflowHandle, WorkflowUnknownError
from infinitic_testing.simulation import Simulation
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
