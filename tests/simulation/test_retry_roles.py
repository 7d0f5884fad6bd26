"""S34: failed tasks run again, with state engine and code on one worker or on two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from infinitic import RequestRefusedError, WorkflowFailedError, WorkflowUnknownError, topics
from infinitic.engines import state
from infinitic.messages import engine, executor
from infinitic.messages.events import Reopened
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey
from infinitic.transport import Message
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.messages import take_dead_letters
from tests.simulation.scenarios.repairs import Garage, Repair
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario

CASE = Case("repair", (Repair,), lambda client: asyncio.sleep(0), (Garage,))
ENGINE = topics.workflow_engine("Repair")
EXECUTOR = topics.workflow_executor("Repair")
FUSED = (host_all,)
SPLIT = (host_engines, host_executors)

roles = pytest.mark.parametrize("hostings", [FUSED, SPLIT], ids=["fused", "split"])
caches = pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])


def play(
    scenario: Callable[[World], Awaitable[None]], hostings: tuple[Callable[..., None], ...], cache_size: int
) -> None:
    """Run a scenario with workers of these roles."""

    async def begin(world: World) -> None:
        world.host(CASE, *hostings, cache_size=cache_size)
        await world.run_until_idle()
        await scenario(world)

    run_scenario(begin, CASE, host_nothing)


def host_nothing(worker: object, case: Case) -> None:
    """Host nothing: the workers come later."""


async def fail(world: World, method: str = "in_order", times: int = 1) -> str:
    """Start a workflow, wait until it has failed and is closed, and return its id."""
    handle = await world.client.dispatch(getattr(world.client.new_workflow(Repair), method), times)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    await asyncio.sleep(5.0)
    return handle.workflow_id


def read_head(world: World, workflow_id: str) -> state.WorkflowHead:
    return state.decode(read_instances(world.database)[StateKey("Repair", workflow_id)][0])


def count_reopenings(world: World, workflow_id: str) -> int:
    _, segments = read_instances(world.database)[StateKey("Repair", workflow_id)]
    return sum(isinstance(event, Reopened) for event in decode_history(segments))


@roles
@caches
@pytest.mark.parametrize("method", ["in_order", "in_a_group", "gathered", "in_time"])
def test_each_shape_goes_on(hostings: tuple[Callable[..., None], ...], cache_size: int, method: str) -> None:
    async def scenario(world: World) -> None:
        failed = await fail(world, method)
        handle = world.client.get_handle(getattr(Repair, method), failed)
        for _ in range(5):
            if (await world.client.describe(handle)).status is WorkflowStatus.COMPLETED:
                break
            await world.client.retry_tasks(handle)
            await asyncio.sleep(60.0)
        expected = {"in_order": [1, 2, 3], "in_a_group": [0, 1, 2, 3], "gathered": [1, 2, 3], "in_time": [1, 2]}
        assert await handle.result() == expected[method]

    play(scenario, hostings, cache_size)


@roles
def test_a_refused_request_changes_nothing_and_a_repeat_of_it_is_not_obeyed_later(
    hostings: tuple[Callable[..., None], ...],
) -> None:
    """S13: it was refused, and more has failed since then."""

    async def scenario(world: World) -> None:
        failed = await fail(world, "with_care", 1)
        stub = world.client.get_workflow_by_id(Repair, failed)
        with pytest.raises(RequestRefusedError, match="the code has dealt with its failure"):
            await world.client.retry_tasks(stub, task_id=f"{failed}-0")
        closed = read_head(world, failed)
        assert closed.status is WorkflowStatus.FAILED
        assert closed.probe is None
        await world.client.retry_tasks(stub)
        assert await world.client.get_handle(Repair.with_care, failed).result() == [1, 2]
        asked = [(topic, each) for topic, each in world.published if each.body.startswith(b'{"t":"retry_tasks"')]
        assert len(asked) == 2
        await world.deliver_again(asked)
        await asyncio.sleep(60.0)
        assert count_reopenings(world, failed) == 1
        assert (await world.client.describe(stub)).status is WorkflowStatus.COMPLETED

    play(scenario, hostings, 1000)


@roles
def test_repeats_of_every_message_change_nothing_after_a_re_opening(hostings: tuple[Callable[..., None], ...]) -> None:
    """S13, S2: the failures of before are of an older retry sequence."""

    async def scenario(world: World) -> None:
        failed = await fail(world, "in_order", 2)
        stub = world.client.get_workflow_by_id(Repair, failed)
        await world.client.retry_tasks(stub)
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert (await world.client.describe(stub)).status is WorkflowStatus.FAILED
        assert count_reopenings(world, failed) == 1
        await world.client.retry_tasks(stub)
        await asyncio.sleep(60.0)
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert count_reopenings(world, failed) == 2

    play(scenario, hostings, 1000)


@roles
def test_an_instance_whose_retention_has_ended_is_unknown(hostings: tuple[Callable[..., None], ...]) -> None:
    async def scenario(world: World) -> None:
        failed = await fail(world)
        await asyncio.sleep(20 * 86_400.0)
        with pytest.raises(WorkflowUnknownError):
            await world.client.retry_tasks(world.client.get_workflow_by_id(Repair, failed))

    play(scenario, hostings, 1000)


@roles
def test_a_re_opened_instance_does_not_expire_while_it_runs(hostings: tuple[Callable[..., None], ...]) -> None:
    """The entry says that it runs, and nothing removes it when its retention would have ended."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Repair).in_time, 1)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await world.client.retry_tasks(handle)
        (found,) = (await world.client.list_workflows(name="Repair")).found
        assert (found.entry.status, found.entry.closed_at) == (WorkflowStatus.RUNNING, None)

    play(scenario, hostings, 1000)


def test_a_probe_that_becomes_a_dead_letter_is_told_and_another_one_can_be_made() -> None:
    async def scenario(world: World) -> None:
        failed = await fail(world)
        await world.stop()
        world.host(CASE, host_engines)
        stub = world.client.get_workflow_by_id(Repair, failed)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(stub))
        await world.run_until_idle()
        assert read_head(world, failed).probe is not None
        probe = [each for topic, each in world.published if topic == EXECUTOR][-1]
        # Nobody can decode it: an executor says so, by the id of the message.
        consumer = await world.transport.subscribe(EXECUTOR, "workflow-executor", 10)
        await consumer.ack(await consumer.receive(10))
        await consumer.close()
        await world.transport.publish(EXECUTOR, [Message(probe.id, probe.key, b'{"t":"activate","n":-1}')])
        world.host(CASE, host_executors)
        with pytest.raises(
            RequestRefusedError, match=r"it cannot be replayed: Activation \d+ went to the dead letters"
        ):
            await asked
        assert read_head(world, failed).probe is None
        assert len(await take_dead_letters(world, EXECUTOR)) == 1
        await world.client.retry_tasks(stub)
        await asyncio.sleep(60.0)
        assert count_reopenings(world, failed) == 1

    play_unwatched(scenario)


def test_an_answer_of_a_probe_that_nobody_can_decode_is_told() -> None:
    async def scenario(world: World) -> None:
        failed = await fail(world)
        await world.stop()
        world.host(CASE, host_engines)
        stub = world.client.get_workflow_by_id(Repair, failed)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(stub))
        await world.run_until_idle()
        probe = [each for topic, each in world.published if topic == EXECUTOR][-1]
        await world.transport.publish(ENGINE, [Message(probe.id, failed, b'{"t":"probed","i":7}')])
        with pytest.raises(RequestRefusedError, match="it cannot be replayed: "):
            await asked
        assert read_head(world, failed).probe is None

    play_unwatched(scenario)


def test_findings_that_cannot_be_are_refused() -> None:
    """Only an executor with a bug sends such. They must not open what is done."""

    async def scenario(world: World) -> None:
        failed = await fail(world)
        await world.stop()
        world.host(CASE, host_engines)
        stub = world.client.get_workflow_by_id(Repair, failed)
        empty = engine.Probed(made_at=0.0, request_id="")
        for wrong, why in (
            (replace(empty, tasks=(5,)), r"it has no failed tasks at positions \[5\]"),
            (empty, r"it has no failed tasks at positions \[\]"),
            (replace(empty, tasks=(0,), cancellations=(9,), open=(9,)), "it has no task and no timer at position 9"),
            (replace(empty, tasks=(0,), methods=("nobody",)), "it has no failed method nobody"),
        ):
            asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(stub))
            await world.run_until_idle()
            waits = read_head(world, failed).probe
            assert waits is not None
            found = replace(wrong, made_at=world.clock.now(), request_id=waits.request_id)
            await world.transport.publish(ENGINE, [Message("x", failed, engine.encode(found))])
            with pytest.raises(RequestRefusedError, match=why):
                await asked
            assert read_head(world, failed).probe is None

    play_unwatched(scenario)


def test_a_running_workflow_does_nothing_else_while_a_probe_runs_elsewhere() -> None:
    """Its inputs are kept, and handed over when the probe has ended."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Repair).gathered, 1)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await world.stop()
        world.host(CASE, host_engines)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(handle))
        await asyncio.sleep(30.0)
        world.host(CASE, host_executors)
        await asked
        await asyncio.sleep(60.0)
        for _ in range(3):
            if (await world.client.describe(handle)).status is WorkflowStatus.FAILED:
                await world.client.retry_tasks(handle)
                await asyncio.sleep(60.0)
        assert await handle.result() == [1, 2, 3]

    play(scenario, SPLIT, 1000)


def test_who_waits_for_a_probe_is_told_that_its_workflow_is_terminated() -> None:
    """No executor runs the probe. So nothing else would tell it."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Repair).gathered, 1)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await world.stop()
        world.host(CASE, host_engines)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(handle))
        await asyncio.sleep(30.0)
        await world.client.terminate(handle, confirm=True)
        with pytest.raises(RequestRefusedError, match="it was terminated: it is not re-opened"):
            await asked

    play(scenario, SPLIT, 1000)


def play_unwatched(scenario: Callable[[World], Awaitable[None]]) -> None:
    """Run a scenario in which a test sends what no program sends."""

    async def begin(world: World) -> None:
        world.host(CASE, *SPLIT)
        await world.run_until_idle()
        await scenario(world)

    run_scenario(begin, CASE, host_nothing, is_watched=False)


def test_a_probe_can_be_decoded_by_its_receiver() -> None:
    probe = executor.ProbeRequest(request_id="r", tasks=(1,))
    asked = executor.Activate(activation=1, at=1.0, probe=probe)
    assert executor.decode(executor.encode(asked)) == asked
