"""S36: `complete_timers` fires what code waits for, of one method or all, and no limit of time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio
import pytest

from infinitic import (
    Channel,
    Client,
    TaskTimedOutError,
    UsageError,
    Workflow,
    WorkflowHandle,
    WorkflowUnknownError,
)
from infinitic.messages import engine
from infinitic.topics import workflow_engine
from infinitic.transport import Message
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.simulation.world import World

DAY = 86_400.0


class Desk:
    async def work(self) -> str:
        await asyncio.sleep(100 * DAY)
        return "never"


class Sleeper(Workflow):
    desk = Workflow.new_service(Desk, total_timeout=9 * DAY)
    go = Channel[str]()

    async def by_timer(self) -> float:
        due = await self.timer(timedelta(days=3))
        return (due - self.now()).total_seconds()

    async def by_sleep(self) -> float:
        began = self.now()
        await asyncio.sleep(3 * DAY)
        return (self.now() - began).total_seconds()

    async def by_anyio(self) -> str:
        with anyio.move_on_after(5 * DAY):
            await anyio.sleep(3 * DAY)
            await self.go.receive()
        return "limited"

    async def race(self) -> str:
        answer = await (self.go.receive() | self.timer(3 * DAY))
        return answer if isinstance(answer, str) else "nobody"

    async def limited(self) -> str:
        try:
            async with asyncio.timeout(3 * DAY):
                await self.go.receive()
        except TimeoutError:
            return "limited"
        return "received"

    async def total(self) -> str:
        try:
            return await self.desk.work()
        except TaskTimedOutError:
            return "timed out"

    async def several(self) -> list[int]:
        done = list[int]()

        async def wait(number: int) -> None:
            await self.timer(number * DAY)
            done.append(number)

        async with asyncio.TaskGroup() as group:
            for number in (3, 1, 2):
                group.create_task(wait(number))
        return done

    async def later(self) -> float:
        began = self.now()
        await self.timer(3 * DAY)
        await self.timer(60.0)
        return (self.now() - began).total_seconds()


async def start(sim: Simulation, method: str) -> WorkflowHandle[object]:
    sim.add_service(Desk)
    sim.add_workflow(Sleeper)
    handle = await sim.client.dispatch(getattr(sim.client.new_workflow(Sleeper), method))
    await sim.sleep(10.0)
    return handle


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("by_timer", 3 * DAY - 10.0),
        ("by_sleep", 10.0),
        ("race", "nobody"),
        ("several", [1, 2, 3]),
        ("later", 70.0),
    ],
)
async def test_what_code_waits_for_is_completed(sim: Simulation, method: str, result: object) -> None:
    """S24, S36: a timer has the value that it would have had, and the time does not change."""
    handle = await start(sim, method)
    began = sim.now
    assert await sim.client.complete_timers(handle, confirm=True) is None
    assert await handle.result() == result
    assert sim.now - began == timedelta(seconds=60 if method == "later" else 0)


@pytest.mark.parametrize(
    ("method", "result", "days"), [("limited", "limited", 3), ("by_anyio", "limited", 5), ("total", "timed out", 9)]
)
async def test_a_limit_is_no_timer(sim: Simulation, method: str, result: str, days: int) -> None:
    """S36: neither `asyncio.timeout`, nor that of anyio, nor a total timeout."""
    handle = await start(sim, method)
    began = sim.now
    await sim.client.complete_timers(handle, confirm=True)
    assert await handle.result() == result
    assert sim.now - began == timedelta(days=days, seconds=-10)


async def test_the_timers_of_one_method(sim: Simulation) -> None:
    """S36: by the id of the method, by its handle, and the first one by the id of the instance."""
    handle = await start(sim, "by_timer")
    stub = sim.client.get_workflow_by_id(Sleeper, handle.workflow_id)
    by_id = await sim.client.dispatch(stub.by_sleep)
    by_handle = await sim.client.dispatch(stub.by_sleep)
    await sim.sleep(10.0)
    began = sim.now
    await sim.client.complete_timers(stub, method_id=by_id.method_id, confirm=True)
    assert await by_id.result() == 10.0
    await sim.client.complete_timers(by_handle, confirm=True)
    assert await by_handle.result() == 10.0
    assert (await sim.client.describe(stub)).open_timers == 1
    await sim.client.complete_timers(stub, method_id=handle.workflow_id, confirm=True)
    await handle.result()
    assert sim.now == began


async def test_the_timers_of_all_workflows_of_a_tag(sim: Simulation) -> None:
    """S31, S36."""
    sim.add_workflow(Sleeper)
    began = sim.now
    handles = [await sim.client.dispatch(sim.client.new_workflow(Sleeper, tags={"night"}).by_sleep) for _ in range(3)]
    await sim.sleep(10.0)
    await sim.client.complete_timers(sim.client.get_workflow_by_tag(Sleeper, "night"))
    assert [await handle.result() for handle in handles] == [10.0] * 3
    assert sim.now - began == timedelta(seconds=10)


async def test_a_wrong_id_has_no_effect(sim: Simulation) -> None:
    """S36."""
    handle = await start(sim, "by_sleep")
    with pytest.raises(WorkflowUnknownError):
        await sim.client.complete_timers(handle, method_id="no such", confirm=True)
    await sim.client.complete_timers(handle, method_id="no such")
    with pytest.raises(UsageError, match="The id of a method"):
        await sim.client.complete_timers(handle, method_id="")
    with pytest.raises(WorkflowUnknownError):
        await sim.client.complete_timers(sim.client.get_workflow_by_id(Sleeper, "nobody"), confirm=True)
    assert await handle.result() == 3 * DAY
    with pytest.raises(WorkflowUnknownError):
        await sim.client.complete_timers(handle, confirm=True)


async def test_what_came_before_is_seen_by_the_code_first(sim: Simulation) -> None:
    """S19, S36: what comes of it does not depend on whether both are taken in one step."""
    sim.add_workflow(Sleeper)
    began = sim.now
    handle = await sim.client.dispatch(sim.client.new_workflow(Sleeper).by_sleep)
    await sim.client.complete_timers(handle)
    assert await handle.result() == 0.0
    assert sim.now == began


async def test_a_repeat_completes_no_later_timer(sim: Simulation) -> None:
    """S13, S36: also if there was no timer when the first one came."""
    handle = await start(sim, "later")
    request = engine.CompleteTimers(made_at=sim.clock.now(), request_id="o")
    message = Message("o", handle.workflow_id, engine.encode(request))
    for _ in range(3):
        await sim.transport.publish(workflow_engine("Sleeper"), [message, message])
        await sim.sleep(1.0)
    assert await handle.result() == 70.0


async def test_a_repeat_of_one_that_found_no_timer_completes_none(sim: Simulation) -> None:
    """S13, S36."""
    handle = await start(sim, "race")
    stub = sim.client.get_workflow_by_id(Sleeper, handle.workflow_id)
    held = await sim.client.dispatch(stub.limited)
    await stub.go.send("one")
    assert await handle.result() == "one"
    request = engine.CompleteTimers(made_at=sim.clock.now(), request_id="o")
    message = Message("o", handle.workflow_id, engine.encode(request))
    await sim.transport.publish(workflow_engine("Sleeper"), [message])
    await sim.sleep(1.0)
    sleeping = await sim.client.dispatch(stub.by_sleep)
    await sim.sleep(1.0)
    await sim.transport.publish(workflow_engine("Sleeper"), [message])
    assert await sleeping.result() == 3 * DAY
    assert await held.result() == "limited"


def test_on_another_worker_and_after_a_replay() -> None:
    """S36: what a timer belongs to is in the history."""

    async def main() -> None:
        world = World()
        async with world.open():
            engine_worker, code = world.worker(), world.worker(cache_size=0)
            engine_worker.add_workflow_state_engine("Sleeper")
            code.add_workflow_executor(Sleeper)
            world.start(engine_worker)
            world.start(code)
            client: Client = world.client
            handle = await client.dispatch(client.new_workflow(Sleeper).by_timer)
            stub = client.get_workflow_by_id(Sleeper, handle.workflow_id)
            other = await client.dispatch(stub.by_sleep)
            await asyncio.sleep(10.0)
            await client.complete_timers(other, confirm=True)
            assert await other.result() == 10.0
            await client.complete_timers(stub, confirm=True)
            assert await handle.result() == 3 * DAY - 10.0

    run(main())
