"""S2, S4, S5, S9: attempts that end too late, are cancelled, or end with their process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from infinitic import TaskContext, TaskTimedOutError, Workflow, task_context
from infinitic.engines import state
from infinitic_testing.fences import Fence
from infinitic_testing.loop import VirtualLoop, run
from infinitic_testing.simulation import Simulation
from tests.simulation.desk import Desk, Job, always, failure_of, host_desk, make_desk
from tests.simulation.invariants import read_instances
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.recording import RecordingTransport
from tests.simulation.world import World


async def test_an_attempt_that_takes_too_long_is_cancelled_and_retried(sim: Simulation) -> None:
    """S4, asynchronous."""
    log = list[str]()

    async def work(self: object, text: str) -> str:
        context = task_context()
        context.on_cancel(lambda: log.append("on_cancel"))
        if context.retry_index:
            return text
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            log.append(f"cancelled {context.is_cancelled}")
            raise
        return "never"

    began = sim.now
    sim.add_service(make_desk(work, retry=always(1.0), attempt_timeout=5.0))
    sim.add_workflow(Job)
    assert await sim.client.new_workflow(Job).run("done") == "done"
    assert sim.now - began == timedelta(seconds=6)
    assert sorted(log) == ["cancelled False", "on_cancel"] or sorted(log) == ["cancelled True", "on_cancel"]


async def test_a_timeout_without_a_policy_fails_the_task(sim: Simulation) -> None:
    """S4."""

    async def work(self: object, text: str) -> str:
        await asyncio.sleep(100.0)
        return text

    sim.add_service(make_desk(work, attempt_timeout=5.0))
    sim.add_workflow(Job)
    failure = await failure_of(sim.client.new_workflow(Job).run("x"))
    assert failure.exception.short_name == "AttemptTimedOut"


def test_a_thread_that_takes_too_long_is_told_so_and_left_alone() -> None:
    """S4, plain methods: `is_cancelled` and `on_cancel` tell the task. Its attempt fails."""
    log = list[str]()
    contexts = list[TaskContext]()

    def block(self: object, text: str) -> str:
        context = task_context()
        contexts.append(context)
        context.on_cancel(lambda: log.append(f"told at {context.retry_index}"))
        return text

    async def threads(function: Callable[[], object]) -> object:
        """Call at once, as a thread would. The first attempt returns its result much later."""
        value = function()
        await asyncio.sleep(100.0 if len(contexts) == 1 else 1.0)
        return value

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker(run_blocking=threads)
            worker.add_service(make_desk(block, retry=always(1.0), attempt_timeout=5.0))
            worker.add_workflow(Job)
            world.start(worker)
            began = world.clock.now()
            assert await world.client.new_workflow(Job).run_blocking("done") == "done"
            assert world.clock.now() - began == 7.0
            assert log == ["told at 0"]
            assert [each.is_cancelled for each in contexts] == [True, False]

    run(main())


class Hasty(Workflow):
    desk = Workflow.new_service(Desk, total_timeout=10.0)

    async def run(self, text: str) -> str:
        try:
            return await self.desk.work(text)
        except TaskTimedOutError as error:
            return f"{error.method_name} timed out"


async def test_the_total_timeout_counts_all_attempts(sim: Simulation) -> None:
    """S5: it is raised in the workflow at its time, and no attempt is sent any more."""
    attempts = list[timedelta]()

    async def work(self: object, text: str) -> str:
        attempts.append(sim.now - began)
        raise ValueError(text)

    sim.add_service(make_desk(work, retry=always(4.0)))
    sim.add_workflow(Hasty)
    began = sim.now
    assert await sim.client.new_workflow(Hasty).run("x") == "work timed out"
    assert sim.now - began == timedelta(seconds=10)
    await sim.sleep(1000.0)
    assert [each.total_seconds() for each in attempts] == [0, 4, 8]


async def test_a_cancellation_nobody_asked_for_is_a_failed_attempt(sim: Simulation) -> None:
    """S9."""

    async def work(self: object, text: str) -> str:
        if not task_context().retry_index:
            raise asyncio.CancelledError
        return text

    sim.add_service(make_desk(work, retry=always(1.0)))
    sim.add_workflow(Job)
    assert await sim.client.new_workflow(Job).run("done") == "done"


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_who_wants_to_leave_leaves_and_another_worker_goes_on(leaving: type[BaseException]) -> None:
    """S9: `SystemExit` and `KeyboardInterrupt` stop the worker, the message goes to another one."""
    broker, database = ObservedBroker(), ObservedDatabase()
    connections = list[RecordingTransport]()
    ran = list[str]()

    async def work(self: object, text: str) -> str:
        ran.append(text)
        if len(ran) == 1:
            raise leaving
        return text

    async def first() -> None:
        world = World(broker, database, is_watched=False)
        connections.append(world.connect())
        async with world.open():
            world.start(host_desk(world.worker(connections[0]), make_desk(work)))
            await world.client.new_workflow(Job).run("done")

    async def second() -> None:
        world = World(broker, database, is_watched=False)
        async with world.open():
            ((key, _),) = read_instances(database).items()
            world.start(host_desk(world.worker(), make_desk(work)))
            assert await world.client.get_handle(Job.run, key.id).result() == "done"

    loop = VirtualLoop()
    with pytest.raises(leaving):
        loop.run_until_complete(first())
    connections[0].crash()  # the process is gone
    for each in loop.pending_tasks():
        each.cancel()
    while tasks := loop.pending_tasks():
        with suppress(leaving):  # it leaves through every task that waits for the one that left
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    run(second())
    assert ran == ["done", "done"]


def test_a_task_that_kills_five_processes_fails_for_good() -> None:
    """S2: the message is counted before it runs, so that a poison message ends somewhere."""
    ran = list[int]()

    async def main() -> None:
        world = World()
        hosts = list[asyncio.Task[None]]()

        def arrive() -> None:
            fence = Fence()

            async def work(self: object, text: str) -> str:
                ran.append(len(hosts))
                fence.cut()
                await asyncio.get_running_loop().create_future()
                return "never"

            worker = world.fenced(fence)
            host = world.start(host_desk(worker, make_desk(work, retry=always(0.0))))
            hosts.append(host)
            fence.on_cut(host.cancel)
            fence.on_cut(arrive)

        async with world.open():
            arrive()
            failure = await failure_of(world.client.new_workflow(Job).run("x"))
            assert failure.exception.short_name == "WorkerDied"
            await world.run_until_idle()
            (head, _) = next(iter(read_instances(world.database).values()))
            assert state.decode(head).status == "failed"
            assert not world.backlog()

    run(main())
    assert ran == [1, 2, 3, 4, 5]
