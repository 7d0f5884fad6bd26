"""Thousands of instances with one tag: messages reach all of them, while they close."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow
from infinitic.storage import TagKey, TagKind
from infinitic_testing.simulation import Simulation

COUNT = 1200
"""More than a page."""


class Member(Workflow):
    letters = Channel[int]()
    total = 0

    async def listen(self, seconds: float) -> int:
        """Rest so long, and return what came meanwhile."""
        await asyncio.sleep(seconds)
        return self.total

    async def add(self, number: int) -> None:
        self.total += number


async def test_S33_a_broadcast_reaches_thousands_while_some_of_them_close(sim: Simulation) -> None:
    sim.add_workflow(Member)
    client = sim.client
    # Every second one closes before the second broadcast.
    handles = [
        await client.dispatch(client.new_workflow(Member, tags={"crowd"}).listen, 10.0 + 20.0 * (number % 2))
        for number in range(COUNT)
    ]
    crowd = client.get_workflow_by_tag(Member, "crowd")
    assert len(await client.get_ids(crowd)) == COUNT
    await client.broadcast(crowd.add, 1)
    await sim.sleep(15.0)
    assert len(await client.get_ids(crowd)) == COUNT // 2
    await client.broadcast(crowd.add, 10)
    await sim.sleep(30.0)
    assert [await handle.result() for handle in handles] == [1, 11] * (COUNT // 2)
    assert sim.system.database.tags.count(TagKey(TagKind.WORKFLOW, "Member", "crowd")) == 0
