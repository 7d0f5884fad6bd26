"""What a broker needs that promises what Pulsar promises, and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import count
from types import MappingProxyType

from msgspec.structs import force_setattr, replace

from infinitic.transport import Delivery, Message, Support
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.subscription import (
    BrokerConsumer,
    BrokerSubscription,
    KeyQueue,
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


class Holders:
    """Who has which message in hand. For Pulsar it does not matter which consumer acknowledges it.

    Messages get numbers for this, which stay the same when they are delivered again.
    """

    __slots__ = ("_held", "_numbers")

    def __init__(self) -> None:
        self._numbers = count(1)
        # By the number of the message. It may be out of date: `find` looks.
        self._held: dict[object, tuple[BrokerConsumer, Delivery]] = {}

    def note(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        """Remember that a consumer was handed deliveries."""
        for delivery in deliveries:
            if delivery.token is None:
                force_setattr(delivery, "token", next(self._numbers))
            self._held[delivery.token] = (consumer, delivery)

    def find(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> dict[BrokerConsumer, list[Delivery]]:
        """Find who has messages in hand now that a consumer acknowledges, and forget them.

        Args:
            consumer: who acknowledges.
            deliveries: what it acknowledges.

        Returns:
            The deliveries to settle, by the consumer that has them.
        """
        found: dict[BrokerConsumer, list[Delivery]] = {consumer: []}
        for delivery in deliveries:
            holder, held = self._held.get(delivery.token, (consumer, delivery))
            if held in holder.in_hand:
                found.setdefault(holder, []).append(held)
                self._held.pop(delivery.token, None)
        return found


class PulsarLikeKeyed(KeyedSubscription):
    """A KEYED subscription in which a key may be out of order after its consumer has left."""

    __slots__ = ()

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        if self.choose is not None:
            by_queue: dict[KeyQueue, list[Delivery]] = {}
            for delivery, queue in consumer.in_hand.items():
                by_queue.setdefault(queue, []).append(delivery)
            for queue, held in by_queue.items():
                how = self.choose("order", 3) if queue.key is not None else 0
                if how:
                    self._requeue(queue, held if how == 1 else held[::-1], consumer, now)
        super()._take_back(consumer, now)

    def _requeue(self, queue: KeyQueue, moved: list[Delivery], consumer: BrokerConsumer, now: float) -> None:
        """Move what the consumer has in hand of a queue behind all that waits."""
        for delivery in moved:
            del consumer.in_hand[delivery]
        for order, delivery in enumerate(moved, self.order):
            again = cast_queued(delivery).again()
            queue.waiting.append(replace(again, order=order))
        self.order += len(moved)
        queue.handed_out -= len(moved)
        self._release(queue, consumer, now)
