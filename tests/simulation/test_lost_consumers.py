"""The broker ends consumers often, and operations fail: each signal arrives once, in order.

Messages in hand come again, here or at the other worker, while the old ones are still processed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from infinitic import Channel, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import run
from infinitic_testing.network.fates import make_error
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.world import RETENTION, World

T = TypeVar("T")

KEYS, SIGNALS, ENDINGS = 12, 12, 40


class Echo:
    async def say(self, number: int) -> int:
        return number


class Parrot(Workflow):
    """Repeats each number by a task."""

    echo = Workflow.new_service(Echo)
    numbers = Channel[int]()

    async def listen(self, count: int) -> list[int]:
        receiver = self.numbers.receive()
        return [await self.echo.say(await receiver) for _ in range(count)]


class Shaky(Fence):
    """Each operation takes time, and one in fifty fails, before or after it takes effect."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(latency=lambda: chance.uniform(0.0, 0.05))
        self._chance = chance
        self.calm = False

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        fails = not self.calm and not operation.startswith("receive") and self._chance.random() < 0.02
        if fails and self._chance.random() < 0.5:
            raise make_error(operation, is_outcome_unknown=self._chance.random() < 0.5)
        result = await super().perform(operation, call)
        if fails and not operation.startswith("subscribe"):  # a broker ends a consumer that nobody has
            raise make_error(operation, is_outcome_unknown=True)
        return result


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cache_size", [0, 5, 1000])
def test_each_signal_arrives_once_and_in_order(seed: int, cache_size: int) -> None:
    async def main() -> None:
        chance = random.Random(seed * 1000 + cache_size)
        world, connections, fences = World(), list[InMemoryTransport](), list[Shaky]()
        async with world.open():
            for _ in range(2):
                fence, connection = Shaky(chance), InMemoryTransport(world.broker, clock=world.clock)
                storage = FencedStorage(InMemoryStorage(world.database), fence)
                worker = world.worker(FencedTransport(connection, fence), storage, cache_size=cache_size)
                worker.add_service(Echo())
                worker.add_workflow(Parrot, retention=RETENTION)
                world.start(worker)
                connections.append(connection)
                fences.append(fence)
            stub = world.client.new_workflow(Parrot)
            handles = [await world.client.dispatch(stub.listen, SIGNALS) for _ in range(KEYS)]
            ending = asyncio.create_task(_end_consumers(connections, chance))
            for number in range(SIGNALS):
                for handle in handles:
                    at = world.client.get_workflow_by_id(Parrot, handle.workflow_id)
                    await at.numbers.send(number)
                await asyncio.sleep(chance.uniform(0.0, 0.5))
            await ending
            for fence in fences:
                fence.calm = True
            for handle in handles:
                assert await handle.result(timeout=300.0) == list(range(SIGNALS))
            await world.settle()
            assert not world.backlog()

    run(main())


async def _end_consumers(connections: list[InMemoryTransport], chance: random.Random) -> None:
    for _ in range(ENDINGS):
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        consumers: list[Any] = list(chance.choice(connections)._consumers)  # pyright: ignore[reportPrivateUsage]  # the broker's doing
        if consumers:
            chance.choice(consumers).crash()
