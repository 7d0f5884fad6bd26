"""Subscriptions that promise what those of Pulsar promise, and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from infinitic.transport import Delivery, Message, Support
from infinitic_transports.memory.choice import Choose
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import (
    BrokerConsumer,
    BrokerSubscription,
    KeyQueue,
    QueuedDelivery,
    cast_queued,
)

_best = Support.BEST_EFFORT
RULES: Mapping[str, Support] = MappingProxyType(
    {"EXC-3": _best, "RED-2": _best, "RED-3": _best, "RED-8": _best, "RED-11": _best}
)
"""What the adapter for Pulsar does not guarantee."""

ACK_DURABILITY = 1.0
"""Seconds after which an acknowledgement survives a crash, as the adapter for Pulsar promises."""

REMEMBERED = 10_000
"""How many acknowledged messages a subscription can give back."""


class Acknowledged:
    """What a subscription has acknowledged lately, and can give back."""

    __slots__ = ("_log",)

    def __init__(self) -> None:
        # When each message was acknowledged, the message, and when it was published.
        self._log: deque[tuple[float, Message, float]] = deque(maxlen=REMEMBERED)

    def note(self, deliveries: Iterable[Delivery], now: float) -> None:
        """Remember deliveries that are acknowledged now."""
        for delivery in deliveries:
            self._log.append((now, delivery.message, delivery.published_at))

    def give_back(self, subscription: BrokerSubscription, since: float) -> int:
        """Put messages into their subscription again, in order, and forget them here.

        Args:
            subscription: where they are put.
            since: those acknowledged at this time or later, in seconds since the Unix epoch.

        Returns:
            How many there are.
        """
        log = self._log
        given: list[tuple[float, Message, float]] = []
        while log and log[-1][0] >= since:
            given.append(log.pop())
        subscription.total += len(given)
        for _, message, published_at in reversed(given):
            subscription.put((message,), published_at)
        return len(given)


class PulsarLikeShared(SharedSubscription):
    """A SHARED subscription as Pulsar has it.

    Attributes:
        acknowledged: what can be given back.
    """

    __slots__ = ("acknowledged",)

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.acknowledged = Acknowledged()

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        for holder, held in find_holders(self, consumer, deliveries):
            self.acknowledged.note(held, now)
            super().ack(holder, held, now)

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        forget_attempts(self.choose, consumer)
        super()._take_back(consumer, now)


class PulsarLikeKeyed(KeyedSubscription):
    """A KEYED subscription as Pulsar has it.

    Attributes:
        acknowledged: what can be given back.
    """

    __slots__ = ("acknowledged",)

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.acknowledged = Acknowledged()

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        for holder, held in find_holders(self, consumer, deliveries):
            self.acknowledged.note(held, now)
            super().ack(holder, held, now)

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        forget_attempts(self.choose, consumer)
        if self.choose is not None:
            for queue in dict.fromkeys(consumer.in_hand.values()):
                if queue.key is not None:
                    how = self.choose("order", 3)
                    if how:
                        self._requeue(queue, consumer, now, backwards=how == 2)
        super()._take_back(consumer, now)

    def _requeue(self, queue: KeyQueue, consumer: BrokerConsumer, now: float, *, backwards: bool) -> None:
        """Move what the consumer has in hand of a queue behind all that waits."""
        moved = [cast_queued(delivery) for delivery, each in consumer.in_hand.items() if each is queue]
        for delivery in moved:
            del consumer.in_hand[delivery]
        if backwards:
            moved.reverse()
        for order, delivery in enumerate(moved, self.order):
            again = QueuedDelivery(delivery.message, delivery.attempt + 1, delivery.published_at, None, order)
            queue.waiting.append(again)
        self.order += len(moved)
        queue.handed_out -= len(moved)
        self._release(queue, consumer, now)


def forget_attempts(choose: Choose | None, consumer: BrokerConsumer) -> None:
    """Choose whether the attempts of what a consumer has in hand are counted from 1 again."""
    if choose is not None and consumer.in_hand and choose("attempts", 2):
        consumer.in_hand = {
            QueuedDelivery(each.message, 0, each.published_at, None, cast_queued(each).order): queue
            for each, queue in consumer.in_hand.items()
        }


def find_holders(
    subscription: BrokerSubscription, consumer: BrokerConsumer, deliveries: Iterable[Delivery]
) -> list[tuple[BrokerConsumer, list[Delivery]]]:
    """Find who has the messages of deliveries in hand now, each with the deliveries of it.

    For Pulsar it does not matter which consumer acknowledges a message.

    Args:
        subscription: of all of them.
        consumer: who acknowledges.
        deliveries: what it acknowledges.
    """
    own: list[Delivery] = []
    found = [(consumer, own)]
    for delivery in deliveries:
        if delivery in consumer.in_hand:
            own.append(delivery)
            continue
        for other in subscription.consumers:
            held = [each for each in other.in_hand if each.message is delivery.message]
            if held:
                found.append((other, held))
                break
    return found
