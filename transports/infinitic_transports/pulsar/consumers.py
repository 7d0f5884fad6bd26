"""The consumers of a transport: of durable subscriptions, with what forwards due messages, and readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.client import CLOSE_SECONDS, PulsarClient, RawReader
from infinitic_transports.pulsar.consumer import PulsarConsumer
from infinitic_transports.pulsar.forwarding import Forwarders, Publish
from infinitic_transports.pulsar.names import FORWARDER, Names, delayed, encode_subscription
from infinitic_transports.pulsar.outgoing import build, size
from infinitic_transports.pulsar.producers import Producers
from infinitic_transports.pulsar.settings import PulsarSettings
from infinitic_transports.pulsar.sources import Reading, Source, Subscribed
from infinitic_transports.pulsar.watch import Watch

_TRIES = 5


class Consumers:
    """Makes them, and knows them until they have left."""

    def __init__(
        self,
        client: PulsarClient,
        admin: Admin,
        names: Names,
        settings: PulsarSettings,
        producers: Producers,
        clock: Clock,
        forget: Callable[[Topic], None],
    ) -> None:
        """`forget` is told of topics that are gone."""
        self._client = client
        self._admin = admin
        self._names = names
        self._settings = settings
        self._producers = producers
        self._clock = clock
        self._open: set[PulsarConsumer] = set()
        self._closed = False
        self._watch = Watch(admin, forget)
        self._forwarders = Forwarders(self._forwarder)

    async def join(self, topic: Topic, subscription: str, prefetch: int) -> PulsarConsumer:
        """A consumer of a durable subscription, which is made if need be."""
        if topic.ordering is not Ordering.KEYED or subscription != topic.subscription:
            return await self._subscribe(topic, subscription, prefetch)
        await self._forwarders.join(topic)
        try:
            return await self._subscribe(topic, subscription, prefetch, lambda: self._forwarders.leave(topic))
        except BaseException:
            await self._forwarders.leave(topic)
            raise

    async def _subscribe(
        self, topic: Topic, subscription: str, prefetch: int, left: Callable[[], Awaitable[None]] | None = None
    ) -> PulsarConsumer:
        await self._admin.make_subscription(topic, subscription)
        name, keyed = encode_subscription(subscription), topic.ordering is Ordering.KEYED
        raw = await self._client.consumer(self._names.full(topic), name, keyed=keyed, queue=self._queue(prefetch))
        return self._consumer(Subscribed(raw, self._client), topic, subscription, prefetch, left)

    async def read(self, topic: Topic, name: str, prefetch: int) -> PulsarConsumer:
        """A reader of what is published from now on. An ephemeral topic is made if it does not exist."""
        ephemeral = topic.subscription is None
        raw = await (self._ephemeral_reader if ephemeral else self._reader)(topic, name, prefetch)
        source = Reading(raw, self._client)
        if not ephemeral:
            return self._consumer(source, topic, None, prefetch)

        async def left() -> None:
            with contextlib.suppress(TransportError, TimeoutError):  # the broker removes it when it has been idle
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._admin.delete_if_unused(topic, alone=topic.name.endswith(f":{name}"))

        return self._consumer(source, topic, None, prefetch, left)

    async def _ephemeral_reader(self, topic: Topic, name: str, prefetch: int) -> RawReader:
        for _ in range(_TRIES):
            await self._admin.make_topic(topic, partitions=None)
            with contextlib.suppress(UnknownTopic):  # its last reader has left at this very moment
                return await self._reader(topic, name, prefetch)
        raise TransportUnavailable(f"The topic {topic.name!r} is removed each time that it is made")

    async def _reader(self, topic: Topic, name: str, prefetch: int) -> RawReader:
        from_now_on = topic.subscription is not None and self._settings.partitions
        return await self._client.reader(
            self._names.full(topic),
            f"{encode_subscription(name)}-{new_id()[:8]}",
            queue=self._queue(prefetch),
            after=None if from_now_on else await self._admin.last(topic),
        )

    async def close(self) -> None:
        """Close all. What becomes a consumer afterwards is none."""
        self._closed = True
        await self._forwarders.close()
        await asyncio.gather(*(consumer.close() for consumer in list(self._open)))

    def _consumer(
        self,
        source: Source,
        topic: Topic,
        subscription: str | None,
        prefetch: int,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> PulsarConsumer:
        if self._closed:  # its source ends with the client
            raise TransportClosed("This transport is closed")

        async def after_close(consumer: PulsarConsumer) -> None:
            self._open.discard(consumer)
            self._watch.remove(consumer)
            if left is not None:
                await left()

        ok, where = self._client.library.Result.Ok, self._client.where
        consumer = PulsarConsumer(source, topic, subscription, prefetch, self._clock, ok, where, after_close)
        self._open.add(consumer)
        self._watch.add(consumer)
        return consumer

    async def _forwarder(self, topic: Topic) -> tuple[PulsarConsumer, Publish]:
        """A consumer of what waits for a KEYED topic, and how to publish what is due."""
        waiting = delayed(topic)
        await self._admin.make_topic(waiting, partitions=self._settings.partitions)
        await self._admin.make_subscription(waiting, FORWARDER)
        raw = await self._client.consumer(self._names.full(waiting), FORWARDER, keyed=False, queue=self._queue(2000))

        async def publish(messages: Sequence[Message]) -> None:
            library = self._client.library
            built = [build(library, message, topic, message.deliver_at, waits=False) for message in messages]
            await self._producers.send(topic, built, [size(message) for message in messages])

        return self._consumer(Subscribed(raw, self._client), waiting, FORWARDER, 1000), publish

    def _queue(self, prefetch: int) -> int:
        """Messages that the library asks the broker for beforehand; it bounds their number alone, not their bytes."""
        options, largest = self._settings.consumer, self._settings.max_message_size_bytes
        return max(1, min(prefetch // 4, options.receiver_queue_size, options.receiver_queue_bytes // largest))
