"""Removing closed instances before their retention ends (S28)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from infinitic import Channel, RequestRefusedError, Workflow, WorkflowFailedError, WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation


class Bank:
    async def pay(self, number: int) -> int:
        if number < 0:
            raise ValueError("no debts")
        return number


class Deal(Workflow):
    bank = Workflow.new_service(Bank)
    go = Channel[bool]()

    async def close(self, number: int) -> int:
        await self.go.receive()
        return await self.bank.pay(number)


async def begin(sim: Simulation, number: int) -> str:
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal, tags={"eu"}, custom_id=f"d{number}").close, number)
    return handle.workflow_id


async def end(sim: Simulation, workflow_id: str) -> None:
    await sim.client.get_workflow_by_id(Deal, workflow_id).go.send(True)
    handle = sim.client.get_handle(Deal.close, workflow_id)
    with suppress(WorkflowFailedError):
        await handle.result()


@pytest.mark.infinitic(seeds=20, faults="all")
async def test_a_deleted_instance_is_gone_and_others_stay(sim: Simulation) -> None:
    sim.add_service(Bank())
    sim.add_workflow(Deal)
    deleted, kept, failed = [await begin(sim, number) for number in (1, 2, -3)]
    for each in (deleted, kept, failed):
        await end(sim, each)
    for each in (deleted, failed):
        await sim.client.delete(sim.client.get_workflow_by_id(Deal, each))
    await sim.run_until_idle()
    for each in (deleted, failed):
        with pytest.raises(WorkflowUnknownError):
            await sim.client.get_handle(Deal.close, each).result()
        with pytest.raises(WorkflowUnknownError):
            await sim.client.read_run(sim.client.get_workflow_by_id(Deal, each))
    assert await sim.client.get_handle(Deal.close, kept).result() == 2
    assert [each.key.id for each in (await sim.client.list_workflows(name="Deal")).found] == [kept]


async def test_one_that_runs_is_refused(sim: Simulation) -> None:
    sim.add_service(Bank())
    sim.add_workflow(Deal)
    running = await begin(sim, 1)
    stub = sim.client.get_workflow_by_id(Deal, running)
    with pytest.raises(RequestRefusedError, match="it has not closed: cancel or terminate it, or wait until it ends"):
        await sim.client.delete(stub)
    await end(sim, running)
    await sim.client.delete(stub)
    await sim.run_until_idle()
    with pytest.raises(WorkflowUnknownError):
        await sim.client.delete(stub)


async def test_its_custom_id_is_free_and_a_new_instance_takes_it(sim: Simulation) -> None:
    sim.add_service(Bank())
    sim.add_workflow(Deal)
    first = await begin(sim, 1)
    await end(sim, first)
    await sim.client.delete(sim.client.get_workflow_by_id(Deal, first))
    second = await begin(sim, 1)
    assert second != first
    info = await sim.client.describe(sim.client.get_workflow_by_custom_id(Deal, "d1"))
    assert (info.workflow_id, info.status) == (second, WorkflowStatus.RUNNING)
    await end(sim, second)
