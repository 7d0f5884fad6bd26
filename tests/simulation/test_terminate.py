"""S35: `terminate` closes an instance at once, in any state, and none of its code runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from infinitic import (
    Channel,
    Client,
    UsageError,
    Worker,
    Workflow,
    WorkflowCanceledError,
    WorkflowHandle,
    WorkflowStatus,
    WorkflowTerminatedError,
    WorkflowUnknownError,
    task_context,
)
from infinitic.messages import engine
from infinitic.topics import workflow_engine
from infinitic.transport import Message
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.simulation.inbox import CASE, ENGINE, Inbox, send, start
from tests.simulation.invariants import read_instances
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.test_split import Diverging, Recorded, host_code, host_fused, host_rest
from tests.simulation.test_unparking import Mendable
from tests.simulation.world import World, run_scenario, stop


class Desk:
    def __init__(self) -> None:
        self.log: list[str] = []

    async def work(self, name: str) -> str:
        self.log.append(f"{name} begins")
        task_context().on_cancel(lambda: self.log.append(f"{name} told"))
        await asyncio.sleep(1000.0)
        self.log.append(f"{name} ends")
        return name


class Job(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def run(self) -> str:
        background = self.dispatch(self.desk.work, "sent")
        try:
            await self.desk.work("awaited")
            return await background
        finally:
            await self.desk.work("clean-up")

    async def wait(self) -> str:
        return await self.go.receive()

    async def hold(self) -> None:
        await self.timer(500.0)


async def test_whoever_waits_is_told_and_tasks_are_stopped_and_no_code_runs(sim: Simulation) -> None:
    """S6, S35."""
    desk = Desk()
    sim.add_service(desk)
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).run)
    stub = sim.client.get_workflow_by_id(Job, handle.workflow_id)
    parallel = await sim.client.dispatch(stub.wait)
    await sim.sleep(10.0)
    await sim.client.terminate(stub, reason="it hangs", confirm=True)
    for each in (handle, parallel):
        with pytest.raises(WorkflowTerminatedError, match="terminated") as caught:
            await each.result()
        assert caught.value.reason == "it hangs"
    await sim.sleep(2000.0)
    assert sorted(desk.log) == ["awaited begins", "awaited told", "sent begins", "sent told"]
    info = await sim.client.describe(stub)
    assert (info.status, info.open_tasks, info.open_timers) == (WorkflowStatus.TERMINATED, 0, 0)
    with pytest.raises(WorkflowTerminatedError):
        await sim.client.get_handle(Job.run, handle.workflow_id).result()
    await sim.client.terminate(stub, confirm=True)  # that is what is wanted, and so it is
    with pytest.raises(WorkflowUnknownError):
        await sim.client.cancel(stub, confirm=True)


async def test_the_result_of_a_method_that_has_ended_stays(sim: Simulation) -> None:
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).wait)
    stub = sim.client.get_workflow_by_id(Job, handle.workflow_id)
    held = await sim.client.dispatch(stub.hold)
    await stub.go.send("done")
    assert await handle.result() == "done"
    await sim.client.terminate(stub)
    with pytest.raises(WorkflowTerminatedError):
        await held.result()
    assert await sim.client.get_handle(Job.wait, handle.workflow_id).result() == "done"
    assert (await sim.client.describe(stub)).status is WorkflowStatus.TERMINATED


async def test_a_termination_that_overtakes_the_start_waits_for_it(sim: Simulation) -> None:
    """S13."""
    sim.add_workflow(Job)
    stub = sim.client.get_workflow_by_id(Job, "early")
    terminating = asyncio.ensure_future(sim.client.terminate(stub, confirm=True))
    await sim.sleep(1.0)
    topic = workflow_engine("Job")
    begin = engine.Start(made_at=sim.clock.now(), method="wait", arguments=Raw(b"[]"))
    await sim.transport.publish(topic, [Message("early", "early", engine.encode(begin))])
    await terminating
    assert (await sim.client.describe(stub)).status is WorkflowStatus.TERMINATED


async def test_one_that_nobody_knows_is_unknown(sim: Simulation) -> None:
    sim.add_workflow(Job)
    with pytest.raises(WorkflowUnknownError):
        await sim.client.terminate(sim.client.get_workflow_by_id(Job, "nobody"), confirm=True)


@pytest.mark.parametrize("reason", [3, None, "\ud800"])
async def test_a_reason_is_text(sim: Simulation, reason: object) -> None:
    stub = sim.client.get_workflow_by_id(Job, "any")
    with pytest.raises(UsageError, match="The reason of a termination"):
        await sim.client.terminate(stub, reason=reason)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_long_reason_is_cut(sim: Simulation) -> None:
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).wait)
    await sim.client.terminate(handle, reason="x" * 100_000)
    with pytest.raises(WorkflowTerminatedError) as caught:
        await handle.result()
    assert 4_000 < len(caught.value.reason) < 9_000


@asynccontextmanager
async def opened(split: bool) -> AsyncGenerator[World]:
    world = World()
    async with world.open():
        if split:
            worker = world.worker()
            host_rest(worker)
            world.start(worker)
        yield world


def deploy(world: World, cls: type[Workflow], split: bool) -> asyncio.Task[None]:
    worker: Worker = world.worker()
    (host_code if split else host_fused)(worker, cls)
    return world.start(worker)


async def check_terminated(world: World, handle: WorkflowHandle[str]) -> None:
    with pytest.raises(WorkflowTerminatedError):
        await handle.result()
    info = await world.client.describe(handle)
    assert (info.status, info.stalled, info.parked) == (WorkflowStatus.TERMINATED, None, False)
    found = (await world.client.list_workflows(status=WorkflowStatus.TERMINATED)).found
    assert [(each.key.id, each.entry.flag) for each in found] == [(handle.workflow_id, None)]


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_a_stalled_instance_is_terminated(split: bool) -> None:
    """S35: its code cannot run, and need not."""

    async def main() -> None:
        async with opened(split) as world:
            before = deploy(world, Recorded, split)
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await asyncio.sleep(1.0)
            await stop([before])
            deploy(world, Diverging, split)
            stub = world.client.get_workflow_by_id(Recorded, handle.workflow_id)
            await world.client.dispatch(stub.look)
            await asyncio.sleep(600.0)
            assert (await world.client.describe(stub)).stalled is not None
            reason = await world.client.cancel(stub, confirm=True)
            assert reason is not None
            assert "terminate" in reason, "what cancels it at once is named"
            await world.client.terminate(stub, confirm=True)
            await check_terminated(world, handle)

    run(main())


def test_an_activation_that_runs_elsewhere_does_not_count() -> None:
    """S12, S35: nobody has its code. The decision that comes later changes nothing."""

    async def main() -> None:
        async with opened(split=True) as world:
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await asyncio.sleep(1.0)
            await world.client.terminate(handle, confirm=True)
            await check_terminated(world, handle)
            before = read_instances(world.database)
            deploy(world, Recorded, split=True)
            await world.run_until_idle()
            assert read_instances(world.database) == before

    run(main())


def test_a_parked_instance_is_terminated() -> None:
    """S35, S38: what waits before it is a dead letter, and what comes later finds it closed."""

    async def scenario(world: World) -> None:
        broken = await start(world, 5)
        await send(world, broken, *(encode_signal(world, each) for each in ("1", "poison")))
        await asyncio.sleep(70.0)
        stub = world.client.get_workflow_by_id(Inbox, broken)
        assert (await world.client.describe(stub)).parked
        await world.client.terminate(stub, confirm=True)
        handle = world.client.get_handle(Inbox.read, broken)
        with pytest.raises(WorkflowTerminatedError):
            await handle.result()
        assert not (await world.client.describe(stub)).parked
        with pytest.raises(WorkflowUnknownError):
            await stub.letters.send("2", confirm=True)
        assert len(await take_dead_letters(world, ENGINE)) == 1

    run_scenario(scenario, CASE, database=Mendable())


async def test_a_repeat_of_a_termination_changes_nothing(sim: Simulation) -> None:
    """S13."""
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).wait)
    request = engine.Terminate(made_at=sim.clock.now(), request_id="t", reason="first")
    message = Message("t", handle.workflow_id, engine.encode(request))
    for _ in range(3):
        await sim.transport.publish(workflow_engine("Job"), [message, message])
        await sim.sleep(10.0)
    with pytest.raises(WorkflowTerminatedError, match="first"):
        await handle.result()


async def test_a_client_of_another_process_reads_that_it_was_terminated(sim: Simulation) -> None:
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).wait)
    await sim.client.terminate(handle, reason="enough")
    async with Client(sim.transport, name="other", clock=sim.clock) as other:
        with pytest.raises(WorkflowTerminatedError, match="enough"):
            await other.get_handle(Job.wait, handle.workflow_id).result()


async def test_it_is_kept_for_a_day_if_its_code_has_never_run(sim: Simulation) -> None:
    """Its class says how long to keep it. Nobody knows that yet."""
    worker_less = sim.client.new_workflow(Job)
    handle = await sim.client.dispatch(worker_less.wait)
    await sim.client.terminate(handle)
    sim.add_workflow(Job)
    with pytest.raises((WorkflowTerminatedError, WorkflowCanceledError)):
        await handle.result()
    assert (await sim.client.describe(handle)).status is WorkflowStatus.TERMINATED
