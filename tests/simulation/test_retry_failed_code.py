"""S34: code that has failed runs again, with what is deployed by then."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, RequestRefusedError, Workflow, WorkflowFailedError, ids
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.mended import MENDED, Bakery, Chain, Late, Oven, ask


@pytest.fixture(autouse=True)
def broken() -> None:
    """Each test begins with code that has mistakes."""
    MENDED.clear()


class Ledger(Workflow):
    """Its first method fails while another one goes on."""

    oven = Workflow.new_service(Oven)
    more = Channel[bool]()

    async def run(self) -> int:
        first = await self.oven.bake(1)
        if not MENDED[self.context.workflow_id]:
            raise ValueError("mistake 1")
        return await self.oven.bake(first + 10)

    async def note(self) -> int:
        await self.more.receive()
        return await self.oven.bake(2)

    async def bad(self) -> int:
        await self.more.receive()
        raise LookupError("no more")


class Untidy(Workflow):
    """Its clean-up cannot run at first."""

    oven = Workflow.new_service(Oven)
    more = Channel[bool]()

    async def run(self) -> int:
        raise ValueError("mistake 1")

    async def wait(self) -> None:
        try:
            await self.more.receive()
        finally:
            if not MENDED[self.context.workflow_id]:
                await asyncio.to_thread(print)


class Swapped(Workflow):
    oven = Workflow.new_service(Oven)

    async def run(self) -> int:
        mended = MENDED[self.context.workflow_id]
        baked = self.dispatch(self.oven.bake, 2 if mended == 1 else 1)
        if not mended:
            raise ValueError("mistake 1")
        return await baked


class TestRefusals:
    """What does not run again, and why."""

    async def test_code_that_has_gone_on_since_then(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Ledger)
        handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).run)
        ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)
        note = await sim.client.dispatch(ledger.note)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await ledger.more.send(True)
        assert await note.result() == 2
        MENDED[handle.workflow_id] = 1
        with pytest.raises(
            RequestRefusedError,
            match=r"it has gone on since its first method failed, and asked for task Oven.bake with",
        ):
            await sim.client.retry_workflow_task(handle, confirm=True)
        assert (await sim.client.describe(handle)).status is WorkflowStatus.FAILED
        # When the test ends, each history is replayed.
        MENDED.clear()

    async def test_methods_that_failed_after_it_are_not_in_the_way(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Ledger)
        handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).run)
        ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)
        bad = await sim.client.dispatch(ledger.bad)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await ledger.more.send(True)
        with pytest.raises(WorkflowFailedError, match="no more"):
            await bad.result()
        MENDED[handle.workflow_id] = 1
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 11

    async def test_code_that_asks_for_something_else_before_it(self, sim: Simulation) -> None:
        """The refusal names the line. Nothing has changed, and other code can run again."""
        sim.add_service(Oven)
        sim.add_workflow(Swapped)
        handle = await sim.client.dispatch(sim.client.new_workflow(Swapped).run)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        MENDED[handle.workflow_id] = 1
        with pytest.raises(
            RequestRefusedError,
            match=r"the history holds task Oven.bake with \[1\], the code asks for task Oven.bake with \[2\], at"
            r" .*test_retry_failed_code.py:\d+",
        ):
            await sim.client.retry_workflow_task(handle, confirm=True)
        MENDED[handle.workflow_id] = 2
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 1

    async def test_what_is_done(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Bakery)
        handle = await sim.client.dispatch(sim.client.new_workflow(Bakery).with_care)
        MENDED[handle.workflow_id] = 1
        assert await handle.result() == [1]
        with pytest.raises(RequestRefusedError, match="it is completed: there is no failure of its code to run again"):
            await sim.client.retry_workflow_task(handle, confirm=True)

    async def test_what_was_cancelled(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Ledger)
        handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).run)
        await sim.client.cancel(handle)
        await sim.sleep(60)
        with pytest.raises(RequestRefusedError, match="it is canceled"):
            await sim.client.retry_workflow_task(handle, confirm=True)

    async def test_what_was_cancelled_and_stalled_since_its_failure_comes_to_its_end(self, sim: Simulation) -> None:
        """Its failure stays. But nobody could have it go on, if that were refused, too."""
        sim.add_service(Oven)
        sim.add_workflow(Untidy)
        handle = await sim.client.dispatch(sim.client.new_workflow(Untidy).run)
        untidy = sim.client.get_workflow_by_id(Untidy, handle.workflow_id)
        await sim.client.dispatch(untidy.wait)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await sim.client.cancel(handle)
        await sim.sleep(60)
        assert (await sim.client.describe(handle)).stalled is not None
        MENDED[handle.workflow_id] = 1
        assert await sim.client.retry_workflow_task(handle, confirm=True) is None
        info = await sim.client.describe(handle)
        assert (info.status, info.stalled) == (WorkflowStatus.FAILED, None)
        with pytest.raises(RequestRefusedError, match="it was cancelled: it is not re-opened"):
            await sim.client.retry_workflow_task(handle, confirm=True)


class TestTimes:
    """The code sees the time of the failure; total timeouts count from the re-opening."""

    async def test_a_total_timeout_counts_from_the_re_opening(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Late)
        handle = await sim.client.dispatch(sim.client.new_workflow(Late).run)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await sim.sleep(3_600)
        MENDED[handle.workflow_id] = 1
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 1


class TestParents:
    async def test_a_parent_goes_on_when_the_code_of_its_child_does(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        for each in (Bakery, Chain):
            sim.add_workflow(each)
        handle = await sim.client.dispatch(sim.client.new_workflow(Chain).order)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        child = ids.remote_id(handle.workflow_id, 0, 0)
        MENDED[child] = 2
        await sim.client.retry_workflow_task(sim.client.get_workflow_by_id(Bakery, child), confirm=True)
        await sim.sleep(60)
        handle.forget_failure()
        assert await handle.result() == [1, 2, 3, 4]

    async def test_a_parent_can_run_its_own_code_again(self, sim: Simulation) -> None:
        """Its child has failed, and mended code of the parent deals with that."""
        sim.add_service(Oven)
        for each in (Bakery, Careful):
            sim.add_workflow(each)
        handle = await sim.client.dispatch(sim.client.new_workflow(Careful).order)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        MENDED[handle.workflow_id] = 1
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 7


class Careful(Workflow):
    bakery = Workflow.new_workflow(Bakery)
    oven = Workflow.new_service(Oven)

    async def order(self) -> int:
        try:
            return await self.bakery.at_once()
        except WorkflowFailedError:
            if not MENDED[self.context.workflow_id]:
                raise
            return await self.oven.bake(7)


class TestCustomIds:
    """S32: a closed instance has no custom id, and needs it again."""

    async def test_it_is_claimed_again(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        sim.add_workflow(Bakery)
        handle = await sim.client.dispatch(sim.client.new_workflow(Bakery, custom_id="one").at_once)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        MENDED[handle.workflow_id] = 1
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 1

    async def test_it_is_refused_if_another_instance_has_it(self, sim: Simulation) -> None:
        sim.add_service(Oven)
        for each in (Bakery, Ledger):
            sim.add_workflow(each)
        handle = await sim.client.dispatch(sim.client.new_workflow(Bakery, custom_id="one").at_once)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        other = await sim.client.dispatch(sim.client.new_workflow(Bakery, custom_id="one").waits)
        MENDED[handle.workflow_id] = 1
        with pytest.raises(RequestRefusedError, match=f"the instance {other.workflow_id} has it by now"):
            await sim.client.retry_workflow_task(handle, confirm=True)
        await sim.client.cancel(other)
        await sim.sleep(60)
        await sim.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 1


async def test_two_ask_at_once(sim: Simulation) -> None:
    sim.add_service(Oven)
    sim.add_workflow(Bakery)
    handle = await sim.client.dispatch(sim.client.new_workflow(Bakery).at_once)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    MENDED[handle.workflow_id] = 1
    await asyncio.gather(ask(sim, handle), ask(sim, handle), ask(sim, handle))
    assert await handle.result() == 1
