"""S34: failed tasks run again, and the methods that their failure has ended are re-opened."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from infinitic import (
    Channel,
    RequestRefusedError,
    TaskFailedError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowUnknownError,
    service,
    task,
)
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation
from infinitic_testing.steps import StepCompleted


@service
class Bank:
    @task
    async def pay(self, amount: int) -> int:
        raise NotImplementedError

    @task
    async def check(self) -> str:
        raise NotImplementedError


class SlowBank(Bank):
    """Its tasks take a while. `script` has seconds and results of the calls of `pay`, in order."""

    def __init__(self, *script: tuple[float, int | None]) -> None:
        self._script = list(script)
        self.checks = 0

    async def pay(self, amount: int) -> int:
        seconds, result = self._script.pop(0)
        await asyncio.sleep(seconds)
        if result is None:
            raise ConnectionError("no line")
        return result

    async def check(self) -> str:
        self.checks += 1
        await asyncio.sleep(60)
        return "ok"


class Deal(Workflow):
    bank = Workflow.new_service(Bank)
    order: tuple[str, ...] = ("check", "pay")

    async def close(self, amount: int) -> str:
        found: dict[str, object] = {}
        for each in self.order:
            found[each] = await (self.bank.check() if each == "check" else self.bank.pay(amount))
        return f"{found['check']} {found['pay']}"


class Group(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> str:
        async with asyncio.TaskGroup() as group:
            checked = group.create_task(self.bank.check())
            paid = group.create_task(self.bank.pay(7))
        return f"{checked.result()} {paid.result()}"


class Limited(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> int:
        async with asyncio.timeout(30):
            return await self.bank.pay(7)


class Patient(Workflow):
    bank = Workflow.new_service(Bank, total_timeout=60)

    async def close(self) -> int:
        return await self.bank.pay(7)


class Both(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> int:
        paid, _ = await asyncio.gather(self.bank.pay(7), asyncio.sleep(600))
        return paid


class Two(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> str:
        checked, paid = self.dispatch(self.bank.check), self.dispatch(self.bank.pay, 7)
        return f"{await checked} {await paid}"


class Careful(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> str:
        try:
            return str(await self.bank.pay(7))
        except TaskFailedError:
            return await self.bank.check()


class Desk(Workflow):
    bank = Workflow.new_service(Bank)
    done = Channel[bool]()
    paid = 0

    async def run(self) -> str:
        await self.done.receive()
        return str(self.paid)

    async def pay(self) -> int:
        self.paid = await self.bank.pay(7)
        return self.paid


async def _fail(sim: Simulation, handle: WorkflowHandle[Any]) -> None:
    """Wait until the workflow has failed."""
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    assert (await sim.client.describe(handle)).status is WorkflowStatus.FAILED


class TestReopening:
    """What runs again, and where the code goes on."""

    async def test_a_failed_workflow_goes_on_where_it_waited(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.check.returns("ok")
        bank.pay.raises(ConnectionError("no line")).returns(7)
        sim.add_workflow(Deal)
        handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close, 7)
        await _fail(sim, handle)
        await sim.sleep(3600)
        await sim.client.retry_tasks(handle)
        assert await handle.result() == "ok 7"
        assert (await sim.client.describe(handle)).status is WorkflowStatus.COMPLETED
        assert len(bank.check.calls) == 1, "what is done does not run again"
        assert len(bank.pay.calls) == 2
        _, pay = sim.steps(handle)
        assert (pay.outcome, pay.attempts) == (StepCompleted(7), 2)

    @pytest.mark.infinitic(cache_size=0)
    async def test_it_may_fail_and_be_re_opened_several_times(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.check.raises(ConnectionError("1")).raises(ConnectionError("2")).returns("ok")
        bank.pay.raises(ConnectionError("3")).raises(ConnectionError("4")).returns(7)
        sim.add_workflow(Deal)
        handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close, 7)
        for _ in range(4):
            await _fail(sim, handle)
            await sim.client.retry_tasks(handle)
        assert await handle.result() == "ok 7"
        check, pay = sim.steps(handle)
        assert (check.attempts, pay.attempts) == (3, 3)
        assert (check.outcome, pay.outcome) == (StepCompleted("ok"), StepCompleted(7))

    async def test_tasks_that_the_failure_has_cancelled_run_again(self, sim: Simulation) -> None:
        """A task group cancels the others. They are asked for once more, with the next sequence."""
        bank = SlowBank((1, None), (1, 7))
        sim.add_service(bank)
        sim.add_workflow(Group)
        handle = await sim.client.dispatch(sim.client.new_workflow(Group).close)
        await _fail(sim, handle)
        await sim.sleep(3600)
        await sim.client.retry_tasks(handle)
        assert await handle.result() == "ok 7"
        assert bank.checks == 2

    async def test_a_timeout_around_the_task_begins_anew(self, sim: Simulation) -> None:
        sim.add_service(SlowBank((10, None), (20, 7)))
        sim.add_workflow(Limited)
        handle = await sim.client.dispatch(sim.client.new_workflow(Limited).close)
        await _fail(sim, handle)
        await sim.sleep(3600)
        await sim.client.retry_tasks(handle)
        assert await handle.result() == 7

    async def test_a_task_that_timed_out_gets_its_whole_time_again(self, sim: Simulation) -> None:
        """S5."""
        sim.add_service(SlowBank((3000, 1), (20, 7)))
        sim.add_workflow(Patient)
        handle = await sim.client.dispatch(sim.client.new_workflow(Patient).close)
        await _fail(sim, handle)
        await sim.sleep(3600)
        await sim.client.retry_tasks(handle, status="timed_out")
        assert await handle.result() == 7
        (pay,) = sim.steps(handle)
        assert pay.outcome == StepCompleted(7)

    async def test_a_parallel_method_is_re_opened_while_the_first_one_runs(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.pay.raises(ConnectionError("no line")).returns(7)
        sim.add_workflow(Desk)
        handle = await sim.client.dispatch(sim.client.new_workflow(Desk).run)
        desk = sim.client.get_workflow_by_id(Desk, handle.workflow_id)
        paid = await sim.client.dispatch(desk.pay)
        with pytest.raises(WorkflowFailedError):
            await paid.result()
        await sim.client.retry_tasks(paid)
        assert await paid.result() == 7
        await desk.done.send(True)
        assert await handle.result() == "7"

    async def test_what_waits_at_the_end_of_a_failed_instance_goes_on(self, sim: Simulation) -> None:
        """A timer that was open when the instance closed is open again, for the same instant."""
        bank = sim.mock(Bank)
        bank.pay.raises(ConnectionError("no line")).returns(7)
        sim.add_workflow(Both)
        handle = await sim.client.dispatch(sim.client.new_workflow(Both).close)
        await _fail(sim, handle)
        await sim.client.retry_tasks(handle)
        start = sim.clock.now()
        assert await handle.result() == 7
        assert 595 < sim.clock.now() - start < 601

    @pytest.mark.infinitic(cache_size=0)
    async def test_two_tasks_at_once_and_one_after_the_other(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.check.raises(ConnectionError("1")).returns("ok")
        bank.pay.raises(ConnectionError("2")).raises(ConnectionError("3")).returns(7)
        sim.add_workflow(Two)
        handle = await sim.client.dispatch(sim.client.new_workflow(Two).close)
        await _fail(sim, handle)
        await asyncio.gather(sim.client.retry_tasks(handle, service=Bank, task="check"), sim.client.retry_tasks(handle))
        await _fail(sim, handle)
        await sim.client.retry_tasks(handle, task_id=f"{handle.workflow_id}-1")
        assert await handle.result() == "ok 7"


class TestByTag:
    """All running instances of a tag are asked (S33)."""

    async def test_the_failed_tasks_of_those_that_run_run_again(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        for _ in range(3):
            bank.pay.raises(ConnectionError("no line"))
        bank.pay.returns(7)
        sim.add_workflow(Desk)
        client = sim.client
        handles = [await client.dispatch(client.new_workflow(Desk, tags={"eu"}).run) for _ in range(3)]
        all_desks = client.get_workflow_by_tag(Desk, "eu")
        await client.broadcast(all_desks.pay)
        await sim.run_until_idle()
        await client.get_workflow_by_id(Desk, handles[0].workflow_id).done.send(True)
        assert await handles[0].result() == "0", "all payments have failed"
        await client.retry_tasks(all_desks, service=Bank)
        await sim.run_until_idle()
        await all_desks.done.send(True)
        assert [await each.result() for each in handles[1:]] == ["7", "7"]
        assert len(bank.pay.calls) == 5, "what has closed has no tags any more"

    async def test_a_task_id_is_of_one_workflow(self, sim: Simulation) -> None:
        sim.add_workflow(Desk)
        with pytest.raises(UsageError, match=r"A task id is of one workflow, and a tag may have many"):
            await sim.client.retry_tasks(sim.client.get_workflow_by_tag(Desk, "eu"), task_id="1-0")


class TestRefusals:
    """What cannot run again: each is named at the call, and changes nothing."""

    async def test_a_failure_that_the_code_has_dealt_with_is_history(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.pay.raises(ConnectionError("no line"))
        bank.check.raises(ConnectionError("down")).returns("ok")
        sim.add_workflow(Careful)
        handle = await sim.client.dispatch(sim.client.new_workflow(Careful).close)
        await _fail(sim, handle)
        dealt = (
            rf"it cannot run task {handle.workflow_id}-0 \(Bank.pay\) again: the code has dealt with its failure\. "
            r"Without, the history holds task Bank.check with \[\], the code asks for nothing more, "
            r"at .*test_retry_tasks.py:\d+"
        )
        with pytest.raises(RequestRefusedError, match=dealt):
            await sim.client.retry_tasks(handle, task_id=f"{handle.workflow_id}-0")
        with pytest.raises(RequestRefusedError, match="the code has dealt with its failure"):
            await sim.client.retry_tasks(handle, service="Bank", task="pay")
        assert (await sim.client.describe(handle)).status is WorkflowStatus.FAILED
        await sim.client.retry_tasks(handle)  # those that can
        assert await handle.result() == "ok"
        assert len(bank.pay.calls) == 1

    async def test_a_retry_of_what_did_not_fail_is_named(self, sim: Simulation) -> None:
        sim.add_service(SlowBank((60, 7)))
        sim.add_workflow(Deal)
        handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close, 7)
        await sim.sleep(61)
        me = handle.workflow_id
        given: dict[str, Any]
        for given, why in (
            ({"task_id": f"{me}-0"}, rf": it has no failed task {me}-0$"),
            ({"task_id": f"{me}-1"}, rf": it still waits for task {me}-1 \(Bank.pay\): it has not failed$"),
            ({"task_id": f"{me}-2"}, rf": it has no task {me}-2$"),
            ({"task_id": f"{me}-x"}, rf": it has no task {me}-x$"),
            ({}, r": it has no failed task$"),
            ({"status": "timed_out", "service": Bank}, r"has no failed task with status timed_out, service Bank$"),
        ):
            with pytest.raises(RequestRefusedError, match=why):
                await sim.client.retry_tasks(handle, **given)
        assert await handle.result() == "ok 7"
        with pytest.raises(RequestRefusedError, match="has no failed task"):
            await sim.client.retry_tasks(handle)
        assert (await sim.client.describe(handle)).status is WorkflowStatus.COMPLETED

    async def test_what_cannot_be_is_refused_before_it_is_sent(self, sim: Simulation) -> None:
        sim.add_workflow(Deal)
        deal = sim.client.get_workflow_by_id(Deal, "a")
        with pytest.raises(
            UsageError, match=r"^The task b-1 is none of workflow Deal a: its task ids begin with 'a-'$"
        ):
            await sim.client.retry_tasks(deal, task_id="b-1")
        with pytest.raises(
            UsageError, match=r"^Only failed tasks run again: status is 'failed' or 'timed_out', not 'ok'"
        ):
            await sim.client.retry_tasks(deal, status="ok")
        with pytest.raises(UsageError, match=r"^retry_tasks\(service=…\) takes the class of a service, got 7$"):
            await sim.client.retry_tasks(deal, service=cast(Any, 7))
        with pytest.raises(UsageError, match="The name of a task"):
            await sim.client.retry_tasks(deal, task="")
        with pytest.raises(UsageError, match="1,001 task ids are too many"):
            await sim.client.retry_tasks(deal, task_id=[f"a-{number}" for number in range(1001)])
        with pytest.raises(WorkflowUnknownError):
            await sim.client.retry_tasks(deal)

    async def test_a_cancelled_workflow_is_not_re_opened(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.pay.raises(ConnectionError("no line"))
        sim.add_workflow(Desk)
        handle = await sim.client.dispatch(sim.client.new_workflow(Desk).run)
        paid = await sim.client.dispatch(sim.client.get_workflow_by_id(Desk, handle.workflow_id).pay)
        with pytest.raises(WorkflowFailedError):
            await paid.result()
        await sim.client.cancel(handle, confirm=True)
        with pytest.raises(RequestRefusedError, match="was cancelled: it is not re-opened"):
            await sim.client.retry_tasks(handle)

    async def test_code_that_was_changed_is_named(self, sim: Simulation) -> None:
        bank = sim.mock(Bank)
        bank.check.returns("ok")
        bank.pay.raises(ConnectionError("no line"))
        sim.add_workflow(Deal)
        handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close, 7)
        await _fail(sim, handle)
        order = Deal.order
        try:
            Deal.order = ("pay", "check")
            with pytest.raises(
                RequestRefusedError,
                match="it has other code now, which does not repeat its history: the history holds task",
            ):
                await sim.client.retry_tasks(handle)
        finally:
            Deal.order = order
