"""Stubs of clients: methods and channels may have any public name, also one that we use."""

from __future__ import annotations

from infinitic import Channel, Workflow
from infinitic_testing.simulation import Simulation


class Filing(Workflow):
    client = Channel[str]()
    workflow_id = Channel[str]()

    async def meta(self) -> str:
        return "meta"

    async def spec(self) -> str:
        return await self.client.receive() + await self.workflow_id.receive()

    async def target(self) -> str:
        return "target"


async def test_no_name_of_ours_is_in_the_way(sim: Simulation) -> None:
    sim.add_workflow(Filing)
    assert await sim.client.new_workflow(Filing).meta() == "meta"
    assert await sim.client.new_workflow(Filing).target() == "target"
    handle = await sim.client.dispatch(sim.client.new_workflow(Filing).spec)
    stub = sim.client.get_workflow_by_id(Filing, handle.workflow_id)
    await stub.client.send("a")
    await stub.workflow_id.send("b")
    assert await handle.result() == "ab"
    assert repr(stub) == f"<stub of Filing {handle.workflow_id}>"
