"""S24, S28, S37, F11: wakes, tasks and answers that arrive when nobody needs them any more."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Client, Workflow, WorkflowCanceledError, topics
from infinitic.engines import state
from infinitic.messages import engine, events
from infinitic.storage import StateKey
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.cases import Case, Numbers
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.world import RETENTION, World, run_scenario


class Sleeper(Workflow):
    async def sleep(self, *seconds: float) -> int:
        for each in seconds:
            await asyncio.sleep(each)
        return len(seconds)


class Departing(Workflow):
    """Leaves a task behind when it is cancelled."""

    numbers = Workflow.new_service(Numbers)

    async def stay(self) -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            self.dispatch(self.numbers.add, 1, 1)


CASE = Case("leftovers", (Sleeper, Departing), lambda client: asyncio.sleep(0))


def test_early_late_and_repeated_wakes_fire_nothing_twice_and_nothing_early() -> None:
    """S24, F11."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Sleeper).sleep, 10.0, 10.0, 90_000.0)
        key = StateKey("Sleeper", handle.workflow_id)
        topic = topics.workflow_engine("Sleeper")
        began = world.clock.now()
        await world.run_until_idle()
        for pause in (0.0, 5.0, 4.9, 0.2, 30_000.0, 30_000.0):
            await asyncio.sleep(pause)
            armed = state.decode(read_instances(world.database)[key][0]).armed
            assert armed is not None
            for due in (armed, armed - 1.0, began + 10.0, began + 86_400.0):
                wake = engine.Wake(made_at=world.clock.now(), due=due)
                await world.transport.publish(topic, [Message("wake", key.id, engine.encode(wake))])
            await world.run_until_idle()
        assert await handle.result() == 3
        assert world.clock.now() - began == 90_020.0
        head, segments = read_instances(world.database)[key]
        fired = [each.position for each in decode_history(segments) if isinstance(each, events.TimerFired)]
        assert fired == [0, 1, 2]
        await asyncio.sleep(90_000.0)
        assert not world.backlog()
        assert read_instances(world.database)[key][0] == head

    run_scenario(scenario, CASE, is_watched=False)


def test_a_tombstone_sends_no_task_again_whoever_asks() -> None:
    """The leftover tasks of a cancelled workflow are sent once, also by different workers."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Departing).stay)
        await world.run_until_idle()
        await world.client.cancel(handle)
        with pytest.raises(WorkflowCanceledError):
            await handle.result()
        await world.client.new_workflow(Sleeper).sleep()  # whatever is committed next takes the mark along
        for _ in range(3):
            with pytest.raises(WorkflowCanceledError):
                await world.client.get_handle(Departing.stay, handle.workflow_id).result()
        sent = [topic.name for topic, _ in world.published]
        assert sent.count("service-executor:Numbers") == 1

    run_scenario(scenario, CASE)


def test_a_client_that_is_gone_blocks_nobody() -> None:
    """S37."""

    async def scenario(world: World) -> None:
        other = Client(world.connect(), name="gone", clock=world.clock)
        async with other:
            asking = [asyncio.create_task(other.new_workflow(Sleeper).sleep(5.0)) for _ in range(3)]
            await world.run_until_idle()
        assert all(isinstance(each, Exception) for each in await asyncio.gather(*asking, return_exceptions=True))
        await asyncio.sleep(10.0)
        assert [state.decode(head).status for head, _ in read_instances(world.database).values()] == ["completed"] * 3
        assert not world.backlog()
        for key in read_instances(world.database):  # a new client fetches what the old one waited for
            assert await world.client.get_handle(Sleeper.sleep, key.id).result() == 1

    run_scenario(scenario, CASE)


class Counted(Workflow):
    """Counts how often it is made."""

    made = 0

    def __init__(self) -> None:
        Counted.made += 1

    async def run(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def test_late_messages_for_tombstones_evict_no_instance_that_runs() -> None:
    """F11."""

    async def main() -> None:
        Counted.made = 0
        world = World(is_watched=False)  # it makes instances to replay them
        async with world.open():
            worker = world.worker(cache_size=1)
            worker.add_workflow(Counted, retention=RETENTION)
            world.start(worker)
            await world.run_until_idle()
            await world.client.new_workflow(Counted).run(1.0)
            sent = [each for each in world.published if each[0].name == "workflow-engine:Counted"]
            running = await world.client.dispatch(world.client.new_workflow(Counted).run, 10.0)
            await world.run_until_idle()
            for _ in range(3):
                await world.deliver_again(sent)
                await world.run_until_idle()
            await asyncio.sleep(1.0)
            assert not {what: count for what, count in worker.count_held().items() if count}
            await running.result()
        assert Counted.made == 2

    run(main())
