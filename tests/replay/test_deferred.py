"""`Deferred`: what it tells, awaiting it again and in any order, cancelling it (S22, S25)."""

from __future__ import annotations

import asyncio
import gc

import pytest

from infinitic import (
    Deferred,
    TaskCanceledError,
    TaskFailedError,
    TaskTimedOutError,
    Workflow,
    WorkflowFailedError,
    task,
)
from infinitic.messages.commands import CancelPosition
from infinitic.messages.events import TaskResult
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


class Slow:
    @task(total_timeout=5)
    async def say(self, word: str) -> str:
        await asyncio.sleep(100)
        return word


class Deferreds(Workflow):
    desk = Workflow.new_service(Desk)
    slow = Workflow.new_service(Slow)

    async def statuses(self) -> list[str]:
        completed = self.dispatch(self.desk.say, "a", 1)
        failed = self.dispatch(self.desk.fail, "b", 2)
        canceled = self.dispatch(self.desk.say, "c", 3)
        late = self.dispatch(self.slow.say, "d")
        every: list[Deferred[str]] = [completed, failed, canceled, late]
        seen = [",".join(each.status() for each in every)]
        for seconds in (1.5, 1, 3):
            await asyncio.sleep(seconds)
            if seconds == 1:
                canceled.cancel()
            seen.append(",".join(each.status() for each in every))
        assert completed.is_completed()
        assert failed.is_failed()
        assert canceled.is_canceled()
        assert late.is_timed_out()
        assert not any(each.is_ongoing() or each.is_unknown() for each in every)
        return seen

    async def twice(self) -> list[str]:
        good, bad = self.dispatch(self.desk.say, "a", 1), self.dispatch(self.desk.fail, "b", 1)
        log = [await good, await good, good.result()]
        for _ in range(2):
            try:
                await bad
            except TaskFailedError as error:
                log.append(error.last_failure.exception.message)
        return log

    async def by_two_tasks(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "a", 1)

        async def wait(word: str) -> str:
            return word + await deferred

        return list(await asyncio.gather(wait("x"), wait("y"), wait("z")))

    async def in_another_order(self) -> list[str]:
        words = [self.dispatch(self.desk.say, str(index), (index * 7) % 10) for index in range(10)]
        return [await words[(index * 3) % 10] for index in range(10)]

    async def cancelled(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "a", 100)
        log = [str(deferred.cancel()), str(deferred.cancel()), str(deferred.status())]
        for _ in range(2):
            try:
                await deferred
            except TaskCanceledError as error:
                log.append(f"{error.service_name}.{error.method_name} {error.task_id == deferred.id}")
        return log

    async def cancelled_while_awaited(self) -> str:
        deferred = self.dispatch(self.desk.say, "a", 100)
        asyncio.get_running_loop().call_later(3, deferred.cancel)
        try:
            return await deferred
        except TaskCanceledError:
            return f"cancelled at {self.now():%S}"

    async def cancelled_too_late(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "a", 1)
        word = await deferred
        return [word, str(deferred.cancel()), await deferred]

    async def cancelled_before_its_result(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "late", 5)
        await asyncio.sleep(1)
        deferred.cancel()
        await asyncio.sleep(10)
        return [str(deferred.status()), f"{self.now():%S}"]

    async def cancelled_timer(self) -> list[str]:
        timer = self.timer(100)
        timer.cancel()
        try:
            await timer
        except TaskCanceledError:
            return [str(timer.status()), f"{self.now():%S}"]
        return []

    async def ids(self) -> list[str]:
        deferreds = [self.dispatch(self.desk.say, "a"), self.dispatch(self.desk.say, "b")]
        await asyncio.gather(*deferreds)
        return [each.id for each in deferreds]

    async def uncaught(self) -> str:
        deferred = self.dispatch(self.desk.say, "a", 100)
        deferred.cancel()
        return await deferred

    async def forgotten(self) -> str:
        """A failure that nobody awaits fails nothing (S28)."""
        self.dispatch(self.desk.fail, "nobody cares", 5)
        return await self.desk.say("done", 1)


@both_ways(Deferreds, services=(Desk, Slow))
async def test_statuses(run: Run) -> None:  # S22
    assert await run.result(run.new(Deferreds).statuses) == [
        "ongoing,ongoing,ongoing,ongoing",
        "completed,ongoing,ongoing,ongoing",
        "completed,failed,canceled,ongoing",
        "completed,failed,canceled,timed_out",
    ]


@both_ways(Deferreds)
async def test_awaiting_twice(run: Run) -> None:  # S22
    assert await run.result(run.new(Deferreds).twice) == ["a", "a", "a", "b", "b"]


@both_ways(Deferreds)
async def test_awaiting_in_several_tasks(run: Run) -> None:  # S22
    assert await run.result(run.new(Deferreds).by_two_tasks) == ["xa", "ya", "za"]


@both_ways(Deferreds)
async def test_awaiting_in_another_order_than_dispatched(run: Run) -> None:  # S22
    assert await run.result(run.new(Deferreds).in_another_order) == [str(index * 3 % 10) for index in range(10)]


@both_ways(Deferreds)
async def test_awaiting_after_cancel_raises_each_time(run: Run) -> None:  # S25
    handle = await run.start(run.new(Deferreds).cancelled)
    assert await handle.result() == ["True", "False", "canceled", "Desk.say True", "Desk.say True"]
    assert (await run.client.describe(handle)).open_tasks == 0


@both_ways(Deferreds)
async def test_cancelling_what_another_awaits(run: Run) -> None:  # S25
    assert await run.result(run.new(Deferreds).cancelled_while_awaited) == "cancelled at 03"


@both_ways(Deferreds)
async def test_cancelling_too_late_changes_nothing(run: Run) -> None:  # S25
    assert await run.result(run.new(Deferreds).cancelled_too_late) == ["a", "False", "a"]


@both_ways(Deferreds)
async def test_a_result_that_comes_after_the_cancellation_is_dropped(run: Run) -> None:  # S13, S25
    handle = await run.start(run.new(Deferreds).cancelled_before_its_result)
    assert await handle.result() == ["canceled", "11"]
    (late,) = [event for event in await run.history(handle) if isinstance(event, CancelPosition)]
    assert not any(
        isinstance(event, TaskResult) and event.position == late.position for event in await run.history(handle)
    )


async def test_a_task_that_is_cancelled_at_once_is_never_sent(sim: Simulation) -> None:  # S25
    desk = sim.mock(Desk)
    sim.add_workflow(Deferreds)
    await sim.client.new_workflow(Deferreds).cancelled()
    await sim.sleep(10)
    assert desk.say.calls == []


async def test_a_failure_that_nobody_awaits_is_no_news(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:  # S28
    gc.collect()  # what other tests have left
    caplog.clear()
    sim.add_service(Desk)
    sim.add_workflow(Deferreds)
    await sim.client.new_workflow(Deferreds).forgotten()
    await sim.sleep(10)
    gc.collect()
    assert "never retrieved" not in caplog.text


@both_ways(Deferreds)
async def test_cancelling_a_timer(run: Run) -> None:  # S24, S25
    handle = await run.start(run.new(Deferreds).cancelled_timer)
    assert await handle.result() == ["canceled", "00"]
    assert (await run.client.describe(handle)).open_timers == 0


@both_ways(Deferreds)
async def test_ids_are_derived_from_the_position(run: Run) -> None:  # S10
    assert await run.result(run.new(Deferreds).ids) == ["w1-0", "w1-1"]


@both_ways(Deferreds)
async def test_a_cancelled_deferred_that_is_awaited_fails_the_method(run: Run) -> None:  # S25, S34
    with pytest.raises(WorkflowFailedError) as caught:
        await run.result(run.new(Deferreds).uncaught)
    assert isinstance(caught.value.cause, TaskCanceledError)


@both_ways(Deferreds)
async def test_a_failure_that_nobody_awaits_fails_nothing_but_keeps_the_instance_open(run: Run) -> None:  # S28
    handle = await run.start(run.new(Deferreds).forgotten)
    assert await handle.result() == "done"
    assert (await run.client.describe(handle)).closed_at is None
    await run.sim.sleep(10)
    info = await run.client.describe(handle)
    assert (info.status, info.closed_at) == ("completed", info.started_at + 5)


class TimedOut(Workflow):
    slow = Workflow.new_service(Slow)

    async def run(self) -> str:
        return await self.slow.say("never")


@both_ways(TimedOut, services=(Slow,))
async def test_a_total_timeout_is_its_own_error(run: Run) -> None:  # S5
    began = run.sim.now
    with pytest.raises(WorkflowFailedError) as caught:
        await run.result(run.new(TimedOut).run)
    assert isinstance(caught.value.cause, TaskTimedOutError)
    assert (run.sim.now - began).total_seconds() == 5
