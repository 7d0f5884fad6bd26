"""S2, S40: ends, kills and lost sessions in random order lose no task.

Orderly ends also run no task twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from infinitic import TaskFailedError, Worker, Workflow
from infinitic.messages import service
from infinitic.runtime.service_executor.deaths import SUSPECT
from infinitic.topics import service_control
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.observed import ObservedBroker
from tests.simulation.sessions import ForgetfulBroker, Grouping, LostSession
from tests.simulation.world import World

KILLS = 2
"""With the two deaths that weak signs may count, one less than a task survives."""


class Work:
    running: ClassVar[Counter[int]]
    ran: ClassVar[Counter[int]]
    ended: ClassVar[Counter[int]]
    most: ClassVar[int]

    async def do(self, number: int, seconds: float) -> int:
        Work.ran[number] += 1
        Work.running[number] += 1
        Work.most = max(Work.most, Work.running[number])
        try:
            await asyncio.sleep(seconds)
        finally:
            Work.running[number] -= 1
        Work.ended[number] += 1
        return number


class Batch(Workflow):
    work = Workflow.new_service(Work)

    async def run(self, tasks: list[list[float]]) -> list[str]:
        outcomes = await asyncio.gather(
            *(self.work.do(int(number), seconds) for number, seconds in tasks), return_exceptions=True
        )
        return [
            each.last_failure.exception.short_name if isinstance(each, TaskFailedError) else str(each)
            for each in outcomes
        ]


class Place:
    """A process with an executor, and what can happen to it."""

    def __init__(self, world: World, rng: random.Random, concurrency: int) -> None:
        self._world = world
        self._rng = rng
        self._concurrency = concurrency
        self.busy = False
        self.arrive()

    def arrive(self) -> None:
        world, rng = self._world, self._rng
        self.fence = Fence(latency=lambda: rng.choice([0.0, 0.0, 0.001, 0.02]))
        connection = self._connection = world.connect()
        if isinstance(world.broker, ForgetfulBroker):
            self.session = None
            transport = FencedTransport(Grouping(connection), self.fence)
        else:
            self.session = LostSession(connection, InMemoryTransport(world.broker, clock=world.clock))
            transport = FencedTransport(self.session, self.fence)
        storage = FencedStorage(InMemoryStorage(world.database), self.fence)
        grace = rng.choice([0.0, 0.5, 5.0])
        self.worker = world.worker(transport, storage, shutdown_grace_period=grace)
        self.worker.add_service(Work, concurrency=self._concurrency)
        self.stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.host = asyncio.get_running_loop().create_task(_host(self.worker, self.stop))
        self.fence.on_cut(self.host.cancel)

    async def happen(self, what: Callable[[], Awaitable[None]]) -> None:
        self.busy = True
        await what()
        self.busy = False

    async def drain(self) -> None:
        self.stop.set_result(None)
        await asyncio.wait({self.host})
        self.host.result()
        await self._connection.close()
        await asyncio.sleep(self._rng.choice([0.0, 0.3, 4.0]))
        self.arrive()

    async def kill(self) -> None:
        self.fence.cut()
        await asyncio.wait({self.host})
        await asyncio.sleep(self._rng.choice([0.0, 0.3, 4.0]))
        self.arrive()

    async def lose(self) -> None:
        """Lose the session of its tasks. It works on, and is replaced after a while."""
        if self.session is not None:
            self.session.lose()
            await asyncio.sleep(self._rng.uniform(0.0, 40.0))
        await self.drain()


async def _host(worker: Worker, stop: asyncio.Future[None]) -> None:
    async with worker.running():
        await stop


def count_tasks(world: World) -> dict[str, tuple[int, int, int]]:
    """Count the tasks that are still in the broker, by topic."""
    return {topic: counts for topic, counts in world.backlog().items() if topic.startswith("service")}


def run_storm(seed: int, broker: ObservedBroker, *, kills: int, sessions: bool) -> World:
    rng = random.Random(seed)
    Work.running, Work.ran, Work.ended, Work.most = Counter(), Counter(), Counter(), 0
    concurrency = rng.choice([1, 2, 20])
    lengths = [[0.05, 0.5], [0.5, 3.0, 30.0], [20.0, 60.0]][rng.randrange(3)]
    world = World(broker)

    async def main() -> None:
        async with world.open():
            engine = world.worker()
            engine.add_workflow(Batch)
            world.start(engine)
            places = [Place(world, rng, concurrency) for _ in range(3)]
            await asyncio.sleep(1.0)
            numbers = iter(range(1000))
            batches = [[[float(next(numbers)), rng.choice(lengths)] for _ in range(8)] for _ in range(4)]
            handles = [await world.client.dispatch(world.client.new_workflow(Batch).run, each) for each in batches]
            left = kills
            busy = list[asyncio.Task[None]]()
            for _ in range(40):
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 2.0, 9.0]))
                free = [each for each in places if not each.busy and each.worker.ready]
                if not free:
                    continue
                place = rng.choice(free)
                match rng.choice(["drain", "drain", "kill", "lose", "control"]):
                    case "kill" if left:
                        left -= 1
                        busy.append(asyncio.create_task(place.happen(place.kill)))
                    case "drain":
                        busy.append(asyncio.create_task(place.happen(place.drain)))
                    case "lose" if sessions:
                        busy.append(asyncio.create_task(place.happen(place.lose)))
                    case "control":
                        world.broker.remove(service_control("Work"))
                    case _:
                        pass
            await asyncio.gather(*busy)
            expected = [[str(int(number)) for number, _ in each] for each in batches]
            async with asyncio.timeout(100_000.0):
                assert [await handle.result() for handle in handles] == expected
            # Duplicates of suspects run one after the other.
            for _ in range(10):
                await world.settle()
                if not count_tasks(world):
                    break
            assert count_tasks(world) == {}
            for place in places:
                place.host.cancel()
            await asyncio.gather(*(place.host for place in places), return_exceptions=True)

    run(main())
    return world


@pytest.mark.parametrize("broker", [ObservedBroker, ForgetfulBroker])
@pytest.mark.parametrize("seed", [*range(6), 5158, 5219, 5351])
def test_no_storm_loses_a_task_or_blames_an_innocent_one(seed: int, broker: type[ObservedBroker]) -> None:
    run_storm(seed, broker(), kills=KILLS, sessions=True)


# Above 5,000 are seeds at which an end of a worker once cut a published report that was not yet
# acknowledged, or a message on its way.
@pytest.mark.parametrize("seed", [*range(6), 5011, 5050, 5278, 5281, 5314, 5510])
def test_orderly_ends_run_no_task_twice_and_suspect_no_further(seed: int) -> None:
    world = run_storm(seed, ObservedBroker(), kills=0, sessions=False)
    assert Work.most == 1
    assert set(Work.ended.values()) == {1}
    sent = [service.decode(message.body) for topic, message in world.published if topic.name == "service-executor:Work"]
    # A message on its way from the broker comes again unchanged. Its task may have run: a weak sign
    # of a death.
    assert max(each.deaths for each in sent) <= SUSPECT
