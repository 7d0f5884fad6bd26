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


class Changed(Workflow):
    """Code that was changed without a new version."""

    office = Workflow.new_service(Office)
    orders = Channel[int]()

    async def sell(self, number: int) -> list[int]:
        prices = list[int]()
        for each in range(number):
            drawn = self.inline(draw)
            price = await self.office.add(await self.orders.receive(), drawn) - drawn
            if each and self.patched("discount"):
                price = await self.office.add(price, -1)
            prices.append(price + (1000 if self.patched(f"fee-{each % 2}") else 0))
        return prices


async def simulate_patches(sim: Simulation) -> object:
    """Each instance takes the changes of its code, and has them in every replay (S18)."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Changed, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Changed).sell, 5) for _ in range(4)]
    for order in range(5):
        for handle in handles:
            await sim.client.get_workflow_by_id(Changed, handle.workflow_id).orders.send(order, confirm=True)
        await sim.sleep(0.3)
    return [await handle.result() for handle in handles]
