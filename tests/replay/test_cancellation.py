"""Cancelling a whole workflow, as its code sees it (S35)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import Channel, Workflow, WorkflowCanceledError, WorkflowHandle
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
