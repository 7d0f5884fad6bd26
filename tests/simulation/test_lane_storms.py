"""S38: lanes keep the order of each key, and settle everything once nothing fails any more.

Messages fail, are given back, and wait for outages. Workers end, and lose their consumers.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence

import pytest

from infinitic import topics
from infinitic.errors import InfiniticError
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import PREFETCH, Lanes
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.storage import StorageUnavailable
from infinitic.transport import Delivery, Message, TransportClosed
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import Broker, InMemoryTransport

ENGINE = topics.workflow_engine("Storm")
KEYS = 12
SEEDS = 60
SECONDS = 4000.0
"""Longer than anything that was given back stays away, and any backoff."""


class Storm:
    """What befalls the messages, and by key the numbers of those that were handled, in order."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.broker = Broker()
        self.clock = VirtualClock()
        self.handled: defaultdict[str, list[int]] = defaultdict(list)
        self.bad = {str(key) for key in self.rng.sample(range(KEYS), self.rng.randint(1, 8))}
        self.is_down = False
        self.is_over = False

    async def befall(self, worker: Handling, lane: Lane, batch: list[Delivery]) -> None:
        """Handle, fail or leave the first deliveries of a lane."""
        rng = self.rng
        chance = rng.random()
        if self.is_down:
            lane.fail(StorageUnavailable("no database"), self.clock.now(), counted=False)
        elif (lane.key in self.bad and not self.is_over) or chance < 0.1:
            lane.fail(InfiniticError("cannot be handled"), self.clock.now(), counted=chance < 0.03)
        elif chance > 0.13:
            first = batch[: rng.randint(1, len(batch))]
            self.handled[lane.key] += [int(delivery.message.id) for delivery in first]
            await worker.subscription.ack(first)
            lane.settle(first)


class Handling:
    """One worker: lanes, and a consumer of its own."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._busy = set[str]()

    async def start(self) -> None:
        storm, rng = self._storm, self._storm.rng
        self._transport = InMemoryTransport(storm.broker, clock=storm.clock)
        self.subscription = Subscription(Publisher(self._transport), ENGINE, PREFETCH)
        await self.subscription.join()
        concurrency, max_bytes = rng.choice([1, 3, 10, 100]), rng.choice([1, 300, 3000])
        self._lanes = Lanes(self.subscription, self._handle, storm.clock, concurrency, max_bytes)
        self._task = asyncio.create_task(self._lanes.run())

    async def stop(self, *, drain: bool) -> None:
        assert not self._task.done()
        if drain:
            await self._lanes.drain()
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.subscription.close()
        await self._transport.close()

    async def _handle(self, lanes: Sequence[Lane]) -> None:
        keys = {lane.key for lane in lanes}
        assert len(keys) == len(lanes)
        assert not keys & self._busy, "one key, twice at once"
        self._busy |= keys
        batches = [lane.take_batch() for lane in lanes]
        await asyncio.sleep(self._storm.rng.choice([0.0, 0.001, 0.05]))
        for lane, batch in zip(lanes, batches, strict=True):
            try:
                await self._storm.befall(self, lane, batch)
            except TransportClosed as error:
                lane.fail(error, self._storm.clock.now(), counted=False)
        self._busy -= keys


@pytest.mark.parametrize("seed", range(SEEDS))
def test_lanes_keep_the_order_of_keys_and_lose_nothing(seed: int) -> None:
    async def main() -> None:
        storm = Storm(seed)
        rng = storm.rng
        client = InMemoryTransport(storm.broker, clock=storm.clock)
        await client.declare([ENGINE])
        workers = [Handling(storm) for _ in range(rng.randint(1, 3))]
        for worker in workers:
            await worker.start()
        sent: defaultdict[str, int] = defaultdict(int)
        for _ in range(40):
            for key in [str(rng.randrange(KEYS)) for _ in range(rng.randint(0, 8))]:
                await client.publish(ENGINE, [Message(str(sent[key]), key, b"x" * rng.choice([0, 1, 50, 200]))])
                sent[key] += 1
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 5.0, 31.0]))
            chance = rng.random()
            if chance < 0.1:
                number = rng.randrange(len(workers))
                await workers[number].stop(drain=rng.random() < 0.5)
                workers[number] = Handling(storm)
                await workers[number].start()
            elif chance < 0.15:
                await rng.choice(workers).subscription.consumer.close()
            elif chance < 0.25:
                storm.is_down = not storm.is_down
        storm.is_down, storm.is_over = False, True
        await asyncio.sleep(SECONDS)
        for key, count in sent.items():
            assert list(dict.fromkeys(storm.handled[key])) == list(range(count)), "first time in order, none lost"
        for stats in storm.broker.overview()[ENGINE.name].values():
            assert (stats.backlog, stats.unacked, stats.delayed) == (0, 0, 0)
        for worker in workers:
            await worker.stop(drain=True)

    run(main())
