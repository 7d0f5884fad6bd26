"""The core of the in-memory broker: topics, subscriptions and what is not due yet.

It is synchronous and pure: no loop, clock or randomness. The time is an argument, choices come from
a function that is passed in, and waiting consumers are callbacks. It keeps bytes and headers, never
objects. It is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import msgspec

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Capabilities,
    Delivery,
    Message,
    MessageTooLarge,
    Peeked,
    SubscriptionStats,
    Support,
    TopicStats,
    TransportClosed,
    UnknownTopic,
)
from infinitic_transports.memory.choice import Choose
from infinitic_transports.memory.delays import DelayQueue
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import BrokerConsumer, BrokerSubscription

DEFAULT_MAX_PAYLOAD = 5 * 1024 * 1024
"""Bytes of body, as Pulsar has it by default."""


class _TopicRecord:
    """A topic that exists.

    `all` is replaced and never changed, since a delayed message keeps the subscriptions that it is
    for.
    """

    __slots__ = ("all", "durable", "ephemerals", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.durable: dict[str, BrokerSubscription] = {}
        self.all: tuple[BrokerSubscription, ...] = ()
        # How many were made so far: they are named by it in the statistics.
        self.ephemerals = 0


class Broker:
    """Keeps each message for each subscription of its topic until that one acknowledges it.

    Everywhere `now` is in seconds since the Unix epoch. Time never goes back here: a `now` that is
    earlier than one before it counts as that one. Messages that are due join their queue before
    anything else happens, whichever method is called next.

    Args:
        max_payload: how many bytes a body may have.
        choose: decides what the contract leaves open, see `Choose`. By default the oldest message
            comes first and consumers take turns.

    Attributes:
        alarm: called with the earliest due time whenever a message was delayed. Whoever drives the
            broker has to call `due` at that time. Neither it nor the `wake` of a consumer may call
            the broker back.
        shared, keyed: the classes of the two kinds of subscription. Brokers that promise less
            replace them, and so do brokers that are broken on purpose, to prove the conformance
            suite.
        rules: the rules of the contract that this broker does not guarantee.
        ack_durability: see `Capabilities.ack_durability`.
        lateness: by how many seconds delayed messages may come late, or early if below 0.0. The
            first one is what happens without a `choose`.
    """

    shared: ClassVar[type[SharedSubscription]] = SharedSubscription
    keyed: ClassVar[type[KeyedSubscription]] = KeyedSubscription
    rules: ClassVar[Mapping[str, Support]] = MappingProxyType({})
    ack_durability: ClassVar[float] = 0.0
    lateness: ClassVar[tuple[float, ...]] = (0.0,)

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, choose: Choose | None = None) -> None:
        self.max_payload = max_payload
        self.alarm: Callable[[float], None] | None = None
        self._choose = choose
        self._topics: dict[str, _TopicRecord] = {}
        self._delays = DelayQueue()
        self._time = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """What this broker promises."""
        return Capabilities(self.max_payload, self.rules, ack_durability=self.ack_durability)

    def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics with their main subscriptions where they do not exist.

        Raises:
            UsageError: a topic exists with another ordering or main subscription.
        """
        for topic in topics:
            known = self._topics.get(topic.name)
            if known is None:
                self._make(topic)
            elif known.topic != topic:
                raise UsageError(f"The topic {topic.name!r} exists as {known.topic}, not as {topic}")

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        """Append messages for all subscriptions of the topic. Delayed ones join when they are due.

        Args:
            topic: where they go.
            messages: in this order.
            now: seconds since the Unix epoch.

        Raises:
            UnknownTopic: there is no such topic.
            MessageTooLarge: a body is above `max_payload`. None of the messages was published.
        """
        now = self._advance(now)
        found = self._topics.get(topic.name)
        if found is None:
            raise UnknownTopic(f"The topic {topic.name!r} was never declared, or its last subscriber left")
        limit = self.max_payload
        plain = True
        for message in messages:
            if len(message.body) > limit:
                raise MessageTooLarge(len(message.body), limit, topic.name)
            if message.headers or message.deliver_at is not None:
                plain = False
        frozen = messages if plain else [_freeze(message) for message in messages]
        for subscription in found.all:
            subscription.total += len(messages)
        at_once = frozen if plain else self._delay(found.all, frozen, now)
        for subscription in found.all:
            subscription.put(at_once, now)
        if not plain:
            self._announce()

    def attach(
        self,
        topic: Topic,
        subscription: str,
        prefetch: int,
        wake: Callable[[], None],
        *,
        durable: bool = True,
    ) -> BrokerConsumer:
        """Join a subscription, which is made if it does not exist.

        Args:
            topic: one that was declared. A topic without a main subscription is made by its first
                consumer.
            subscription: the name of the subscription.
            prefetch: how many messages the consumer may have in hand, 1 or more.
            wake: called once after each `take` that returned nothing, as soon as another one would
                return something or raise.
            durable: False makes a subscription for this consumer alone, which goes when it leaves.

        Raises:
            UnknownTopic: the topic was not declared.
        """
        found = self._topics.get(topic.name)
        if found is None:
            if topic.subscription is not None:
                raise UnknownTopic(f"The topic {topic.name!r} was never declared")
            found = self._make(topic)
        joined = found.durable.get(subscription) if durable else None
        if joined is None:
            joined = self._subscription(found, subscription, durable=durable)
        consumer = BrokerConsumer(joined, prefetch, wake)
        joined.consumers[consumer] = None
        return consumer

    def take(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        """Hand out messages, within the prefetch of the consumer.

        If there is nothing, the consumer waits: its `wake` will be called, unless it calls
        `stop_waiting`.

        Args:
            consumer: who takes.
            limit: how many messages at most, 1 or more.
            now: seconds since the Unix epoch.

        Raises:
            TransportClosed: the consumer was detached.
            UnknownTopic: its topic was removed.
        """
        if consumer.closed:
            raise TransportClosed("This consumer is closed")
        if consumer.subscription.closed:
            raise UnknownTopic(f"The topic {consumer.subscription.topic!r} is gone: it was removed")
        return consumer.subscription.take(consumer, limit, self._advance(now))

    def stop_waiting(self, consumer: BrokerConsumer) -> None:
        """The consumer wants nothing now. What it was woken for, if it was, goes to others."""
        consumer.subscription.stop_waiting(consumer)

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        """Settle deliveries that are in hand at the consumer. Others are ignored."""
        consumer.subscription.ack(consumer, deliveries, self._time)

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, delay: float, now: float) -> None:
        """Take a delivery back, and hand it out again later, with `attempt` + 1.

        On a KEYED topic it comes before all later messages of its key; those in hand stay in hand.
        A delivery that is not in hand at the consumer is ignored.

        Args:
            consumer: who gives it back.
            delivery: what it gives back.
            delay: seconds until it may come again; 0 or less: at once.
            now: seconds since the Unix epoch.
        """
        now = self._advance(now)
        due = now + delay if delay > 0 else now
        restore = consumer.subscription.nack(consumer, delivery, due, now)
        if restore is not None:
            self._delays.add_redelivery(due, consumer.subscription, restore)
            self._announce()

    def detach(self, consumer: BrokerConsumer) -> None:
        """Remove a consumer. Idempotent.

        The messages that it has in hand return in their order, before those that were never handed
        out, and each counts as a failed attempt. Later acks of the consumer are ignored. An
        ephemeral subscription is removed with its consumer. A topic without a main subscription is
        removed with its last subscription.
        """
        if consumer.closed:
            return
        subscription = consumer.subscription
        subscription.leave(consumer, self._time)
        if not subscription.durable:
            self._forget(subscription)

    def crash(self, consumer: BrokerConsumer) -> None:
        """End a consumer whose process died. This broker notices at once, and does as `detach`."""
        self.detach(consumer)

    def remove(self, topic: Topic) -> None:
        """Remove a topic with all its messages, as an administrator may. Its consumers are told."""
        found = self._topics.pop(topic.name, None)
        if found is not None:
            for subscription in found.all:
                subscription.end()
            self._delays.discard_obsolete()

    def due(self, now: float) -> None:
        """Let delayed messages that are due join the end of their queue."""
        self._advance(now)

    def find_next_due(self) -> float | None:
        """When `due` has to be called next; None if no message is delayed."""
        return self._delays.find_next_due()

    def stats(self, topic: Topic) -> TopicStats:
        """Count messages and consumers of each subscription; an ephemeral one is `name#number`."""
        found = self._topics.get(topic.name)
        return TopicStats({each.name: each.stats() for each in found.all} if found else {})

    def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at messages of a durable subscription, and take none: see `Transport.peek`."""
        found = self._topics.get(topic.name)
        kept = found.durable.get(subscription) if found is not None else None
        if kept is None:
            return []
        return [Peeked(each.message, each.published_at) for each in kept.list_unsettled()[:limit]]

    def find_record(self, topic: Topic) -> object | None:
        """Return an object that stands for a topic while it exists. None: it does not exist.

        A topic that was removed and made anew has another one.
        """
        return self._topics.get(topic.name)

    def overview(self) -> dict[str, dict[str, SubscriptionStats]]:
        """The subscriptions of every topic, by its name, as `stats` has them."""
        return {name: self.stats(each.topic).subscriptions for name, each in self._topics.items()}

    def _make(self, topic: Topic) -> _TopicRecord:
        made = self._topics[topic.name] = _TopicRecord(topic)
        if topic.subscription is not None:
            self._subscription(made, topic.subscription, durable=True)
        return made

    def _subscription(self, topic: _TopicRecord, name: str, *, durable: bool) -> BrokerSubscription:
        kind = self.keyed if topic.topic.ordering is Ordering.KEYED else self.shared
        if durable:
            made = topic.durable[name] = kind(topic.topic.name, name, self._choose, durable=True)
        else:
            topic.ephemerals += 1
            name = f"{name}#{topic.ephemerals}"
            made = kind(topic.topic.name, name, self._choose, durable=False)
        topic.all = (*topic.all, made)
        return made

    def _forget(self, subscription: BrokerSubscription) -> None:
        """Remove an ephemeral subscription, and its topic if that has no other use."""
        subscription.closed = True
        topic = self._topics.get(subscription.topic)
        if topic is None or subscription not in topic.all:
            # The topic was removed before.
            return
        topic.all = tuple(each for each in topic.all if each is not subscription)
        if not topic.all and topic.topic.subscription is None:
            del self._topics[subscription.topic]
        if subscription.delayed:
            self._delays.discard_obsolete()

    def _delay(
        self, subscriptions: tuple[BrokerSubscription, ...], messages: Sequence[Message], now: float
    ) -> list[Message]:
        """Keep back the messages that are not due yet, and return the others."""
        at_once: list[Message] = []
        for message in messages:
            due = message.deliver_at
            if due is not None and due > now and self._choose is not None and len(self.lateness) > 1:
                due += self.lateness[self._choose("delay", len(self.lateness))]
            if due is None or not due > now:
                at_once.append(message)
            elif subscriptions:
                self._delays.add_message(due, subscriptions, message, now)
        return at_once

    def _announce(self) -> None:
        due = self.find_next_due()
        if due is not None and self.alarm is not None:
            self.alarm(due)

    def _advance(self, now: float) -> float:
        """Move time on. What is due by then joins its queue."""
        if now > self._time:
            self._time = now
            if self._delays.heap:
                self._delays.release(now)
        return self._time


def _freeze(message: Message) -> Message:
    """The message with headers that its publisher can no longer change."""
    if not message.headers or isinstance(message.headers, MappingProxyType):
        return message
    return msgspec.structs.replace(message, headers=MappingProxyType(dict(message.headers)))
