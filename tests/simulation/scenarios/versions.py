"""Two versions of one workflow, of which a worker may lack one."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow, workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw


@workflow(name="Tariff")
class TariffOne(Workflow):
    office = Workflow.new_service(Office)
    orders = Channel[int]()

    async def sell(self, number: int) -> list[int]:
        prices = list[int]()
        for _ in range(number):
            drawn = self.inline(draw)
            prices.append(await self.office.add(await self.orders.receive() + 10, drawn) - drawn)
        return prices


@workflow(name="Tariff", version=1)
class TariffTwo(TariffOne):
    async def sell(self, number: int) -> list[int]:
        prices = list[int]()
        for _ in range(number):
            order = await self.orders.receive()
            both = await asyncio.gather(self.office.add(order, 4), self.office.multiply_slowly(3, 2))
            prices.append(sum(both))
        return prices


async def simulate_versions(sim: Simulation) -> object:
    """Both versions give the same prices by different commands. An instance keeps its version."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(TariffOne, TariffTwo, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(TariffOne).sell, 5) for _ in range(6)]
    for order in range(5):
        for handle in handles:
            await sim.client.get_workflow_by_id(TariffOne, handle.workflow_id).orders.send(order)
        await sim.sleep(0.4)
    return [sorted(await handle.result()) for handle in handles]
