"""S5, S6, S25: a task that nobody waits for any more is stopped, wherever it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from msgspec import Raw

from infinitic import (
    Deferred,
    TaskCanceledError,
    TaskContext,
    TaskTimedOutError,
    Workflow,
    WorkflowCanceledError,
    task_context,
    topics,
)
from infinitic.messages import control, service
from infinitic.transport import Message
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.simulation.desk import Desk, Job, always, make_desk
from tests.simulation.world import World


class Log:
    """What a task has seen of its cancellation."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.began = sim.now
        self.lines: list[tuple[float, str]] = []
        log = self

        async def work(self: object, text: str) -> str:
            log.add(f"{text} begins")
            task_context().on_cancel(lambda: log.add(f"{text} told"))
            try:
                await asyncio.sleep(1000.0)
            except asyncio.CancelledError:
                log.add(f"{text} cancelled")
                raise
            log.add(f"{text} ends")
            return text

        sim.add_service(make_desk(work, retry=always(1.0)))

    def add(self, line: str) -> None:
        self.lines.append(((self.sim.now - self.began).total_seconds(), line))


class Limited(Workflow):
    desk = Workflow.new_service(Desk, total_timeout=10.0)

    async def run(self, text: str) -> str:
        try:
            return await self.desk.work(text)
        except TaskTimedOutError:
            return "timed out"


async def test_the_total_timeout_stops_the_attempt_that_runs(sim: Simulation) -> None:
    """S5."""
    log = Log(sim)
    sim.add_workflow(Limited)
    assert await sim.client.new_workflow(Limited).run("a") == "timed out"
    await sim.sleep(2000.0)
    assert log.lines == [(0, "a begins"), (10, "a told"), (10, "a cancelled")]


class Changeable(Workflow):
    desk = Workflow.new_service(Desk)

    async def by_user(self, text: str) -> str:
        deferred = self.dispatch(self.desk.work, text)
        await self.timer(5.0)
        deferred.cancel()
        try:
            return await deferred
        except TaskCanceledError:
            return "canceled"

    async def by_timeout(self, text: str) -> str:
        try:
            async with asyncio.timeout(5.0):
                return await self.desk.work(text)
        except TimeoutError:
            return "canceled"

    async def by_task(self, text: str) -> str:
        task = asyncio.create_task(self.desk.work(text))
        await asyncio.sleep(5.0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            return await task
        return "canceled"

    async def shielded(self, text: str) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.shield(self.dispatch(self.desk.work, text))
        return "canceled"


@pytest.mark.parametrize("method", ["by_user", "by_timeout", "by_task"])
async def test_a_cancelled_await_stops_the_task(sim: Simulation, method: str) -> None:
    """S6, S25: by `Deferred.cancel`, by `asyncio.timeout`, by a cancelled asyncio task."""
    log = Log(sim)
    sim.add_workflow(Changeable)
    assert await getattr(sim.client.new_workflow(Changeable), method)("a") == "canceled"
    await sim.sleep(2000.0)
    assert log.lines == [(0, "a begins"), (5, "a told"), (5, "a cancelled")]


async def test_shield_keeps_the_task(sim: Simulation) -> None:
    """S25."""
    log = Log(sim)
    sim.add_workflow(Changeable)
    assert await sim.client.new_workflow(Changeable).shielded("a") == "canceled"
    await sim.sleep(2000.0)
    assert log.lines == [(0, "a begins"), (1000, "a ends")]


async def test_a_task_that_backs_off_is_not_sent_again(sim: Simulation) -> None:
    """S6: it is with nobody, so nobody is told."""
    attempts = list[timedelta]()
    began = sim.now

    async def work(self: object, text: str) -> str:
        attempts.append(sim.now - began)
        raise ValueError(text)

    sim.add_service(make_desk(work, retry=always(4.0)))
    sim.add_workflow(Changeable)
    assert await sim.client.new_workflow(Changeable).by_timeout("x") == "canceled"
    await sim.sleep(1000.0)
    assert [each.total_seconds() for each in attempts] == [0, 4]


class Crowd(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self, count: int) -> None:
        for number in range(count):
            self.dispatch(self.desk.work, str(number))

    async def wait(self, count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self.desk.work(str(number)))


@pytest.mark.parametrize("method", ["run", "wait"])
async def test_the_tasks_of_a_cancelled_workflow_are_stopped(sim: Simulation, method: str) -> None:
    """S6: those that it waits for, and those that it has only sent. Those that wait never run."""
    log = Log(sim)
    sim.add_workflow(Crowd)
    handle = await sim.client.dispatch(getattr(sim.client.new_workflow(Crowd), method), 1500)
    await sim.sleep(10.0)
    began = [line for _, line in log.lines]
    assert 0 < len(began) < 1500
    await sim.client.cancel(handle, confirm=True)
    if method == "wait":
        with pytest.raises(WorkflowCanceledError):
            await handle.result()
    await sim.sleep(2000.0)
    lines = [line for _, line in log.lines]
    assert [line for line in lines if line.endswith("begins")] == began
    assert {line for line in lines if line.endswith("cancelled")} == {
        line.replace("begins", "cancelled") for line in began
    }


async def test_an_attempt_that_comes_after_its_cancellation_does_not_run(sim: Simulation) -> None:
    """S6, S13: for ten minutes. An operator's retry of the task is another matter."""
    log = Log(sim)
    sim.add_workflow(Limited)
    handle = await sim.client.dispatch(sim.client.new_workflow(Limited).run, "a")
    assert await handle.result() == "timed out"
    del log.lines[:]

    async def send(retry_sequence: int) -> None:
        attempt = service.ExecuteTask(
            workflow_id=handle.workflow_id,
            workflow_name="Limited",
            position=0,
            sequence=1,
            service="Desk",
            task="work",
            arguments=Raw(b'["b"]'),
            retry_sequence=retry_sequence,
            made_at=sim.clock.now(),
        )
        await sim.transport.publish(
            topics.service_executor("Desk"), [Message(f"b {retry_sequence}", None, service.encode(attempt))]
        )
        await sim.sleep(1.0)

    await sim.sleep(500.0)
    await send(0)
    assert log.lines == []
    await send(1)
    assert [line for _, line in log.lines] == ["b begins"]
    await sim.sleep(1000.0)
    del log.lines[:]
    await send(0)
    assert [line for _, line in log.lines] == ["b begins"], "that is forgotten by now"
    await sim.sleep(1000.0)


async def test_cleanup_of_a_cancelled_task_is_not_interrupted(sim: Simulation) -> None:
    """A task may clean up as long as it wants, and is told only once."""
    log = list[str]()

    async def work(self: object, text: str) -> str:
        try:
            await asyncio.sleep(1000.0)
        finally:
            log.append("begins to clean up")
            await asyncio.sleep(100.0)
            log.append("is clean")
        return text

    sim.add_service(make_desk(work))
    sim.add_workflow(Limited)
    handle = await sim.client.dispatch(sim.client.new_workflow(Limited).run, "a")
    assert await handle.result() == "timed out"
    assert log == ["begins to clean up"]
    again = control.CancelTasks(workflow_id=handle.workflow_id, tasks=((0, 0),))
    topic = topics.service_control("Desk")
    await sim.transport.publish(topic, [Message("control", None, control.encode(again))])
    await sim.sleep(200.0)
    assert log == ["begins to clean up", "is clean"]


def test_a_thread_is_told_and_its_report_is_dropped() -> None:
    """S6: a plain function cannot be cancelled. It looks at `is_cancelled`, or uses `on_cancel`."""
    log = list[str]()
    contexts = list[TaskContext]()

    def block(self: object, text: str) -> str:
        contexts.append(task_context())
        contexts[0].on_cancel(lambda: log.append("told"))
        return text

    async def threads(function: Callable[[], object]) -> object:
        """Call at once, as a thread would. Its result comes much later."""
        value = function()
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            log.append("abandoned")
            raise
        log.append("returned")
        return value

    class Blocked(Workflow):
        desk = Workflow.new_service(Desk, total_timeout=10.0)

        async def run(self) -> str:
            try:
                return await self.dispatch(self.desk.block, "x")
            except TaskTimedOutError:
                return "timed out"

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker(run_blocking=threads)
            worker.add_service(make_desk(block))
            worker.add_workflow(Blocked)
            world.start(worker)
            assert await world.client.new_workflow(Blocked).run() == "timed out"
            assert contexts[0].is_cancelled
            await asyncio.sleep(200.0)
            assert log == ["told", "returned"]

    run(main())


async def test_a_task_that_swallows_its_cancellation_is_not_reported(sim: Simulation) -> None:
    """S6: its result is dropped where it was made, and the next task of the pool is left alone."""
    ended = list[str]()

    async def work(self: object, text: str) -> str:
        try:
            await asyncio.sleep(20.0)
        except asyncio.CancelledError:
            ended.append(f"{text} swallows")
        ended.append(text)
        return text

    sim.add_service(make_desk(work), concurrency=1)
    sim.add_workflow(Limited)
    sim.add_workflow(Job)
    assert await sim.client.new_workflow(Limited).run("a") == "timed out"
    assert await sim.client.new_workflow(Job).run("b") == "b"
    assert ended == ["a swallows", "a", "b"]


class Wide(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> None:
        waiting = list[Deferred[str]]()
        for _ in range(3):
            waiting += [self.dispatch(self.desk.work, str(number)) for number in range(4000)]
            await self.timer(1.0)
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_more_may_be_cancelled_than_one_activation_may_ask_for(sim: Simulation, how: str) -> None:
    """S6, S35: what was asked for in many activations can be cancelled in one."""
    Log(sim)
    sim.add_workflow(Wide)
    handle = await sim.client.dispatch(sim.client.new_workflow(Wide).run)
    await sim.sleep(10.0)
    assert (await sim.client.describe(handle)).open_tasks == 12_000
    assert await getattr(sim.client, how)(handle, confirm=True) is None
    assert (await sim.client.describe(handle)).closed_at is not None
