"""The consumers of a transport: of durable subscriptions, and readers."""

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
from infinitic_transports.pulsar.names import FORWARDER, Names, derive_delayed_topic, encode_subscription
from infinitic_transports.pulsar.outgoing import build_message, measure_size
from infinitic_transports.pulsar.producers import Producers
from infinitic_transports.pulsar.settings import PulsarSettings
from infinitic_transports.pulsar.sources import ReaderSource, Source, SubscriptionSource
from infinitic_transports.pulsar.watch import ConsumerWatch

_TRIES = 5


class Consumers:
    """Makes consumers, and knows them until they have left.

    A consumer of a KEYED topic gets a forwarder beside it, which moves delayed messages to the
    topic when they are due.

    Args:
        client: the connection to the brokers.
        admin: their REST interface.
        names: how topics are named there.
        settings: how messages are received.
        producers: publish what forwarders move.
        clock: tells when messages are due.
        forget: told of topics that are gone.
    """

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
        self._client = client
        self._admin = admin
        self._names = names
        self._settings = settings
        self._producers = producers
        self._clock = clock
        self._open: set[PulsarConsumer] = set()
        self._closed = False
        self._watch = ConsumerWatch(admin, forget)
        self._forwarders = Forwarders(self._prepare_forwarder)

    async def join(self, topic: Topic, subscription: str, prefetch: int) -> PulsarConsumer:
        """Make a consumer of a durable subscription, which is made if it does not exist.

        Args:
            topic: where.
            subscription: its name.
            prefetch: how many messages may be in hand.
        """
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
        raw = await self._client.consumer(self._names.full(topic), name, keyed=keyed, queue=self._limit_queue(prefetch))
        return self._make_consumer(SubscriptionSource(raw, self._client), topic, subscription, prefetch, left)

    async def read(self, topic: Topic, name: str, prefetch: int) -> PulsarConsumer:
        """Make a reader of new messages. An ephemeral topic is made if it does not exist.

        Args:
            topic: where.
            name: of the ephemeral subscription.
            prefetch: how many messages may be in hand.
        """
        ephemeral = topic.subscription is None
        raw = await (self._make_ephemeral_reader if ephemeral else self._make_reader)(topic, name, prefetch)
        source = ReaderSource(raw, self._client)
        if not ephemeral:
            return self._make_consumer(source, topic, None, prefetch)

        async def left() -> None:
            # If this fails, the broker removes the topic after it has been idle for a while.
            with contextlib.suppress(TransportError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._admin.delete_if_unused(topic, alone=topic.name.endswith(f":{name}"))

        return self._make_consumer(source, topic, None, prefetch, left)

    async def _make_ephemeral_reader(self, topic: Topic, name: str, prefetch: int) -> RawReader:
        for _ in range(_TRIES):
            await self._admin.make_topic(topic, partitions=None)
            # Its last reader may leave at this moment, and take the topic with it.
            with contextlib.suppress(UnknownTopic):
                return await self._make_reader(topic, name, prefetch)
        raise TransportUnavailable(f"The topic {topic.name!r} is removed by others each time that it is made")

    async def _make_reader(self, topic: Topic, name: str, prefetch: int) -> RawReader:
        from_now_on = topic.subscription is not None and self._settings.partitions
        return await self._client.reader(
            self._names.full(topic),
            f"{encode_subscription(name)}-{new_id()[:8]}",
            queue=self._limit_queue(prefetch),
            after=None if from_now_on else await self._admin.find_last_entry(topic),
        )

    async def close(self) -> None:
        """Close all consumers. No new one is made afterwards."""
        self._closed = True
        await self._forwarders.close()
        await asyncio.gather(*(consumer.close() for consumer in list(self._open)))

    def _make_consumer(
        self,
        source: Source,
        topic: Topic,
        subscription: str | None,
        prefetch: int,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> PulsarConsumer:
        if self._closed:
            # The source of the consumer ends with the client.
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

    async def _prepare_forwarder(self, topic: Topic) -> tuple[PulsarConsumer, Publish]:
        """Make the consumer of a forwarder, and the function by which it publishes."""
        waiting = derive_delayed_topic(topic)
        await self._admin.make_topic(waiting, partitions=self._settings.partitions)
        await self._admin.make_subscription(waiting, FORWARDER)
        queue = self._limit_queue(2000)
        raw = await self._client.consumer(self._names.full(waiting), FORWARDER, keyed=False, queue=queue)

        async def publish(messages: Sequence[Message]) -> None:
            library = self._client.library
            built = [build_message(library, message, topic, message.deliver_at, waits=False) for message in messages]
            await self._producers.send(topic, built, [measure_size(message) for message in messages])

        return self._make_consumer(SubscriptionSource(raw, self._client), waiting, FORWARDER, 1000), publish

    def _limit_queue(self, prefetch: int) -> int:
        """How many messages the library may request beforehand.

        The library bounds their number and not their bytes. So the largest size of a message
        counts.
        """
        options, largest = self._settings.consumer, self._settings.max_message_size_bytes
        return max(1, min(prefetch // 4, options.receiver_queue_size, options.receiver_queue_bytes // largest))
