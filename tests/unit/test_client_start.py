"""A client that is started or closed by many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from infinitic import Client, UsageError, topics
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import Broker, InMemoryTransport

TOPIC = topics.client("client")


class Slow(InMemoryTransport):
    """A connection to a broker that is far away."""

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        await asyncio.sleep(1.0)
        return await super().subscribe(topic, subscription, prefetch, durable=durable)


def count_consumers(broker: Broker) -> int:
    return sum(each.consumers for each in broker.overview().get(TOPIC.name, {}).values())


def test_who_starts_a_client_at_the_same_time_starts_it_once() -> None:
    """Each of them subscribed, and all but one subscription stayed after the end."""

    async def main() -> None:
        broker = Broker()
        async with Slow(broker, clock=VirtualClock()) as transport:
            client = Client(transport, name="client")
            await asyncio.gather(*(client.start() for _ in range(3)))
            await asyncio.sleep(10.0)
            assert count_consumers(broker) == 1
            await client.close()
            assert count_consumers(broker) == 0

    run(main())


def test_a_client_that_is_closed_while_it_starts_leaves_no_subscription() -> None:
    async def main() -> None:
        broker = Broker()
        async with Slow(broker, clock=VirtualClock()) as transport:
            client = Client(transport, name="client")
            starting = asyncio.create_task(client.start())
            await asyncio.sleep(0.5)
            await client.close()
            with pytest.raises(UsageError, match="closed"):
                await starting
            assert count_consumers(broker) == 0

    run(main())


def test_who_is_cancelled_while_a_client_starts_leaves_it_to_the_others() -> None:
    async def main() -> None:
        broker = Broker()
        async with Slow(broker, clock=VirtualClock()) as transport:
            client = Client(transport, name="client")
            first, second = (asyncio.create_task(client.start()) for _ in range(2))
            await asyncio.sleep(0.5)
            first.cancel()
            await second
            assert count_consumers(broker) == 1
            await client.close()

    run(main())


class SlowToStop(Consumer):
    """A consumer that needs a second until a cancelled `receive` has ended."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner

    async def receive(self, max_messages: int) -> list[Delivery]:
        try:
            return await self._inner.receive(max_messages)
        except asyncio.CancelledError:
            await asyncio.sleep(1.0)
            raise

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        await self._inner.ack(deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        await self._inner.nack(delivery, delay)

    async def close(self) -> None:
        await self._inner.close()


class SlowToStopTransport(InMemoryTransport):
    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        return SlowToStop(await super().subscribe(topic, subscription, prefetch, durable=durable))


def test_who_is_cancelled_while_a_client_closes_sees_it_and_the_client_is_closed() -> None:
    """The cancellation was taken for that of the client's own task."""

    async def main() -> None:
        broker = Broker()
        async with SlowToStopTransport(broker, clock=VirtualClock()) as transport:
            client = Client(transport, name="client")
            await client.start()
            await asyncio.sleep(1.0)
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0.5)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert count_consumers(broker) == 0

    run(main())
