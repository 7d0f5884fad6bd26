"""Broken in-memory brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, UnknownTopic
from infinitic_transports.memory import Broker, BrokerConsumer
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import BrokerSubscription
from tests.conformance.transport_broken import broken


@broken("PER-1")
class MakesTopics(Broker):
    """A topic that nobody declared is made by the first publish."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        self.declare([topic])
        super().publish(topic, messages, now)


@broken("PER-4", "DLY-7")
class KeepsForConsumersOnly(Broker):
    """What comes while nobody consumes is dropped."""

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        joined = super().attach(topic, subscription, prefetch, wake, durable=durable)
        if len(joined.subscription.consumers) == 1:
            super().take(joined, 1000, 0.0)
            super().ack(joined, list(joined.in_hand))
        return joined


@broken("PER-5")
class KeepsForLatecomers(Broker):
    """What is published to a topic without subscription waits for the first one."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        try:
            super().publish(topic, messages, now)
        except UnknownTopic:
            if topic.subscription is not None:
                raise
            self.early = (topic, messages)

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        joined = super().attach(topic, subscription, prefetch, wake, durable=durable)
        early: tuple[Topic, Sequence[Message]] | None = getattr(self, "early", None)
        if early is not None and early[0] == topic:
            self.publish(*early, 0.0)
        return joined


@broken("PER-6", "FLO-3", "ORD-11")
class StarvesTheSecond(Broker):
    """Only the first subscription of a topic gets what is published."""

    def _subscription(self, topic: Any, name: str, *, durable: bool) -> BrokerSubscription:
        before = topic.all
        made = super()._subscription(topic, name, durable=durable)
        if before and durable:
            topic.all = before
        return made


@broken("PER-6")
class AcksAreCommon(Broker):
    """What one subscription acknowledges is gone for the others."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        for each in (settled := list(deliveries)):
            for other in self._topics[consumer.subscription.topic].durable.values():
                if isinstance(other, SharedSubscription) and other is not consumer.subscription:
                    for waiting in [held for held in other.ready if held.message is each.message]:
                        other.ready.remove(waiting)
                        other.total -= 1
        super().ack(consumer, settled)


@broken("PER-7")
class EphemeralsStay(Broker):
    """An ephemeral subscription is there after its close."""

    def _forget(self, subscription: BrokerSubscription) -> None:
        pass


@broken("PER-7")
class EphemeralsShare(Broker):
    """Ephemeral subscriptions of one name are one."""

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        return super().attach(topic, subscription, prefetch, wake, durable=True)


@broken("PER-8")
class PublishesUpToTheLargeOne(Broker):
    """Of a publish that fails, what stands before the message that is too large is there."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        for message in messages:
            super().publish(topic, [message], now)


@broken("PER-2", "EXC-2", "ORD-4", "RED-8")
class CrashesGoUnseen(Broker):
    """What a crashed consumer had in hand stays there."""

    def crash(self, consumer: BrokerConsumer) -> None:
        consumer.closed = True


@broken("EXC-3")
class AnyAckCounts(Broker):
    """Whoever acknowledges a delivery, it is settled."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        for each in list(consumer.subscription.consumers):
            super().ack(each, settled)


class SettlesAnywhere(Broker):
    """Lets an ack by nobody in particular count. No mutant by itself."""

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        messages = [each.message for each in deliveries]
        for topic in self._topics.values():
            for consumer in [each for subscription in topic.all for each in subscription.consumers]:
                self.ack(consumer, [each for each in consumer.in_hand if any(each.message is m for m in messages)])


@broken("ORD-2", "ORD-3", "ORD-5", "ORD-9")
class KnowsNoKeys(Broker):
    """A KEYED topic is as a SHARED one."""

    def declare(self, topics: Iterable[Topic]) -> None:
        super().declare(replace(topic, ordering=Ordering.SHARED) for topic in topics)


@broken("PER-3")
class CrashForgetsAcks(Broker):
    """What a consumer acknowledged comes again if it crashes right after that."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        settled = [each for each in deliveries if each in consumer.in_hand]
        super().ack(consumer, settled)
        self.acked = {**getattr(self, "acked", {}), consumer: [each.message for each in settled]}

    def crash(self, consumer: BrokerConsumer) -> None:
        super().crash(consumer)
        acked: dict[BrokerConsumer, list[Message]] = getattr(self, "acked", {})
        consumer.subscription.put(acked.get(consumer, []), self._time)


@broken("PER-7")
class EphemeralsOutliveACrash(Broker):
    """The ephemeral subscription of a consumer that crashed stays."""

    def crash(self, consumer: BrokerConsumer) -> None:
        if consumer.subscription.durable:
            super().crash(consumer)


class WakesLate(Broker):
    """Wakes consumers a second late while it is `silent`. No mutant by itself."""

    silent = False

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        def wake_late() -> None:
            if self.silent:
                asyncio.get_running_loop().call_later(1.0, wake)
            else:
                wake()

        return super().attach(topic, subscription, prefetch, wake_late, durable=durable)


@broken("FLO-5")
class PublishesInSilence(WakesLate):
    """A publish wakes nobody: consumers find its messages when they next look."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        self.silent = True
        super().publish(topic, messages, now)
        self.silent = False


@broken("FLO-5")
class LeavesInSilence(WakesLate):
    """A consumer that leaves wakes nobody: others find what it had when they next look."""

    def detach(self, consumer: BrokerConsumer) -> None:
        self.silent = True
        super().detach(consumer)
        self.silent = False


@broken("PER-9")
class ForgetsAfterAWeek(Broker):
    """Messages of more than a week ago are dropped, although the deduplication window is longer."""

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        joined = super().attach(topic, subscription, prefetch, wake, durable=durable)
        everything = super().take(joined, 1000, 0.0)
        week = 7 * 86_400.0
        super().ack(joined, [each for each in everything if each.published_at < self._time - week])
        for each in everything:
            super().nack(joined, each, 0.0, 0.0)
        return joined
