"""The Transport port: what the engines need of a broker, and what every adapter is held to.

The numbered contract (persistence, exclusive and keyed consumption, delayed delivery, retry, at least once)
stands in the docstrings below. Adapters carry bytes, keys and headers; they know nothing of messages.

Errors::

    TransportError
    ├── TransportUnavailable     the broker cannot be reached now; try again
    ├── UnknownTopic             the topic was never declared, was removed, or its client is gone
    ├── MessageTooLarge          above `Capabilities.max_payload`; nothing was sent
    ├── TransportClosed          the transport or the consumer is closed, by the caller or for good by the broker
    └── UnsupportedCapability    the broker cannot do what was asked
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType, TracebackType
from typing import Self

import msgspec

from infinitic.errors import TransportError
from infinitic.topics import Topic


class TransportUnavailable(TransportError):
    """The broker cannot be reached now. Trying again later may work."""


class UnknownTopic(TransportError):
    """The topic was never declared, was removed by somebody, or was ephemeral and is gone with its last subscriber."""


class MessageTooLarge(TransportError):
    """A message is above the limit of the broker. Nothing was sent."""

    def __init__(self, size: int, limit: int, topic: str) -> None:
        super().__init__(f"A message of {size:,} bytes for {topic} is above the limit of {limit:,} bytes")
        self.size = size
        self.limit = limit
        self.topic = topic

    def __reduce__(self) -> tuple[type[MessageTooLarge], tuple[int, int, str]]:
        return MessageTooLarge, (self.size, self.limit, self.topic)


class TransportClosed(TransportError):
    """The transport, or this consumer, has been closed: by the caller, or for good by the broker."""


class UnsupportedCapability(TransportError):
    """The broker behind this adapter cannot do what was asked."""


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is published. `id` is chosen by the publisher and only for people: brokers need not look at it.

    `deliver_at` is in seconds since the Unix epoch: the message is delivered then, not before. None: at once.
    """

    id: str
    key: str | None
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS
    deliver_at: float | None = None


class Delivery(msgspec.Struct, frozen=True, eq=False):
    """One hand-over of a message to a consumer. It is what gets acknowledged.

    `attempt` counts from 1. `published_at` is in seconds since the Unix epoch. `token` is the adapter's own.
    """

    message: Message
    attempt: int
    published_at: float
    token: object = None


class SubscriptionStats(msgspec.Struct, frozen=True):
    """The messages and consumers of one subscription.

    `backlog` waits for a consumer, `unacked` is in hand at consumers, `delayed` is not due yet.
    """

    backlog: int
    unacked: int
    delayed: int
    consumers: int


class TopicStats(msgspec.Struct, frozen=True):
    """The subscriptions of a topic by name. Empty if the topic does not exist."""

    subscriptions: dict[str, SubscriptionStats]


class Support(Enum):
    """How far an adapter keeps a rule of the contract."""

    GUARANTEED = "guaranteed"
    BEST_EFFORT = "best effort"
    UNSUPPORTED = "unsupported"


class Capabilities(msgspec.Struct, frozen=True):
    """What an adapter promises, as data. A rule that is not named in `rules` is guaranteed.

    `rules` maps a rule id of the conformance suite to the support it has. `max_payload` is in bytes of body.
    `delay_resolution` and `delay_earliness` (how much before its time a delayed message may come) are in
    seconds. `ack_durability` is the time in seconds after which an acknowledgement survives a crash.
    """

    max_payload: int
    rules: Mapping[str, Support] = MappingProxyType({})
    delay_resolution: float = 0.0
    delay_earliness: float = 0.0
    ack_durability: float = 0.0

    def support(self, rule: str) -> Support:
        """The support that the rule of this id has."""
        return self.rules.get(rule, Support.GUARANTEED)


class Consumer(ABC):
    """One consumer of a subscription. Everything received and not yet settled is *in hand*: exclusively here.

    A consumer holds at most `prefetch` messages in hand. Its verbs may be called from many tasks of the loop
    that made it. After `close` they raise `TransportClosed`.
    """

    __slots__ = ()

    @abstractmethod
    async def receive(self, max_messages: int) -> list[Delivery]:
        """Wait for at least one message and return up to `max_messages`.

        On a KEYED topic all unsettled messages of a key are with one consumer, in publish order per producer;
        the key moves only after they are settled. After a crash or a close the earliest unsettled message of
        the key comes first again. Cancelling `receive` loses nothing. Only one `receive` at a time.

        It waits while the broker is away, or raises `TransportUnavailable`; then it may be called again. It does
        not wait on a consumer that gets nothing any more. It raises `UnknownTopic` when the topic or the
        subscription was removed, and `TransportClosed` when the broker has ended this consumer, as after
        `close`. Such a consumer stays lost: close it, `declare` and `subscribe` anew. What was in hand then
        comes again, unless it went with its topic.
        """

    @abstractmethod
    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Settle deliveries: they are never delivered again to this subscription.

        Twice is a no-op. The ack of a delivery that was handed to somebody else meanwhile removes nothing.
        Cancelling `ack` leaves each message acknowledged or to be redelivered.
        """

    @abstractmethod
    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        """Give a delivery back: it comes again after `delay` seconds, with `attempt` + 1 where the broker counts.

        On a KEYED topic later messages of the key wait behind it. A nack never applies `deliver_at` again.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back what is in hand and leave the subscription. Idempotent."""


class Transport(ABC):
    """A connection to a broker.

    At least once everywhere: messages may come twice, never not at all. A publish that fails or is cancelled
    is *unknown*: each of its messages is whole in the topic or absent, never partial.
    """

    __slots__ = ()

    capabilities: Capabilities

    @abstractmethod
    async def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics and their main subscriptions where they do not exist. Idempotent.

        Topics that were removed after they had been declared are made again, at the latest once `UnknownTopic`
        was raised for them.

        What is published from then on is kept for the main subscription, also while nobody consumes it.
        """

    @abstractmethod
    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Publish in this order; return once the broker has accepted all of them.

        Accepted messages survive restarts and are kept for every existing subscription until it acknowledges
        them. `deliver_at` works on every topic: never before it, promptly after it, then at the end of its
        key's order; a message that is pending blocks nobody.

        Raises `UnknownTopic`, `MessageTooLarge` (nothing was sent), `TransportUnavailable`, `TransportClosed`.
        """

    @abstractmethod
    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """Join a subscription, which is made if it does not exist; subscriptions of a topic are independent.

        `prefetch` bounds what is in hand. `durable=False` makes an *ephemeral* subscription of this consumer
        alone: it gets all that is published after `subscribe` returned and until it closes, and leaves
        nothing behind.
        """

    @abstractmethod
    async def stats(self, topic: Topic) -> TopicStats:
        """Count the messages and consumers of a topic, per subscription."""

    @abstractmethod
    async def close(self) -> None:
        """Close every consumer and leave the broker. Idempotent; later calls raise `TransportClosed`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
