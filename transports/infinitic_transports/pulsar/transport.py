"""The Pulsar transport.

Topics are made by REST, and messages go through the client library. The adapter itself keeps delays
on KEYED topics, and the order of a key after a nack.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from infinitic.clock import Clock, SystemClock
from infinitic.diagnosis import Diagnosis
from infinitic.errors import TransportError, UsageError
from infinitic.publishing import publish_together
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Batch,
    Capabilities,
    Consumer,
    Message,
    MessageTooLarge,
    Peeked,
    SubscriptionStats,
    Support,
    TopicStats,
    Transport,
    TransportClosed,
    UnknownTopic,
)
from infinitic_transports.pulsar.admin import Admin, merge_delayed
from infinitic_transports.pulsar.client import CLOSE_SECONDS, PulsarClient
from infinitic_transports.pulsar.consumers import Consumers
from infinitic_transports.pulsar.diagnosis import diagnose
from infinitic_transports.pulsar.names import DELAYED, FORWARDER, Names, derive_delayed_topic
from infinitic_transports.pulsar.outgoing import PublishBatch, measure_size
from infinitic_transports.pulsar.peeking import Peeker
from infinitic_transports.pulsar.producers import Producers
from infinitic_transports.pulsar.reach import Reach
from infinitic_transports.pulsar.settings import PulsarSettings

HEADROOM = 64 * 1024
"""Bytes of the largest message that are left for key and headers, a quarter of it at most."""

ENVELOPE = 4096
"""Bytes of a message that are left for what Pulsar adds to body, key and headers."""

DAY = 86_400.0

_logger = logging.getLogger("infinitic.transports.pulsar")


class PulsarTransport(Transport):
    """A connection to a Pulsar cluster, made when it is first used. It belongs to one event loop.

    Args:
        settings: where the cluster is; by default a Pulsar on this machine.
        deduplication_window: seconds for which a new namespace keeps messages that nobody
            acknowledges; default is 14 days.
        clock: tells when messages are due.

    Raises:
        MissingDriverError: pulsar-client or httpx is not installed.
        ConfigurationError: the installed release of pulsar-client cannot be used.
    """

    Settings: ClassVar[type[BaseModel]] = PulsarSettings

    def __init__(
        self,
        settings: PulsarSettings | None = None,
        *,
        deduplication_window: float = 14 * DAY,
        clock: Clock | None = None,
    ) -> None:
        settings = settings or PulsarSettings()
        self._settings = settings
        self._clock = clock or SystemClock()
        self._names = Names(settings.tenant, settings.namespace)
        self._client = PulsarClient(settings, self._reach_first)
        self._deduplication_window = deduplication_window
        self._admin = Admin(settings, self._names, deduplication_window)
        self._reach = Reach(settings, self._admin)
        self._reaching: asyncio.Task[None] | None = None
        self._reached = False
        self._producers = Producers(self._client, self._admin, self._names, settings.producer)
        self._consumers = Consumers(
            self._client, self._admin, self._names, settings, self._producers, self._clock, self._forget
        )
        self._peeker = Peeker(self._client, self._admin, self._clock, settings.max_message_size_bytes)
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._set_limit(settings.max_message_size_bytes)

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        """Make a transport, see `infinitic.plugins.TransportPlugin`. It does not connect."""
        return cls(settings, deduplication_window=deduplication_window)

    @property
    def admin(self) -> Admin:
        """The REST interface of the namespace."""
        return self._admin

    async def declare(self, topics: Iterable[Topic]) -> None:
        self._check_open()
        wanted = {topic.name: topic for topic in topics if topic.name not in self._declared}
        if wanted:
            async with self._declaring:
                await self._admin.prepare()
                missing = [topic for name, topic in wanted.items() if name not in self._declared]
                await asyncio.gather(*(self._declare(topic) for topic in missing))
                self._declared.update(wanted)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._check_open()
        if not self._reached:
            # The answer of the broker tells how large messages may be.
            await self._reach_first()
        largest, now = self.capabilities.max_payload, self._clock.now()
        waiting = derive_delayed_topic(topic) if topic.ordering is Ordering.KEYED else topic
        at_once, later = PublishBatch(topic), PublishBatch(waiting)
        for message in messages:
            if len(message.body) > largest:
                raise MessageTooLarge(len(message.body), largest, topic.name)
            bytes = measure_size(message)
            if bytes > self._limit:
                raise MessageTooLarge(bytes, self._limit, topic.name)
            due = message.deliver_at
            if due is not None and not math.isfinite(due):
                raise UsageError(f"A message for {topic.name} is to be delivered at {due}, which is not a time")
            if due is None or due <= now:
                at_once.add(message, None, bytes)
            elif later.topic is topic:
                at_once.add(message, due, bytes)
            else:
                later.add(message, due, bytes)
        groups = at_once.build_groups(self._client.library), later.build_groups(self._client.library)
        for group in chain(*groups):
            try:
                await self._producers.send(*group)
            except UnknownTopic:
                if topic.name not in self._declared:
                    raise
                # It was declared here, and somebody has removed it.
                self._forget(topic)
                await self.declare([topic])
                await self._producers.send(*group)

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        return await publish_together(self.publish, batches)

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """Join a subscription, see `Transport.subscribe`.

        Raises:
            UnknownTopic: the topic was not declared, and is not ephemeral.
            UsageError: `prefetch` is below 1.
        """
        self._check_open()
        if prefetch < 1:
            raise UsageError(f"A prefetch has to be at least 1, not {prefetch}")
        if not self._reached:
            # Before anything is made that nobody would remove.
            await self._reach_first()
        if topic.subscription is None:
            await self._admin.prepare()
            if durable:
                await self._admin.make_topic(topic, partitions=None)
        if not durable:
            return await self._consumers.read(topic, subscription, prefetch)
        return await self._consumers.join(topic, subscription, prefetch)

    async def stats(self, topic: Topic) -> TopicStats:
        self._check_open()
        main = await self._admin.stats(topic)
        if topic.ordering is not Ordering.KEYED or not main:
            return TopicStats(main)
        waiting = await self._admin.stats(derive_delayed_topic(topic))
        return merge_delayed(main, topic.subscription, waiting.get(FORWARDER, SubscriptionStats(0, 0, 0, 0)))

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at messages, and take none: see `Transport.peek`.

        Raises:
            UsageError: the limit is below 1.
        """
        self._check_open()
        if limit < 1:
            raise UsageError(f"The limit of a peek has to be at least 1, not {limit}")
        return await self._peeker.peek(topic, subscription, limit)

    async def diagnose(self) -> list[Diagnosis]:
        """Check the broker and the namespace, see `infinitic.diagnosis`."""
        self._check_open()
        return await diagnose(self._admin, self._reach, self._settings, self._deduplication_window, self._clock)

    async def close(self) -> None:
        """Close, see `Transport.close`. It takes seconds if the broker does not answer."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def crash(self) -> None:
        """Break the connection without telling the broker, as when the process dies. For tests."""
        await self._client.close(at_once=True)

    async def _close(self) -> None:
        frozen = True
        if self._reaching is not None:
            self._reaching.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._consumers.close()
                await self._producers.close()
            frozen = False
        except TimeoutError:
            _logger.warning("The broker at %s does not answer: the connection is cut", self._client.where)
        finally:
            try:
                await self._client.close(at_once=frozen)
            finally:
                await self._admin.close()

    def _forget(self, topic: Topic) -> None:
        """Forget that a topic was declared: it, or the topic where its messages wait, is gone."""
        self._declared.discard(topic.name.removeprefix(DELAYED))

    def _set_limit(self, largest: int) -> None:
        """Learn the largest message.

        Args:
            largest: bytes of a message that the brokers take, with key, headers and the rest.
        """
        self._limit = largest - ENVELOPE
        best = Support.BEST_EFFORT
        self.capabilities = Capabilities(
            max_payload=largest - min(HEADROOM, largest // 4),
            rules={"EXC-3": best, "RED-2": best, "RED-3": best, "RED-8": best, "RED-11": best},
            delay_resolution=0.001,
            ack_durability=1.0,
        )

    async def _reach_first(self) -> None:
        """Reach the brokers, and learn their limit. Callers meanwhile wait for the same answer."""
        if self._reached:
            return
        if self._reaching is None:
            self._reaching = asyncio.get_running_loop().create_task(self._learn_limit())
            self._reaching.add_done_callback(self._end_reaching)
        reaching = self._reaching
        try:
            await asyncio.shield(reaching)
        except asyncio.CancelledError:
            if reaching.cancelled():
                # By `close`. If only this caller is cancelled, it goes on for the others.
                self._check_open()
            raise

    def _end_reaching(self, task: asyncio.Task[None]) -> None:
        self._reaching = None
        if not task.cancelled():
            # Callers that wait raise the error. If none is left, nobody has to see it.
            task.exception()

    async def _learn_limit(self) -> None:
        largest = (await self._reach.greet()).max_message_size
        self._reached = True
        if 0 < largest < self._settings.max_message_size_bytes:
            _logger.warning(
                "The brokers at %s take messages of %s bytes at most, less than max_message_size_bytes",
                self._client.where, f"{largest:,}",
            )  # fmt: skip
            self._set_limit(largest)

    async def _declare(self, topic: Topic) -> None:
        admin, partitions = self._admin, self._settings.partitions
        if topic.subscription is None:
            await admin.make_topic(topic, partitions=None)
            return
        await admin.make_topic(topic, partitions=partitions)
        await admin.make_subscription(topic, topic.subscription)
        if topic.ordering is Ordering.KEYED:
            waiting = derive_delayed_topic(topic)
            await admin.make_topic(waiting, partitions=partitions)
            await admin.make_subscription(waiting, FORWARDER)

    def _check_open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise UsageError("A PulsarTransport belongs to the event loop that first used it: make another one")
            self._loop = loop
        if self._closing is not None:
            raise TransportClosed("This transport is closed")
