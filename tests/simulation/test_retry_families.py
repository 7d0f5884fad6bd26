"""S34: parents that have failed by a child go on when the failed tasks of that child run again."""

from __future__ import annotations

import pytest

from infinitic import Workflow, WorkflowFailedError, WorkflowHandle, ids
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.repairs import Car, Engine, Garage, Part


def host(sim: Simulation) -> None:
    sim.add_service(Garage)
    for each in (Part, Engine, Car):
        sim.add_workflow(each)


async def fail(handle: WorkflowHandle[int]) -> None:
    with pytest.raises(WorkflowFailedError):
        await handle.result()


class Careful(Workflow):
    part = Workflow.new_workflow(Part)

    async def build(self) -> int:
        try:
            return await self.part.fit(5, 1)
        except WorkflowFailedError:
            return 0


class TestParents:
    async def test_parents_go_on_in_turn(self, sim: Simulation) -> None:
        host(sim)
        handle = await sim.client.dispatch(sim.client.new_workflow(Car).build, 5, 1)
        await fail(handle)
        await sim.sleep(3600)
        child = ids.remote_id(handle.workflow_id, 0, 0)
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(child, 0, 0))
        await sim.client.retry_tasks(part)
        assert await handle.result() == 6
        for each in (part, sim.client.get_workflow_by_id(Engine, child), handle):
            assert (await sim.client.describe(each)).status is WorkflowStatus.COMPLETED

    @pytest.mark.infinitic(cache_size=0)
    async def test_they_may_fail_once_more_and_go_on_again(self, sim: Simulation) -> None:
        host(sim)
        handle = await sim.client.dispatch(sim.client.new_workflow(Car).build, 5, 2)
        child = ids.remote_id(handle.workflow_id, 0, 0)
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(child, 0, 0))
        for _ in range(2):
            await fail(handle)
            await sim.sleep(60)
            await sim.client.retry_tasks(part)
            await sim.sleep(60)
        assert await handle.result() == 6

    async def test_a_parent_that_has_dealt_with_it_stays_as_it_is(self, sim: Simulation) -> None:
        host(sim)
        sim.add_workflow(Careful)
        handle = await sim.client.dispatch(sim.client.new_workflow(Careful).build)
        assert await handle.result() == 0
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(handle.workflow_id, 0, 0))
        await sim.client.retry_tasks(part)
        await sim.sleep(60)
        assert (await sim.client.describe(part)).status is WorkflowStatus.COMPLETED
        assert (await sim.client.describe(handle)).status is WorkflowStatus.COMPLETED
        assert await handle.result() == 0
