"""Brokers and connections that promise less than the in-memory ones, as real ones may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Support
from infinitic_testing.intercepting import InterceptedConsumer, InterceptedTransport, Passing
from infinitic_transports.memory import InMemoryTransport
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import BrokerConsumer, QueuedDelivery
from tests.simulation.observed import ObservedBroker
from tests.simulation.recording import RecordingTransport


class ForgetfulSubscription(SharedSubscription):
    """After a crash of the last consumer, redelivered messages look new, as on Pulsar."""

    __slots__ = ()

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        super()._take_back(consumer, now)
        if not any(each is not consumer for each in self.consumers):
            fresh = [QueuedDelivery(each.message, 1, each.published_at) for each in self.ready]
            self.ready.clear()
            self.ready.extend(fresh)


class ForgetfulBroker(ObservedBroker):
    shared = ForgetfulSubscription


class LostSession(InterceptedTransport):
    """A connection whose consumers of tasks can lose their session without noticing it.

    Then the broker gives all that they have in hand to others.
    """

    __slots__ = ("_session", "lost")

    inner: RecordingTransport

    def __init__(self, inner: RecordingTransport, session: InMemoryTransport) -> None:
        super().__init__(inner, Passing())
        self._session = session
        self.lost = False

    def lose(self) -> None:
        self.lost = True
        self._session.crash()

    def crash(self) -> None:
        """End the connection as if its process died."""
        self.lose()
        self.inner.crash()

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        if not topic.name.startswith("service-executor"):
            return await self.inner.subscribe(topic, subscription, prefetch, durable=durable)
        consumer = await self._session.subscribe(topic, subscription, prefetch, durable=durable)
        return _LostConsumer(consumer, topic, self)

    async def close(self) -> None:
        await self._session.close()
        await self.inner.close()


class _LostConsumer(InterceptedConsumer):
    __slots__ = ("_transport",)

    def __init__(self, inner: Consumer, topic: Topic, transport: LostSession) -> None:
        super().__init__(inner, Passing(), topic)
        self._transport = transport

    async def wait_for_messages(self, max_messages: int) -> list[Delivery]:
        if not self._transport.lost:
            receiving = asyncio.ensure_future(self.inner.receive(max_messages))
            try:
                return await receiving
            except Exception:
                if not self._transport.lost:
                    raise
        forever: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        return await forever

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        if not self._transport.lost:
            await self.inner.ack(deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        raise AssertionError("executors give nothing back that way")


GROUPED_SECONDS = 0.1
"""How long a `Grouping` connection waits before it sends acknowledgements."""


class Grouping(InterceptedTransport):
    """A connection that sends acknowledgements a moment later, as Pulsar's does.

    A crash before that undoes them.
    """

    __slots__ = ("_consumers",)

    inner: RecordingTransport

    def __init__(self, inner: RecordingTransport) -> None:
        super().__init__(inner, Passing())
        self.capabilities = replace(
            inner.capabilities, rules={"RED-3": Support.BEST_EFFORT}, ack_durability=2 * GROUPED_SECONDS
        )
        self._consumers: list[_GroupingConsumer] = []

    def make_consumer(self, inner: Consumer, topic: Topic) -> Consumer:
        self._consumers.append(consumer := _GroupingConsumer(inner, Passing(), topic))
        return consumer

    def crash(self) -> None:
        """End the connection as if its process died. Unsent acknowledgements are lost."""
        for consumer in self._consumers:
            consumer.forget()
        self.inner.crash()


class _GroupingConsumer(InterceptedConsumer):
    __slots__ = ("_unsent",)

    def __init__(self, inner: Consumer, interceptor: Passing, topic: Topic) -> None:
        super().__init__(inner, interceptor, topic)
        self._unsent: list[asyncio.Task[None]] = []

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._unsent = [each for each in self._unsent if not each.done()]
        self._unsent.append(asyncio.get_running_loop().create_task(self._ack(list(deliveries))))

    async def _ack(self, deliveries: list[Delivery]) -> None:
        await asyncio.sleep(GROUPED_SECONDS)
        await self.inner.ack(deliveries)

    async def close(self) -> None:
        await asyncio.gather(*self._unsent, return_exceptions=True)
        await self.inner.close()

    def forget(self) -> None:
        for each in self._unsent:
            each.cancel()
