"""S34: code that has failed runs again, with what is deployed by then."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from infinitic import RequestRefusedError, TaskFailedError, Workflow, WorkflowFailedError, WorkflowHandle, service, task
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation


@service
class Shop:
    @task
    async def pack(self, item: str) -> str:
        raise NotImplementedError

    @task
    async def send(self, item: str) -> str:
        raise NotImplementedError


class Order(Workflow):
    """Its code has a mistake, until it is mended."""

    shop = Workflow.new_service(Shop)
    mended: ClassVar[bool] = False

    async def deliver(self, item: str) -> str:
        packed = await self.shop.pack(item)
        if not self.mended:
            raise ValueError(f"cannot send {packed}")
        return await self.shop.send(packed)


@pytest.fixture(autouse=True)
def broken() -> None:
    """Each test begins with the code that has the mistake."""
    Order.mended = False


async def _fail(sim: Simulation, handle: WorkflowHandle[Any]) -> None:
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    assert (await sim.client.describe(handle)).status is WorkflowStatus.FAILED


class TestFailedCode:
    @pytest.mark.infinitic(cache_size=0)
    async def test_mended_code_goes_on_where_it_failed_cold(self, sim: Simulation) -> None:
        await self.test_mended_code_goes_on_where_it_failed(sim)

    async def test_mended_code_goes_on_where_it_failed(self, sim: Simulation) -> None:
        shop = sim.mock(Shop)
        shop.pack.returns("box")
        shop.send.returns("sent")
        sim.add_workflow(Order)
        handle = await sim.client.dispatch(sim.client.new_workflow(Order).deliver, "hat")
        await _fail(sim, handle)
        await sim.sleep(3600)
        Order.mended = True
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == "sent"
        assert len(shop.pack.calls) == 1, "what is done does not run again"
        assert (await sim.client.describe(handle)).status is WorkflowStatus.COMPLETED

    async def test_code_that_fails_again_is_refused(self, sim: Simulation) -> None:
        sim.mock(Shop).pack.returns("box")
        sim.add_workflow(Order)
        handle = await sim.client.dispatch(sim.client.new_workflow(Order).deliver, "hat")
        await _fail(sim, handle)
        with pytest.raises(RequestRefusedError, match="fails again at the same place.*cannot send box"):
            await sim.client.retry_workflow_task(handle, confirm=True)
        await _fail(sim, handle)
