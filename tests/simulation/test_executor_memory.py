"""S39: a workflow executor keeps its bounds of memory, also while it can send nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic import topics
from infinitic.errors import TransportError
from infinitic_testing.intercepting import InterceptedTransport, Operation, Passing
from infinitic_testing.loop import run
from tests.simulation.cases import Timers, by_name
from tests.simulation.world import World, host_engines, host_executors

T = TypeVar("T")
CASE = by_name("timers")
TOPIC = topics.workflow_engine("Timers")


class Refusal(Passing):
    """The broker refuses the second decision."""

    __slots__ = ("happened", "left")

    def __init__(self) -> None:
        self.left = 2
        self.happened = asyncio.Event()

    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.topic == TOPIC and operation.verb == "publish":
            self.left -= 1
            if self.left <= 0:
                self.happened.set()
                raise TransportError("no room")
        return await call()


def test_what_was_decided_and_cannot_be_sent_is_evicted() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            world.host(CASE, host_engines)
            refusal = Refusal()
            worker = world.worker(InterceptedTransport(world.connect(), refusal), cache_size=0)
            host_executors(worker, CASE)
            world.start(worker)
            await world.run_until_idle()
            await world.client.dispatch(world.client.new_workflow(Timers).run)
            await refusal.happened.wait()
            await world.run_until_idle()
            assert worker.count_held()["messages"] == 1
            assert worker.count_held()["instances above the bound"] == 0

    run(main())
