"""Cancelling a workflow, or one of its methods, as its code sees it (S35)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import Channel, UsageError, Workflow, WorkflowCanceledError, WorkflowHandle, WorkflowUnknownError
from tests.replay.harness import Desk, Run, both_ways


class Cancellable(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    def __init__(self) -> None:
        self.log = list[str]()

    async def waits_for_a_task(self) -> str:
        return await self.desk.say("never", 1000)

    async def waits_for_anything(self) -> list[str]:
        await asyncio.gather(
            self.desk.say("never", 1000),
            self.go.receive(),
            self.timer(1000),
            self.wait_until(lambda: False),
            asyncio.Event().wait(),
        )
        return []

    async def cleans_up(self) -> str:
        try:
            return await self.desk.say("never", 1000)
        finally:
            self.log.append(await self.desk.say("cleaned up", 5))

    async def swallows(self) -> str:
        try:
            return await self.desk.say("never", 1000)
        except asyncio.CancelledError:
            return await self.desk.say("I go on", 1)

    async def fails_then(self) -> str:
        try:
            return await self.desk.say("never", 1000)
        except asyncio.CancelledError:
            raise LookupError("instead") from None

    async def sees_the_log(self) -> list[str]:
        await self.wait_until(lambda: bool(self.log))
        return self.log

    async def ends_at_once(self) -> str:
        return "done"


async def _canceled(handle: WorkflowHandle[Any]) -> None:
    with pytest.raises(WorkflowCanceledError):
        await handle.result()


@both_ways(Cancellable)
async def test_whatever_it_waits_for(run: Run) -> None:  # S35
    stub = run.new(Cancellable)
    handles: list[WorkflowHandle[Any]] = [
        await run.start(stub.waits_for_a_task),
        await run.start(stub.waits_for_anything),
        await run.start(stub.sees_the_log),
    ]
    await run.sim.sleep(10)
    began = run.sim.now
    for handle in handles:
        await run.client.cancel(handle, confirm=True)
        await _canceled(handle)
        info = await run.client.describe(handle)
        assert (info.status, info.open_tasks, info.open_timers) == ("canceled", 0, 0)
    assert run.sim.now == began


@both_ways(Cancellable)
async def test_before_its_code_has_begun(run: Run) -> None:  # S35
    """Start and cancellation are handed to the instance in one activation."""
    handle = await run.start(run.new(Cancellable).waits_for_a_task)
    await run.client.cancel(handle)
    await _canceled(handle)


@both_ways(Cancellable)
async def test_cleanup_may_await_tasks(run: Run) -> None:  # S35
    handle = await run.start(run.new(Cancellable).cleans_up)
    await run.sim.sleep(1)
    began = run.sim.now
    await run.client.cancel(handle)
    await _canceled(handle)
    assert (run.sim.now - began).total_seconds() == 5


@both_ways(Cancellable)
async def test_one_that_swallows_it_ends_as_it_likes(run: Run) -> None:  # S35
    handle = await run.start(run.new(Cancellable).swallows)
    await run.sim.sleep(1)
    await run.client.cancel(handle)
    assert await handle.result() == "I go on"
    assert (await run.client.describe(handle)).status == "completed"


@both_ways(Cancellable)
async def test_all_its_methods_are_cancelled(run: Run) -> None:  # S35
    handle = await run.start(run.new(Cancellable).cleans_up)
    other = asyncio.create_task(run.on(Cancellable).waits_for_a_task())
    third = asyncio.create_task(run.on(Cancellable).swallows())
    await run.sim.sleep(1)
    await run.client.cancel(handle)
    with pytest.raises(WorkflowCanceledError):
        await other
    assert await third == "I go on"
    await _canceled(handle)


@both_ways(Cancellable)
async def test_a_method_that_has_returned_is_not_cancelled(run: Run) -> None:  # S28, S35
    handle = await run.start(run.new(Cancellable).ends_at_once)
    other = asyncio.create_task(run.on(Cancellable).waits_for_a_task())
    assert await handle.result() == "done"
    await run.sim.sleep(1)
    await run.client.cancel(handle)
    with pytest.raises(WorkflowCanceledError):
        await other
    assert await handle.result() == "done"


@both_ways(Cancellable)
async def test_one_method_is_cancelled_alone(run: Run) -> None:  # S35
    """By its handle, or by its id. The others go on, and new ones may begin."""
    handle = await run.start(run.new(Cancellable).swallows)
    by_handle = await run.client.dispatch(run.on(Cancellable).cleans_up)
    by_id = await run.client.dispatch(run.on(Cancellable).waits_for_anything)
    await run.sim.sleep(1)
    began = run.sim.now
    await run.client.cancel(by_handle, confirm=True)
    await run.client.cancel(handle, method_id=by_id.method_id, confirm=True)
    await _canceled(by_id)
    await _canceled(by_handle)
    assert (run.sim.now - began).total_seconds() == 5
    assert await run.on(Cancellable).ends_at_once() == "done"
    assert (await run.client.describe(handle)).status == "running"
    await run.client.cancel(handle, method_id=handle.workflow_id, confirm=True)
    assert await handle.result() == "I go on"


@both_ways(Cancellable)
async def test_the_first_method_is_cancelled_alone(run: Run) -> None:  # S35
    """The status of the instance is that of its first method. It closes when the others end."""
    handle = await run.start(run.new(Cancellable).waits_for_a_task)
    other = await run.client.dispatch(run.on(Cancellable).waits_for_a_task)
    await run.sim.sleep(1)
    await run.client.cancel(handle, method_id=handle.workflow_id, confirm=True)
    await _canceled(handle)
    assert (await run.client.describe(handle)).status == "running"
    await run.client.cancel(other, confirm=True)
    await _canceled(other)
    assert (await run.client.describe(handle)).status == "canceled"


@both_ways(Cancellable)
async def test_clean_up_is_not_interrupted(run: Run) -> None:  # S35
    """Neither by a second cancellation, nor by that of the whole after that of the method."""
    handle = await run.start(run.new(Cancellable).waits_for_a_task)
    other = await run.client.dispatch(run.on(Cancellable).cleans_up)
    await run.sim.sleep(1)
    began = run.sim.now
    for target in (other, other, handle, handle, other):
        await run.client.cancel(target, confirm=True)
        await run.sim.sleep(1)
    await _canceled(other)
    assert (run.sim.now - began).total_seconds() == 5


@both_ways(Cancellable)
async def test_a_cancelled_instance_begins_no_more_methods(run: Run) -> None:  # S35
    handle = await run.start(run.new(Cancellable).cleans_up)
    await run.sim.sleep(1)
    await run.client.cancel(handle, confirm=True)
    with pytest.raises(WorkflowCanceledError):
        await run.on(Cancellable).ends_at_once()
    await _canceled(handle)


@both_ways(Cancellable)
async def test_a_method_that_does_not_run_is_unknown(run: Run) -> None:  # S35
    handle = await run.start(run.new(Cancellable).waits_for_a_task)
    ended = await run.client.dispatch(run.on(Cancellable).ends_at_once)
    assert await ended.result() == "done"
    for method_id in (ended.method_id, "no such"):
        with pytest.raises(WorkflowUnknownError):
            await run.client.cancel(handle, method_id=method_id, confirm=True)
    with pytest.raises(UsageError, match="The id of a method"):
        await run.client.cancel(handle, method_id="")
    await run.client.cancel(handle)
    await _canceled(handle)
