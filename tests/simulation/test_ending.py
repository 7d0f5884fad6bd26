"""S40: a worker ends within its grace period and 3 s, and says what it left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from infinitic import Worker, Workflow
from infinitic.runtime.service_executor.taking import LAST_MESSAGES_SECONDS
from infinitic.storage import Storage
from infinitic.topics import service_executor
from infinitic.transport import Transport
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.intercepting import InterceptedTransport, Interceptor, Operation
from infinitic_testing.loop import run
from tests.simulation.world import World

T = TypeVar("T")

GRACE = 10.0
CLOSING = 3.0
CLEANING = 2.0
"""What is cancelled may clean up for half a second, at each of the steps of the end."""


class Frost(Interceptor):
    """While it `holds`, the broker answers nothing, not even `close`."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = False

    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if self.holds:
            await asyncio.get_running_loop().create_future()
        return await call()

    async def close(self, call: Callable[[], Awaitable[None]]) -> None:
        await self.perform(Operation("close"), call)


class Sleeper:
    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"


class Stubborn:
    """A task that ignores its cancellation for a while."""

    async def sleep(self, seconds: float) -> str:
        for _ in range(100):
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                continue
        return "slept"


class Night(Workflow):
    sleeper = Workflow.new_service(Sleeper)
    stubborn = Workflow.new_service(Stubborn)

    async def run(self, seconds: float) -> str:
        return await self.sleeper.sleep(seconds)

    async def stay(self, seconds: float) -> str:
        return await self.stubborn.sleep(seconds)


def make_worker(world: World, transport: Transport, storage: Storage) -> Worker:
    worker = Worker(transport, storage, clock=world.clock, shutdown_grace_period=GRACE, name="sleepy")
    worker.add_service(Sleeper())
    worker.add_service(Stubborn())
    worker.add_workflow(Night)
    return worker


@pytest.mark.parametrize("away", ["broker", "storage", "both"])
@pytest.mark.parametrize("seconds", [0.5, 1000.0], ids=["a report", "a task"])
def test_an_end_while_servers_do_not_answer_is_bounded(
    away: str, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks that run are cut when the grace period is over. Their reports cannot be sent."""

    async def main() -> None:
        world, fence, frost = World(), Fence(), Frost()
        async with world.open():
            transport = InterceptedTransport(world.connect(), frost)
            worker = make_worker(world, transport, FencedStorage(InMemoryStorage(world.database), fence))
            async with worker.running():
                handle = await world.client.dispatch(world.client.new_workflow(Night).run, seconds)
                await world.run_until_idle()
                frost.holds = away != "storage"
                if away != "broker":
                    fence.cut()
                await asyncio.sleep(0.6)
                began = world.clock.now()
            took = world.clock.now() - began
            assert took <= GRACE + CLOSING + CLEANING
            if away != "storage":
                expected = "1 report(s) not sent" if seconds < 1 else "1 x sleep running"
                assert expected in caplog.text
                assert "Left as it is" in caplog.text
                assert worker.left
            frost.holds = False
            await transport.close()
            second = world.worker()
            second.add_service(Sleeper())
            second.add_service(Stubborn())
            second.add_workflow(Night)
            world.start(second)
            assert await handle.result() == "slept"

    run(main())


def test_what_does_not_end_when_it_is_cancelled_is_left_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            worker = make_worker(world, world.connect(), InMemoryStorage(world.database))
            async with worker.running():
                await world.client.dispatch(world.client.new_workflow(Night).stay, 1000.0)
                await world.run_until_idle()
                began = world.clock.now()
            assert world.clock.now() - began <= GRACE + CLOSING + CLEANING
            assert "service Stubborn: 1 x sleep running" in caplog.text

    run(main())


def test_a_worker_that_is_stopped_at_once_hands_back_in_good_order() -> None:
    """After a second signal, tasks in hand are published as new, and count as no death."""

    async def main() -> None:
        world = World()
        async with world.open():
            host = world.start(make_worker(world, world.connect(), InMemoryStorage(world.database)))
            await world.client.dispatch(world.client.new_workflow(Night).run, 1000.0)
            await world.run_until_idle()
            began = world.clock.now()
            host.cancel()
            await asyncio.gather(host, return_exceptions=True)
            assert world.clock.now() - began <= LAST_MESSAGES_SECONDS + 1e-6
            stats = (await world.transport.stats(service_executor("Sleeper"))).subscriptions["service-executor"]
            assert (stats.backlog, stats.unacked) == (1, 0)
            sent = [message for topic, message in world.published if topic == service_executor("Sleeper")]
            assert len(sent) == 2
            assert sent[0].body == sent[1].body

    run(main())


def test_one_that_does_not_end_leaves_the_others_time_to_be_handed_back() -> None:
    """A task that ignores its cancellation does not take the time to hand back the others."""

    async def main() -> None:
        world = World()
        async with world.open():
            slow = Fence(latency=lambda: 0.15)
            transport = FencedTransport(world.connect(), slow)
            worker = make_worker(world, transport, InMemoryStorage(world.database))
            async with worker.running():
                await world.client.dispatch(world.client.new_workflow(Night).run, 1000.0)
                await world.client.dispatch(world.client.new_workflow(Night).stay, 1000.0)
                await asyncio.sleep(5.0)
                began = world.clock.now()
            assert world.clock.now() - began <= GRACE + CLOSING + CLEANING
            stats = (await world.transport.stats(service_executor("Sleeper"))).subscriptions["service-executor"]
            assert (stats.backlog, stats.unacked) == (1, 0)
            sent = [message for topic, message in world.published if topic == service_executor("Sleeper")]
            assert len(sent) == 2, "it is published as new"

    run(main())
