"""The Pulsar transport: topics by REST, messages by the client library, delays and retries of keys by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

from msgspec.structs import replace
from pydantic import BaseModel

from infinitic.clock import Clock, SystemClock
from infinitic.errors import TransportError, UsageError
from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Capabilities,
    Consumer,
    Message,
    MessageTooLarge,
    SubscriptionStats,
    Support,
    TopicStats,
    Transport,
    TransportClosed,
)
from infinitic_transports.pulsar.admin import Admin, merged
from infinitic_transports.pulsar.client import PulsarClient
from infinitic_transports.pulsar.consumer import PulsarConsumer
from infinitic_transports.pulsar.forwarding import Forwarders
from infinitic_transports.pulsar.names import FORWARDER, Names, delayed, encode_subscription
from infinitic_transports.pulsar.producer import build, size
from infinitic_transports.pulsar.producers import Producers
from infinitic_transports.pulsar.settings import PulsarSettings
from infinitic_transports.pulsar.sources import Reading, Source, Subscribed

HEADROOM = 64 * 1024
"""Bytes of a message of the largest size that are for its key and its headers."""

DAY = 86_400.0


class PulsarTransport(Transport):
    """A connection to a Pulsar cluster, made when it is first used. It belongs to one event loop.

    `horizon` is how long, in seconds, a message is kept that nobody acknowledges.
    """

    Settings: ClassVar[type[BaseModel]] = PulsarSettings

    def __init__(
        self, settings: PulsarSettings | None = None, *, horizon: float = 14 * DAY, clock: Clock | None = None
    ) -> None:
        settings = settings or PulsarSettings()
        self._settings = settings
        self._clock = clock or SystemClock()
        self._names = Names(settings.tenant, settings.namespace)
        self._client = PulsarClient(settings)
        self._horizon = horizon
        self._admin = Admin(settings, self._names, horizon)
        self._producers = Producers(self._client, self._admin, self._names, settings.producer)
        self._forwarders = Forwarders(self._forwarder)
        self._consumers: dict[PulsarConsumer, Topic] = {}
        self._forwarded: set[PulsarConsumer] = set()
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._limit = settings.max_message_size_bytes - 4096
        best = Support.BEST_EFFORT
        self.capabilities = Capabilities(
            max_payload=settings.max_message_size_bytes - HEADROOM,
            rules={"EXC-3": best, "RED-2": best, "RED-3": best, "RED-8": best, "RED-11": best},
            delay_resolution=0.001,
            ack_durability=1.0,
        )

    @classmethod
    def from_settings(cls, settings: Any, *, horizon: float) -> Self:
        """See `infinitic.plugins.TransportPlugin`."""
        return cls(settings, horizon=horizon)

    @property
    def admin(self) -> Admin:
        """The REST interface of the namespace."""
        return self._admin

    async def declare(self, topics: Iterable[Topic]) -> None:
        self._check_open()
        wanted = {topic.name: topic for topic in topics if topic.name not in self._declared}
        if wanted:
            async with self._declaring:
                await self._admin.ready()
                missing = [topic for name, topic in wanted.items() if name not in self._declared]
                await asyncio.gather(*(self._declare(topic) for topic in missing))
                self._declared.update(wanted)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._check_open()
        library, largest = self._client.library, self.capabilities.max_payload
        now = self._clock.now()
        at_once: list[object] = []
        later: list[object] = []
        waiting = delayed(topic) if topic.ordering is Ordering.KEYED else topic
        for message in messages:
            if len(message.body) > largest or size(message) > self._limit:
                raise MessageTooLarge(size(message), largest, topic.name)
            due = message.deliver_at
            if due is None or due <= now:
                at_once.append(build(library, message, topic, None))
            elif waiting is topic:
                at_once.append(build(library, message, topic, due))
            else:
                later.append(build(library, message, waiting, due))
        if at_once:
            await self._producers.send(topic, at_once)
        if later:
            await self._producers.send(waiting, later)

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """See `Transport.subscribe`. Raises `UnknownTopic` unless the topic is declared or ephemeral."""
        self._check_open()
        if prefetch < 1:
            raise UsageError(f"A prefetch is at least 1, not {prefetch}")
        if topic.subscription is None:
            await self._admin.ready()
            await self._admin.make_topic(topic, partitions=None)
        if not durable:
            return await self._read(topic, subscription, prefetch)
        consumer = await self._join(topic, subscription, prefetch)
        if topic.ordering is Ordering.KEYED and subscription == topic.subscription:
            try:
                await self._forwarders.join(topic)
            except BaseException:
                await consumer.close()
                raise
            self._forwarded.add(consumer)
        return consumer

    async def stats(self, topic: Topic) -> TopicStats:
        self._check_open()
        main = await self._admin.stats(topic)
        if topic.ordering is not Ordering.KEYED or not main:
            return TopicStats(main)
        waiting = await self._admin.stats(delayed(topic))
        return merged(main, topic.subscription, waiting.get(FORWARDER, SubscriptionStats(0, 0, 0, 0)))

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await asyncio.gather(*(consumer.close() for consumer in list(self._consumers)))
            await self._forwarders.close()
            await self._producers.close()
        finally:
            try:
                await self._client.close()
            finally:
                await self._admin.close()

    async def _declare(self, topic: Topic) -> None:
        admin, partitions = self._admin, self._settings.partitions
        if topic.subscription is None:
            await admin.make_topic(topic, partitions=None)
            return
        await admin.make_topic(topic, partitions=partitions)
        await admin.make_subscription(topic, topic.subscription)
        if topic.ordering is Ordering.KEYED:
            waiting = delayed(topic)
            await admin.make_topic(waiting, partitions=partitions)
            await admin.make_subscription(waiting, FORWARDER)

    async def _join(self, topic: Topic, subscription: str, prefetch: int) -> PulsarConsumer:
        await self._admin.make_subscription(topic, subscription)
        keyed = topic.ordering is Ordering.KEYED
        raw = await self._client.consumer(
            self._names.full(topic), encode_subscription(subscription), keyed=keyed, queue=self._queue(prefetch)
        )
        return self._consumer(Subscribed(raw, self._client), topic, prefetch, self._left)

    async def _read(self, topic: Topic, name: str, prefetch: int) -> PulsarConsumer:
        raw = await self._client.reader(
            self._names.full(topic), f"{encode_subscription(name)}-{new_id()[:8]}", queue=self._queue(prefetch)
        )
        return self._consumer(Reading(raw, self._client), topic, prefetch, self._left)

    def _consumer(
        self, source: Source, topic: Topic, prefetch: int, after: Callable[[PulsarConsumer], Awaitable[None]]
    ) -> PulsarConsumer:
        ok, where = self._client.library.Result.Ok, self._client.where
        consumer = PulsarConsumer(source, topic, prefetch, self._clock, ok, where, after)
        self._consumers[consumer] = topic
        return consumer

    async def _left(self, consumer: PulsarConsumer) -> None:
        topic = self._consumers.pop(consumer)
        if topic.subscription is None:
            with contextlib.suppress(TransportError):  # the broker removes it when it has been idle for a while
                await self._admin.delete_if_unused(topic)
        elif consumer in self._forwarded:
            self._forwarded.remove(consumer)
            await self._forwarders.leave(topic)

    async def _forwarder(self, topic: Topic) -> tuple[PulsarConsumer, Callable[[Message], Awaitable[None]]]:
        """A consumer of what waits for a KEYED topic, and how to publish what is due."""
        waiting = delayed(topic)
        await self._admin.make_subscription(waiting, FORWARDER)
        raw = await self._client.consumer(self._names.full(waiting), FORWARDER, keyed=False, queue=500)

        async def gone(consumer: PulsarConsumer) -> None:
            self._consumers.pop(consumer, None)

        async def publish(message: Message) -> None:
            at_once = build(self._client.library, replace(message, deliver_at=None), topic, None)
            await self._producers.send(topic, [at_once])

        return self._consumer(Subscribed(raw, self._client), waiting, 1000, gone), publish

    def _queue(self, prefetch: int) -> int:
        return max(1, min(prefetch // 4, self._settings.consumer.receiver_queue_size))

    def _check_open(self) -> None:
        if self._closing is not None:
            raise TransportClosed("This transport is closed")
