"""The core of the in-memory broker: topics, subscriptions and what is not due yet.

Synchronous and pure: no loop, clock or randomness. The time is an argument, choices come from a function that
is passed in, waiting consumers are callbacks. Bytes and headers are kept, never objects. It is not
thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import ClassVar

import msgspec

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Delivery,
    Message,
    MessageTooLarge,
    SubscriptionStats,
    TopicStats,
    TransportClosed,
    UnknownTopic,
)
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.parts import Choose, Receiver
from infinitic_transports.memory.put_off import PutOff
from infinitic_transports.memory.subscription import SharedSubscription, Subscription

DEFAULT_MAX_PAYLOAD = 5 * 1024 * 1024
"""Bytes of body, as Pulsar has it by default."""


class _Topic:
    """A topic that exists. `all` is replaced, never changed: what is delayed remembers for whom it is."""

    __slots__ = ("all", "durable", "ephemerals", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.durable: dict[str, Subscription] = {}
        self.all: tuple[Subscription, ...] = ()
        self.ephemerals = 0  # made so far, for their names in the statistics


class Broker:
    """Keeps every message for every subscription of its topic until that subscription acknowledges it.

    `max_payload` is in bytes of body. `choose` decides what the contract leaves open (see `Choose`); by
    default the oldest comes first and consumers take turns.

    `now` is in seconds since the Unix epoch everywhere. Time never goes back here: a `now` before an earlier
    one counts as that one. What is due joins its queue before anything else happens, whichever operation
    comes next.

    `alarm` is called with the earliest due time whenever something was put off; whoever drives the broker
    then sees to it that `due` is called at that time. Neither it nor a consumer's `wake` may call back.

    `shared` and `keyed` are the kinds of subscription, for broken brokers that prove a conformance suite.
    """

    shared: ClassVar[type[SharedSubscription]] = SharedSubscription
    keyed: ClassVar[type[KeyedSubscription]] = KeyedSubscription

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, choose: Choose | None = None) -> None:
        self.max_payload = max_payload
        self.alarm: Callable[[float], None] | None = None
        self._choose = choose
        self._topics: dict[str, _Topic] = {}
        self._put_off = PutOff()
        self._time = 0.0

    def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics with their main subscriptions where they do not exist.

        Raises `UsageError` if a topic exists with another ordering or main subscription.
        """
        for topic in topics:
            known = self._topics.get(topic.name)
            if known is None:
                self._make(topic)
            elif known.topic != topic:
                raise UsageError(f"The topic {topic.name!r} exists as {known.topic}, not as {topic}")

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        """Append messages for all subscriptions of the topic; what has a later `deliver_at` joins when due.

        Raises `UnknownTopic`, or `MessageTooLarge`; then none of them was published.
        """
        now = self._advance(now)
        found = self._topics.get(topic.name)
        if found is None:
            raise UnknownTopic(f"The topic {topic.name!r} was never declared, or vanished with its last subscriber")
        limit = self.max_payload
        plain = True
        for message in messages:
            if len(message.body) > limit:
                raise MessageTooLarge(len(message.body), limit, topic.name)
            if message.headers or message.deliver_at is not None:
                plain = False
        frozen = messages if plain else [_frozen(message) for message in messages]
        for subscription in found.all:
            subscription.total += len(messages)
        at_once = frozen if plain else self._due_at_once(found.all, frozen, now)
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
    ) -> Receiver:
        """Join a subscription, which is made if it does not exist; if not `durable`, one of its own.

        `prefetch` (1 or more) bounds what is in hand. `wake` is called once after each `take` that returned
        nothing, when trying again may give something or will raise. A topic without a main subscription is
        made with its first consumer; raises `UnknownTopic` for any other that does not exist.
        """
        found = self._topics.get(topic.name)
        if found is None:
            if topic.subscription is not None:
                raise UnknownTopic(f"The topic {topic.name!r} was never declared")
            found = self._make(topic)
        joined = found.durable.get(subscription) if durable else None
        if joined is None:
            joined = self._subscription(found, subscription, durable=durable)
        receiver = Receiver(joined, prefetch, wake)
        joined.receivers[receiver] = None
        return receiver

    def take(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        """Hand out up to `limit` (1 or more) messages, within the prefetch of the receiver.

        If there is nothing the receiver waits: `wake` will be called, unless `stop_waiting` is before.
        Raises `TransportClosed` if it was detached, and `UnknownTopic` if its topic was removed.
        """
        if receiver.closed:
            raise TransportClosed("This consumer is closed")
        if receiver.subscription.closed:
            raise UnknownTopic(f"The topic {receiver.subscription.topic!r} is gone: it was removed")
        return receiver.subscription.take(receiver, limit, self._advance(now))

    def stop_waiting(self, receiver: Receiver) -> None:
        """The receiver wants nothing any more. What it may have been woken for goes to others."""
        receiver.subscription.stop_waiting(receiver)

    def ack(self, receiver: Receiver, deliveries: Iterable[Delivery]) -> None:
        """Settle what is in hand at the receiver. Deliveries that are not are ignored."""
        receiver.subscription.ack(receiver, deliveries, self._time)

    def nack(self, receiver: Receiver, delivery: Delivery, delay: float, now: float) -> None:
        """Take a delivery back and hand it out again after `delay` seconds, `attempt` + 1.

        On a KEYED topic it comes before all later messages of its key; those that are in hand stay there.
        Ignored if it is not in hand at the receiver.
        """
        now = self._advance(now)
        due = now + delay if delay > 0 else now
        restore = receiver.subscription.nack(receiver, delivery, due, now)
        if restore is not None:
            self._put_off.delivery(due, receiver.subscription, restore)
            self._announce()

    def detach(self, receiver: Receiver) -> None:
        """Remove a consumer. What it has in hand comes back in its order, before what was never handed out.

        Each counts as a failed attempt. Its later acks are ignored. Ephemeral subscriptions vanish with it,
        and with the last of its subscriptions a topic that has no main one. Idempotent.
        """
        if receiver.closed:
            return
        subscription = receiver.subscription
        subscription.leave(receiver, self._time)
        if not subscription.durable:
            self._forget(subscription)

    def crash(self, receiver: Receiver) -> None:
        """The consumer died. Here that is noticed at once and looks like `detach`."""
        self.detach(receiver)

    def remove(self, topic: Topic) -> None:
        """Remove a topic with all that is in it, as an administrator may: its consumers are told."""
        found = self._topics.pop(topic.name, None)
        if found is not None:
            for subscription in found.all:
                subscription.end()
            self._put_off.discard_obsolete()

    def due(self, now: float) -> None:
        """Let what is due join the end of its queue."""
        self._advance(now)

    def next_due(self) -> float | None:
        """When `due` must be called next; None if nothing is put off."""
        return self._put_off.next_due()

    def stats(self, topic: Topic) -> TopicStats:
        """Count messages and consumers of each subscription; ephemeral ones are called `name#number`."""
        found = self._topics.get(topic.name)
        return TopicStats({each.name: each.stats() for each in found.all} if found else {})

    def overview(self) -> dict[str, dict[str, SubscriptionStats]]:
        """The subscriptions of every topic, by its name, as `stats` has them."""
        return {name: self.stats(each.topic).subscriptions for name, each in self._topics.items()}

    def _make(self, topic: Topic) -> _Topic:
        made = self._topics[topic.name] = _Topic(topic)
        if topic.subscription is not None:
            self._subscription(made, topic.subscription, durable=True)
        return made

    def _subscription(self, topic: _Topic, name: str, *, durable: bool) -> Subscription:
        kind = self.keyed if topic.topic.ordering is Ordering.KEYED else self.shared
        if durable:
            made = topic.durable[name] = kind(topic.topic.name, name, self._choose, durable=True)
        else:
            topic.ephemerals += 1
            name = f"{name}#{topic.ephemerals}"
            made = kind(topic.topic.name, name, self._choose, durable=False)
        topic.all = (*topic.all, made)
        return made

    def _forget(self, subscription: Subscription) -> None:
        """Remove an ephemeral subscription, and its topic if that was the last thing it was there for."""
        subscription.closed = True
        topic = self._topics.get(subscription.topic)
        if topic is None or subscription not in topic.all:  # removed before
            return
        topic.all = tuple(each for each in topic.all if each is not subscription)
        if not topic.all and topic.topic.subscription is None:
            del self._topics[subscription.topic]
        if subscription.delayed:
            self._put_off.discard_obsolete()

    def _due_at_once(
        self, subscriptions: tuple[Subscription, ...], messages: Sequence[Message], now: float
    ) -> list[Message]:
        """Put off what is not due; return the others."""
        at_once: list[Message] = []
        for message in messages:
            due = message.deliver_at
            if due is None or not due > now:
                at_once.append(message)
            elif subscriptions:
                self._put_off.message(due, subscriptions, message, now)
        return at_once

    def _announce(self) -> None:
        due = self._put_off.next_due()
        if due is not None and self.alarm is not None:
            self.alarm(due)

    def _advance(self, now: float) -> float:
        """Move time on; whatever is due then joins its queue."""
        if now > self._time:
            self._time = now
            if self._put_off.heap:
                self._put_off.release(now)
        return self._time


def _frozen(message: Message) -> Message:
    """The message with headers that its publisher cannot change any more."""
    if not message.headers or isinstance(message.headers, MappingProxyType):
        return message
    return msgspec.structs.replace(message, headers=MappingProxyType(dict(message.headers)))
