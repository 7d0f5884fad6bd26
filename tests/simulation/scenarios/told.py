"""Meta of starts, calls and signals, under faults: each method finds what its own caller gave."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office


class Reception(Workflow):
    office = Workflow.new_service(Office)
    letters = Channel[int]()

    def __init__(self) -> None:
        self.guests = list[str]()

    async def open(self, guests: int) -> list[str]:
        await self.wait_until(lambda: len(self.guests) == guests)
        last = await self.letters.receive()
        return [*sorted(self.guests), self.greet(), str(last)]

    async def check_in(self, room: int) -> str:
        """Tasks and pauses, so that methods run beside each other and move between workers."""
        before = self.greet()
        await asyncio.sleep(room / 10)
        assert await self.office.add(room, 1) == room + 1
        assert self.greet() == before
        self.guests.append(f"{room} {before}")
        return before

    def greet(self) -> str:
        meta = self.context.meta
        return f"{meta['house'].decode()} {meta.get('guest', b'nobody').decode()}"


async def simulate_meta_of_calls(sim: Simulation) -> object:
    """Eight calls with meta of their own, and one without, to an instance that has some."""
    sim.add_service(Office)
    sim.add_workflow(Reception, retention=KEPT)
    stub = sim.client.new_workflow(Reception, meta={"house": b"Ritz"})
    handle = await sim.client.dispatch(stub.open, 9)
    given = [{"guest": f"guest {room}".encode(), **({"house": b"Annex"} if room > 5 else {})} for room in range(8)]
    stubs = [sim.client.get_workflow_by_id(Reception, handle.workflow_id, meta=meta) for meta in [*given, {}]]
    greeted = await asyncio.gather(*(stub.check_in(room) for room, stub in enumerate(stubs)))
    await stubs[0].letters.send(7, meta={"trace": b"t"})
    return [greeted, await handle.result()]
