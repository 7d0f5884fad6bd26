"""The Transport port: what the engines need of a broker, and what every adapter has to keep.

The docstrings of `Transport` and `Consumer` are the contract: persistence, exclusive and keyed
consumption, delayed delivery, redelivery, at-least-once delivery. The conformance suite
(`infinitic_testing.conformance.TransportConformance`) tests it rule by rule. Adapters carry bytes,
keys and headers. They know nothing of what the messages mean.

Errors::

    TransportError
    ├── TransportUnavailable     the broker cannot be reached now; try again
    ├── UnknownTopic             the topic was never declared, was removed, or its client is gone
    ├── MessageTooLarge          above `Capabilities.max_payload`; nothing was sent
    ├── TransportClosed          the transport or the consumer is closed for good
    └── UnsupportedCapability    the broker cannot do what was asked

Arguments that no broker can take (a prefetch of 0, a due time that is no number, text that is not
Unicode) are a `UsageError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType, TracebackType
from typing import Self

import msgspec

from infinitic.errors import TransportError, UsageError
from infinitic.topics import Topic


class TransportUnavailable(TransportError):
    """The broker cannot be reached now. Trying again later may work."""


class UnknownTopic(TransportError):
    """There is no such topic.

    It was never declared, or somebody removed it, or it was the topic of a client that has left.
    """


class MessageTooLarge(TransportError):
    """A message is larger than the broker takes. Nothing was sent.

    Args:
        size: bytes of the message.
        limit: bytes that the broker takes.
        topic: the name of the topic.
    """

    def __init__(self, size: int, limit: int, topic: str) -> None:
        super().__init__(f"A message of {size:,} bytes for {topic} is above the limit of {limit:,} bytes")
        self.size = size
        self.limit = limit
        self.topic = topic

    def __reduce__(self) -> tuple[type[MessageTooLarge], tuple[int, int, str]]:
        return MessageTooLarge, (self.size, self.limit, self.topic)


class TransportClosed(TransportError):
    """The transport or this consumer is closed: by the caller, or for good by the broker."""


class UnsupportedCapability(TransportError):
    """The broker behind this adapter cannot do what was asked."""


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is published.

    Attributes:
        id: chosen by the publisher, for people who read logs, and for receivers that cannot decode
            the body. A broker delivers it and need not look at it. It must not take two messages
            with one id for duplicates.
        key: on a KEYED topic, the messages of one key stay in order. None is a message without a
            key; the empty text is a key like any other.
        body: any bytes, up to `Capabilities.max_payload`. It may be empty.
        headers: names and values, any Unicode text.
        deliver_at: seconds since the Unix epoch. The message is not delivered before. None, or a
            time that is past: at once.
    """

    id: str
    key: str | None
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS
    deliver_at: float | None = None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message and the topic that it goes to. A `Message` names no topic."""

    topic: Topic
    message: Message


class Delivery(msgspec.Struct, frozen=True, eq=False):
    """One hand-over of a message to a consumer. Deliveries are acknowledged, not messages.

    A message that comes again comes as another delivery. Deliveries are compared by identity: the
    acknowledgement of an old one never settles a newer one.

    Attributes:
        message: what was published, unchanged.
        attempt: counts from 1. It tells a redelivery from a first delivery. Decide nothing by it:
            not every broker keeps the count over a crash.
        published_at: when the broker accepted it, in seconds since the Unix epoch.
        token: for the adapter that made the delivery. Nobody else looks at it.
    """

    message: Message
    attempt: int
    published_at: float
    token: object = None


class Peeked(msgspec.Struct, frozen=True, gc=False):
    """A message that was looked at, and not taken in hand: see `Transport.peek`.

    Attributes:
        message: what was published, unchanged.
        published_at: when the broker accepted it, in seconds since the Unix epoch.
    """

    message: Message
    published_at: float


class SubscriptionStats(msgspec.Struct, frozen=True):
    """The numbers of messages and consumers of one subscription.

    Attributes:
        backlog: messages that wait for a consumer.
        unacked: messages in hand at consumers.
        delayed: messages that are not due yet.
        consumers: consumers that are connected now.
    """

    backlog: int
    unacked: int
    delayed: int
    consumers: int


class TopicStats(msgspec.Struct, frozen=True):
    """The subscriptions of a topic, by name. Empty if the topic does not exist."""

    subscriptions: dict[str, SubscriptionStats]


class Support(Enum):
    """How far an adapter keeps a rule of the contract."""

    GUARANTEED = "guaranteed"
    """The conformance suite tests that the rule holds."""

    BEST_EFFORT = "best effort"
    """The suite runs the rule and records whether it held. For rules that a failover may break."""

    UNSUPPORTED = "unsupported"
    """The method raises `UnsupportedCapability`. It must not do something else in silence."""


class Capabilities(msgspec.Struct, frozen=True):
    """What an adapter promises, as data that the engines and the conformance suite read.

    Attributes:
        max_payload: bytes of one body.
        rules: the support of rules by their id in the conformance suite, such as ``EXC-3``. A rule
            that is not named is guaranteed.
        delay_resolution: seconds by which a delayed message may come late, because the broker
            rounds.
        delay_earliness: seconds by which a delayed message may come early.
        ack_durability: seconds after which an acknowledgement survives a crash. Before that, the
            message may come again.
    """

    max_payload: int
    rules: Mapping[str, Support] = MappingProxyType({})
    delay_resolution: float = 0.0
    delay_earliness: float = 0.0
    ack_durability: float = 0.0

    def support(self, rule: str) -> Support:
        """The support of a rule.

        Args:
            rule: the id of the rule, such as ``EXC-3``.
        """
        return self.rules.get(rule, Support.GUARANTEED)


class Consumer(ABC):
    """One consumer of a subscription.

    What it has received and not settled yet is *in hand*: no other consumer has it. It is settled
    by `ack`. `nack` and `close` give it back, and so does the end of the process. A consumer has at
    most `prefetch` messages in hand; it gets more when it has settled or given back some.

    The methods may be called from many tasks of one event loop, the one that made the consumer.
    After `close` they raise `TransportClosed`.

    Example::

        for delivery in await consumer.receive(100):
            try:
                await handle(delivery.message)
            except Exception:
                await consumer.nack(delivery, delay=5.0)
            else:
                await consumer.ack([delivery])
    """

    __slots__ = ()

    @abstractmethod
    async def receive(self, max_messages: int) -> list[Delivery]:
        """Wait for at least one message, and return up to `max_messages`.

        On a KEYED topic all unsettled messages of a key are with one consumer, in the order in
        which each producer published them. The key moves to another consumer only after they are
        settled. After a crash or a close, the earliest unsettled message of the key comes first
        again.

        While the broker is away it waits, or raises `TransportUnavailable`; then call it again.
        Cancelling it loses no message. Only one `receive` at a time may wait.

        **A consumer that gets nothing any more must say so.** It must not wait for ever: a worker
        would seem well and do nothing. So it raises `UnknownTopic` or `TransportClosed`, in every
        later call as well. Then close the consumer, `declare` the topic and `subscribe` again. What
        was in hand comes again, unless it was removed with the topic.

        Args:
            max_messages: 1 or more.

        Raises:
            TransportUnavailable: the broker is away.
            UnknownTopic: the topic or the subscription was removed.
            TransportClosed: the consumer was closed, or the broker has ended it for good.
            UsageError: `max_messages` is below 1, or another `receive` waits.
        """

    @abstractmethod
    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Settle deliveries: this subscription never gets their messages again.

        To acknowledge a delivery twice does nothing. If a message was handed to another consumer
        meanwhile, the acknowledgement of the earlier delivery does not remove it. Cancelling `ack`
        leaves each message acknowledged or to be redelivered.

        It may return before the acknowledgement is safe from a crash: see
        `Capabilities.ack_durability`.

        Args:
            deliveries: deliveries of this consumer. Those that are not in hand are ignored.

        Raises:
            TransportClosed: the consumer is closed.
            TransportUnavailable: the broker is away. Each message is acknowledged or comes again.
        """

    @abstractmethod
    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        """Give a delivery back. It comes again, as a delivery with a higher `attempt`.

        On a KEYED topic later messages of the key wait until it has come again and is settled. So a
        long `delay` holds up the whole key. On a SHARED topic nothing waits for it.

        `deliver_at` is not applied a second time: a delayed message that is given back without a
        delay comes again at once. A delivery that is not in hand is ignored.

        Args:
            delivery: a delivery of this consumer.
            delay: seconds until it may come again; 0 or less: at once.

        Raises:
            TransportClosed: the consumer is closed.
            TransportUnavailable: the broker is away. The message comes again in any case.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back what is in hand, and leave the subscription. Idempotent.

        Return within seconds, also when the broker does not answer: it gives the messages to others
        as soon as it sees that the connection is gone.
        """


Batch = tuple[Topic, Sequence[Message]]
"""Messages, and the topic that they go to."""


def check_batches(batches: Sequence[Batch]) -> None:
    """Raise a `UsageError` if a topic comes twice: see `Transport.publish_all`."""
    if len({topic.name for topic, _ in batches}) != len(batches):
        raise UsageError("A topic comes twice in one publish: put its messages into one batch")


class Transport(ABC):
    """A connection to a broker.

    Delivery is *at least once*, everywhere: a message may come more than once, and it is never
    lost. A publish that fails or is cancelled has an unknown outcome: each of its messages is in
    the topic as a whole, or it is absent.

    A transport belongs to one event loop. Its methods may be called from many tasks of that loop,
    and each of them may be cancelled at any time. After `close` they raise `TransportClosed`.

    Attributes:
        capabilities: what this adapter promises. It may change while the adapter connects, because
            only the broker knows its limits.

    Example::

        async with InMemoryTransport() as transport:
            await transport.declare([topic])
            await transport.publish(topic, [Message("1", "key", b"body")])
            consumer = await transport.subscribe(topic, "main", prefetch=100)
    """

    __slots__ = ()

    capabilities: Capabilities

    @abstractmethod
    async def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics and their main subscriptions where they do not exist. Idempotent.

        Whatever is published from then on is kept for the main subscription, also while nobody
        consumes it. So declare a topic before the first message is published to it.

        A topic that was removed after it had been declared is made again. An adapter that remembers
        what it declared has to forget it at the latest when it raises `UnknownTopic` for the topic.

        Args:
            topics: topics without a main subscription keep nothing: they are for ephemeral
                subscriptions only.

        Raises:
            TransportUnavailable: the broker is away. Some of the topics may have been made.
        """

    @abstractmethod
    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Publish messages in this order, and return once the broker has accepted all of them.

        Accepted messages survive a restart of the broker. They are kept for each subscription that
        exists until it acknowledges them.

        `deliver_at` works on every topic. The message comes never before that time, and promptly
        after it. On a KEYED topic it then joins the end of the order of its key. A message that is
        not due yet holds up no other one.

        Args:
            topic: a topic that was declared.
            messages: any number, also none.

        Raises:
            UnknownTopic: the topic does not exist.
            MessageTooLarge: a message is too large. Nothing was sent.
            TransportUnavailable: the broker is away, or the reply was lost. Each message is in the
                topic as a whole, or it is absent; publish it again.
            TransportClosed: the transport is closed.
        """

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        """Publish to several topics, and return once the broker has decided on each batch.

        Each batch has a fate of its own, as by `publish`: one that fails keeps no other from being
        sent. **There is no order between topics.** Whoever needs one calls twice.

        This one publishes to one topic after the other. Override it if the broker can take them at
        once: `infinitic.publishing.publish_together` does so.

        Args:
            batches: topics, each with its messages. No topic comes twice.

        Returns:
            One for each batch, in order: None if it was accepted, or the error of `publish`.

        Raises:
            UsageError: a topic comes twice. Nothing was sent.
            TransportClosed: the transport is closed. Each message is in its topic, or it is absent.
        """
        check_batches(batches)
        results: list[TransportError | None] = []
        for topic, messages in batches:
            try:
                await self.publish(topic, messages)
                results.append(None)
            except TransportClosed:
                raise
            except TransportError as error:
                results.append(error)
        return results

    @abstractmethod
    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """Join a subscription, which is made if it does not exist.

        The subscriptions of a topic are independent: each gets every message, and each has its own
        acknowledgements. Consumers of one subscription share its messages.

        Args:
            topic: a topic that was declared, or one without a main subscription.
            subscription: the name of the subscription.
            prefetch: how many messages the consumer may have in hand, 1 or more.
            durable: True is a subscription that keeps messages while it has no consumer. False is
                an *ephemeral* subscription of this consumer alone: it gets all that is published
                after `subscribe` has returned and until it closes, and it leaves nothing behind.

        Raises:
            UnknownTopic: the topic does not exist.
            TransportUnavailable: the broker is away.
            TransportClosed: the transport is closed.
            UsageError: `prefetch` is below 1.
        """

    @abstractmethod
    async def stats(self, topic: Topic) -> TopicStats:
        """Count the messages and consumers of each subscription of a topic.

        The numbers are for people. They may be some seconds old. A topic that does not exist has no
        subscriptions; that is no error.

        Args:
            topic: any topic.

        Raises:
            TransportUnavailable: the broker is away.
            TransportClosed: the transport is closed.
        """

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at the oldest messages of a subscription that are not settled.

        Nothing is taken in hand: no consumer notices, and all who look see the same, also what is
        in hand elsewhere. What is not due yet is left out, and what was given back with a delay may
        be. It is for people who look at dead letters: it may be slow, and several messages that
        were published as one batch may all be shown until the last of them is settled.

        This one says that the adapter cannot do it.

        Args:
            topic: any topic.
            subscription: the name of a durable subscription.
            limit: how many messages at most, 1 or more.

        Returns:
            The messages, in the order of their publishing. None if there is no such topic or
            subscription; that is no error.

        Raises:
            TransportUnavailable: the broker is away.
            TransportClosed: the transport is closed.
            UnsupportedCapability: the adapter cannot look without taking.
            UsageError: the limit is below 1.
        """
        raise UnsupportedCapability("This adapter cannot look at messages without taking them in hand")

    @abstractmethod
    async def close(self) -> None:
        """Close every consumer, and leave the broker. Idempotent.

        Return within seconds, also when the broker does not answer. Later calls of other methods
        raise `TransportClosed`.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
