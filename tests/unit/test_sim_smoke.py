"""The thinnest slice: one workflow, one service, a signal, a timer, on virtual time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infinitic import Channel, Workflow
from infinitic_testing.simulation import Simulation


class Adder:
    async def add(self, x: int) -> int:
        return x + 1


class Sum(Workflow):
    adder = Workflow.new_service(Adder)
    channel = Channel[bool]()

    async def compute(self, i: int) -> int:
        first = await self.adder.add(i)
        others = await asyncio.gather(self.adder.add(first), self.dispatch(self.adder.add, first + 1))
        receiver = self.channel.receive()
        await (receiver | self.timer(timedelta(days=30)))
        return first + sum(others) + receiver.is_completed()


async def test_a_workflow_ends_by_its_timer(sim: Simulation) -> None:
    sim.add_service(Adder())
    sim.add_workflow(Sum)
    began = sim.now
    assert await sim.client.new_workflow(Sum).compute(5) == 6 + 7 + 8
    assert sim.now - began == timedelta(days=30)


async def test_a_workflow_ends_by_its_signal(sim: Simulation) -> None:
    sim.add_service(Adder())
    sim.add_workflow(Sum)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sum).compute, 7)
    await sim.client.get_workflow_by_id(Sum, handle.workflow_id).channel.send(True)
    assert await handle.result() == 8 + 9 + 10 + 1
