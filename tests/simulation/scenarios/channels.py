"""One channel and all that a receiver may ask: order, types, filters, limits, lost races."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infinitic import Channel, ChannelClosedError, Workflow, all_of
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT


class Switchboard(Workflow):
    calls = Channel[int | str]()
    noise = Channel[str](keep=0)
    lost = False

    async def connect(self) -> list[int | str]:
        heard = list[int | str](await all_of(self.calls.receive(), self.calls.receive()))
        numbers = self.calls.receive(int, limit=2)
        heard += [await numbers, await numbers]
        try:
            heard.append(await numbers)
        except ChannelClosedError:
            heard.append("closed")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                heard.append(await self.calls.receive(where="?@ > 1000"))
        heard += [await self.calls.receive() for _ in range(3)]
        race = self.calls.receive() | self.timer(0.2)
        await race
        self.lost = True
        heard.append(await self.calls.receive())
        return heard

    async def wait_for_lost_race(self) -> bool:
        await self.wait_until(lambda: self.lost)
        return True


async def simulate_receivers(sim: Simulation) -> object:
    """Confirmed signals, so that their order is fixed. The last one comes after a lost race."""
    sim.add_workflow(Switchboard, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Switchboard).connect)
    board = sim.client.get_workflow_by_id(Switchboard, handle.workflow_id)
    for call in (1, 2, 3, "a", 4, "b", 5):
        await board.calls.send(call, confirm=True)
        await board.noise.send("nobody listens")
    assert await board.wait_for_lost_race()
    await board.calls.send(2000)
    return await handle.result()
