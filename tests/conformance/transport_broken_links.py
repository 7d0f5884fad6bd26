"""Broken connections to an in-memory broker that is in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Message, TransportClosed, UnknownTopic
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.conformance.transport_broken import broken
from tests.conformance.transport_broken_brokers import SettlesAnywhere


class Around(Consumer):
    """Does what the consumer in it does."""

    def __init__(self, inner: Consumer, broker: Broker) -> None:
        self.inner = inner
        self.broker = broker

    async def receive(self, max_messages: int) -> list[Delivery]:
        return await self.inner.receive(max_messages)

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        await self.inner.ack(deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        await self.inner.nack(delivery, delay)

    async def close(self) -> None:
        await self.inner.close()


class Wraps(InMemoryTransport):
    """Hands out consumers in a `wrapper`."""

    wrapper: type[Around]

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        return self.wrapper(await super().subscribe(topic, subscription, prefetch, durable=durable), self.broker)


@broken("PER-1")
class PublishesLater(InMemoryTransport):
    """`publish` returns before the broker has it; a close comes before that."""

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        asyncio.get_running_loop().call_later(0.1, self._now_publish, topic, messages)

    def _now_publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if not self._closed:
            self.broker.publish(topic, messages, self._now())


class _Swallows(Around):
    async def receive(self, max_messages: int) -> list[Delivery]:
        taken = await self.inner.receive(max_messages)
        await asyncio.sleep(0)
        return taken


@broken("LIF-3")
class CancelledReceiveSwallows(Wraps):
    """A `receive` that is cancelled keeps what it was about to return."""

    wrapper = _Swallows


class _AcksMore(Around):
    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        try:
            await asyncio.sleep(0)
            await self.inner.ack(deliveries)
        except asyncio.CancelledError:
            await self.inner.ack(await self.inner.receive(1))
            raise


@broken("LIF-4")
class CancelledAckTakesMore(Wraps):
    """An `ack` that is cancelled acknowledges what nobody has seen."""

    wrapper = _AcksMore


class _NeverEnds(Around):
    held = 0

    async def receive(self, max_messages: int) -> list[Delivery]:
        taken = await self.inner.receive(max_messages)
        self.held += len(taken)
        return taken

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        self.held -= len(settled)
        await self.inner.ack(settled)


@broken("LIF-2")
class CloseWaitsForAcks(Wraps):
    """A connection with something in hand does not close."""

    wrapper = _NeverEnds

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        made = await super().subscribe(topic, subscription, prefetch, durable=durable)
        self.made = [*getattr(self, "made", []), made]
        return made

    async def close(self) -> None:
        if any(made.held > 0 for made in getattr(self, "made", [])):
            await asyncio.sleep(1000.0)
        await super().close()


class _Deaf(Around):
    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        try:
            await self.inner.ack(deliveries)
        except TransportClosed:
            return


@broken("LIF-5", "EXC-3")
class ClosedSaysNothing(Wraps):
    """An ack after the close is ignored silently."""

    wrapper = _Deaf


class _Ghost(Around):
    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        try:
            await self.inner.ack(settled)
        except TransportClosed:
            assert isinstance(self.broker, SettlesAnywhere)
            self.broker.settle(settled)
            raise


@broken("RED-8", "EXC-3", broker_kind=SettlesAnywhere)
class GhostsSettle(Wraps):
    """The ack of one that crashed or left settles what another has in hand."""

    wrapper = _Ghost


@broken("LIF-7")
class LeavesATask(InMemoryTransport):
    """Each subscription leaves a task behind."""

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        self.left = asyncio.create_task(asyncio.sleep(1000.0))
        return await super().subscribe(topic, subscription, prefetch, durable=durable)


@broken("LIF-7")
class LeavesATimer(InMemoryTransport):
    """Each subscription leaves a timer behind."""

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        asyncio.get_running_loop().call_later(1000.0, str)
        return await super().subscribe(topic, subscription, prefetch, durable=durable)


class _Waits(Around):
    async def receive(self, max_messages: int) -> list[Delivery]:
        try:
            return await self.inner.receive(max_messages)
        except UnknownTopic:
            await asyncio.sleep(1000.0)
            raise


@broken("LIF-8")
class WaitsForAGoneTopic(Wraps):
    """A consumer whose topic was removed waits for ever."""

    wrapper = _Waits


@broken("LIF-8")
class DeclaresOnce(InMemoryTransport):
    """A topic that was declared once is taken to be there."""

    known: tuple[Topic, ...] = ()

    async def declare(self, topics: Iterable[Topic]) -> None:
        new = [topic for topic in topics if topic not in self.known]
        self.known = (*self.known, *new)
        await super().declare(new)

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        if topic.subscription is not None:
            await self.declare([topic])
        return await super().subscribe(topic, subscription, prefetch, durable=durable)
