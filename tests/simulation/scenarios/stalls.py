"""Code that cannot run, until somebody deploys it again and has its instances run once more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from infinitic import Channel, RequestRefusedError, Workflow, WorkflowCodeError
from infinitic.client.handles import WorkflowHandle
from infinitic.storage import Flag, Query
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office


class Reckless(Workflow):
    """Does what workflow code must not do, until somebody takes it out of the code.

    Attributes:
        is_repaired: whether that was done. It stands for the code that is deployed.
    """

    office = Workflow.new_service(Office)
    orders = Channel[int]()
    is_repaired = False

    async def run(self, orders: int) -> int:
        total = await self.office.add(0, 1)
        for number in range(orders):
            total += await self.orders.receive()
            if number == 1 and not type(self).is_repaired:
                Path(__file__).read_bytes()  # noqa: ASYNC240 (this is the mistake)
            total = await self.office.add(total, 0)
        return total


async def simulate_stalls(sim: Simulation) -> object:
    """Instances stall, and keep what comes meanwhile. An operator has them run again."""
    Reckless.is_repaired = False
    sim.add_service(Office)
    sim.add_workflow(Reckless, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Reckless).run, 6) for _ in range(3)]
    for handle in handles:
        for _ in range(6):
            await sim.client.get_workflow_by_id(Reckless, handle.workflow_id).orders.send(2)
    ids = {handle.workflow_id for handle in handles}
    while {found.key.id for found in (await sim.storage.states.find(Query(flag=Flag.STALLED))).found} != ids:
        await sim.sleep(0.5)
    Reckless.is_repaired = True
    return await asyncio.gather(*(_resume(sim, handle) for handle in handles))


async def _resume(sim: Simulation, handle: WorkflowHandle[int]) -> int:
    """Have an instance run again, until it does."""
    for _ in range(20):
        await sim.client.retry_workflow_task(handle)
        await sim.sleep(1.0)
        # While a worker says that it stalls, whoever asks about it is told so. One that has closed
        # refuses the request, as nothing of it has failed.
        with suppress(WorkflowCodeError, RequestRefusedError):
            await sim.client.retry_workflow_task(handle, confirm=True)
        with suppress(WorkflowCodeError):
            return await handle.result()
    raise AssertionError("it stalls for ever")
