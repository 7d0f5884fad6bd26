"""S40: a worker that stops finishes what runs, and hands the rest back to others."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence

import pytest

from infinitic import Client, Worker, Workflow, task
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import Lanes
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.taking import LAST_MESSAGES_SECONDS
from infinitic.runtime.subscription import Subscription
from infinitic.topics import service_executor, workflow_engine
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.fences import FencedStorage, FencedTransport
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Approval, Case, Numbers
from tests.simulation.faulty import Outage
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all


class Batch(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self, width: int, seconds: float) -> list[int]:
        return list(await asyncio.gather(*(self.numbers.wait(each, seconds) for each in range(width))))


CASE = Case("batch", (Batch, Approval), lambda client: asyncio.sleep(0))


def test_what_runs_is_finished_and_the_rest_goes_to_others_as_if_it_was_fresh() -> None:
    """A task that only waited at a worker that stops is not counted as a death."""

    async def main() -> None:
        world = World()
        async with world.open():
            first = world.worker()
            first.add_service(Numbers, concurrency=2)
            first.add_workflow(Batch)
            async with first.running():
                handle = await world.client.dispatch(world.client.new_workflow(Batch).run, 6, 10.0)
                await asyncio.sleep(5.0)
            assert world.clock.now() % 100 == 10.0, "the two that ran took their time"
            stats = (await world.transport.stats(service_executor("Numbers"))).subscriptions["service-executor"]
            assert (stats.backlog, stats.unacked) == (4, 0)
            second = world.worker()
            second.add_service(Numbers)
            second.add_workflow(Batch)
            world.start(second)
            assert await handle.result() == [0, 1, 2, 3, 4, 5]
            deaths = [
                message.body
                for topic, message in world.published
                if topic.name.startswith("service") and b'"d":' in message.body
            ]
            assert deaths == []

    run(main())


def test_grace_ends_and_what_still_runs_is_handed_back() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            first = world.worker(shutdown_grace_period=3.0)
            host_all(first, CASE)
            async with first.running():
                handle = await world.client.dispatch(world.client.new_workflow(Batch).run, 3, 100.0)
                await asyncio.sleep(5.0)
                began = world.clock.now()
            assert world.clock.now() - began == 3.0
            world.host(CASE, host_all)
            assert await handle.result() == [0, 1, 2]
            assert world.clock.now() - began == 103.0

    run(main())


def test_rolling_restarts_of_engines_send_nothing_twice() -> None:
    """A worker that stops marks its outboxes as published, so its successor sends no task again."""

    async def main() -> None:
        world = World()
        async with world.open():
            tasks = world.worker()
            tasks.add_service(Numbers)
            world.start(tasks)
            handles = [await world.client.dispatch(world.client.new_workflow(Batch).run, 2, 100.0) for _ in range(3)]
            for _ in range(4):
                worker = world.worker()
                worker.add_workflow(Batch)
                async with worker.running():
                    await world.run_until_idle()
                    for handle in handles:
                        info = await world.client.describe(handle)
                        assert info.open_tasks == 2
            last = world.worker()
            last.add_workflow(Batch)
            world.start(last)
            assert [await handle.result() for handle in handles] == [[0, 1]] * 3
            assert sum(topic == service_executor("Numbers") for topic, _ in world.published) == 6

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_worker_may_be_stopped_before_its_components_have_begun(seed: int) -> None:
    """Which of two tasks runs first, `run` of a component or its `drain`, is up to the loop."""

    async def main() -> None:
        world = World()
        async with world.open():
            handle = await world.client.dispatch(world.client.new_workflow(Batch).run, 2, 1.0)
            await world.run_until_idle()
            hasty = world.worker(shutdown_grace_period=5.0)
            hasty.add_service(Numbers)
            hasty.add_workflow(Batch)
            async with hasty.running():
                pass
            assert hasty.left == []
            backlog = {topic: left[:2] for topic, left in world.backlog().items()}
            assert all(unacked == 0 for _, unacked in backlog.values())
            last = world.worker()
            last.add_service(Numbers)
            last.add_workflow(Batch)
            world.start(last)
            assert await handle.result() == [0, 1]

    run(main(), choices=Choices(seed))


def test_draining_while_the_storage_is_away_ends_and_loses_nothing() -> None:
    """S39, S40: the drain does not wait until outboxes are marked as published."""

    async def main() -> None:
        world = World()
        outage = Outage()
        async with world.open():
            first = world.worker(storage=FencedStorage(InMemoryStorage(world.database), outage))
            host_all(first, CASE)
            async with first.running():
                idle = await world.client.dispatch(world.client.new_workflow(Approval).run)
                await world.client.get_workflow_by_id(Approval, idle.workflow_id).approvals.send("a", confirm=True)
                handle = await world.client.dispatch(world.client.new_workflow(Approval).run)
                await world.run_until_idle()
                stub = world.client.get_workflow_by_id(Approval, handle.workflow_id)
                await stub.approvals.send("a", confirm=True)
                await stub.approvals.send("b", confirm=True)
                outage.down.add("storage")
                await stub.approvals.send("c")
                await world.run_until_idle()
            assert (await world.transport.stats(service_executor("Numbers"))).subscriptions[
                "service-executor"
            ].unacked == 0
            world.host(CASE, host_all)
            assert await handle.result() == ["a", "b", "3", "late"]

    run(main())


def test_what_is_added_while_the_broker_is_away_does_not_hold_it_up() -> None:
    async def main() -> None:
        world, outage = World(), Outage()
        async with world.open():
            worker = Worker(
                FencedTransport(world.connect(), outage),
                InMemoryStorage(world.database),
                clock=world.clock,
                shutdown_grace_period=3.0,
            )
            worker.add_service(Numbers)
            async with worker.running():
                outage.down.add("broker")
                worker.add_workflow(Approval)
                await asyncio.sleep(1.0)
                began = world.clock.now()
            assert 3.0 <= world.clock.now() - began <= 3.0 + LAST_MESSAGES_SECONDS + 1e-6

    run(main())


PATIENCE = 60.0
"""Seconds after which a test on the real clock gives up, rather than hang."""


class Held:
    """A task that runs until the test lets it go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.release = threading.Event()

    @task
    def hold(self) -> str:
        self.began.set()
        self.release.wait(PATIENCE)
        return "finished"


class Holding(Workflow):
    held = Workflow.new_service(Held)

    async def run(self) -> str:
        return await self.dispatch(self.held.hold)


def test_a_signal_drains_a_worker_on_a_real_loop() -> None:
    """SIGTERM: `run` returns once the task that ran has been reported."""

    async def main() -> None:
        transport, database, held = InMemoryTransport(), ObservedDatabase(), Held()
        worker = Worker(transport, InMemoryStorage(database))
        worker.add_service(held)
        worker.add_workflow(Holding)
        async with Client(InMemoryTransport(transport.broker)) as client:
            running = asyncio.create_task(worker.run())
            result = asyncio.create_task(client.new_workflow(Holding).run())
            assert await asyncio.to_thread(held.began.wait, PATIENCE)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
            stopped_at_once = running.done()
            held.release.set()
            await asyncio.wait_for(running, PATIENCE)
            assert not stopped_at_once
            # The report is in the broker: whoever comes next takes it.
            other = Worker(InMemoryTransport(transport.broker), InMemoryStorage(database))
            other.add_workflow(Holding)
            async with other.running():
                assert await asyncio.wait_for(result, PATIENCE) == "finished"

    asyncio.run(main())


def test_lanes_that_are_drained_before_they_run_take_nothing() -> None:
    """A worker may stop before its components have run at all: seed 12 of the scenario `crowd`."""

    async def main() -> None:
        world = World()
        async with world.open():
            topic = workflow_engine("Batch")
            subscription = Subscription(Publisher(world.connect()), topic, 10)
            await subscription.join()
            lanes = Lanes(subscription, _handle_nothing, world.clock, concurrency=1)
            await lanes.drain()
            await world.transport.publish(topic, [Message("one", "one", b"")])
            await lanes.run()
            [stats] = (await world.transport.stats(topic)).subscriptions.values()
            assert (stats.backlog, stats.unacked) == (1, 0)
            await subscription.close()

    run(main())


async def _handle_nothing(lanes: Sequence[Lane]) -> None:
    raise AssertionError("nothing was received")
