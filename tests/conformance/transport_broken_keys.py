"""Broken KEYED subscriptions of the in-memory broker."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from msgspec.structs import replace

from infinitic.transport import Delivery, Message
from infinitic_transports.memory.choice import Choose
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.subscription import BrokerConsumer, KeyQueue, QueuedDelivery, cast_queued
from tests.conformance.transport_broken import broken


@broken("ORD-1", "PER-4")
class Reverses(KeyedSubscription):
    """The messages of one publish stand in the reverse order."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put(messages[::-1], published_at)


@broken("ORD-2", "ORD-3", "DLY-6", "ORD-13")
class LetsGoEarly(KeyedSubscription):
    """A key may move while some of it is in hand."""

    def _hand_over(
        self, queue: KeyQueue, consumer: BrokerConsumer, limit: int, taken: list[Delivery], now: float
    ) -> int:
        count = super()._hand_over(queue, consumer, limit, taken, now)
        if queue.key is not None and self.queues.get(queue.key) is queue:
            rest = queue.waiting[queue.first :]
            del queue.waiting[queue.first :]
            consumer.queues.pop(queue, None)
            fresh = self.queues[queue.key] = KeyQueue(queue.key, rest, bool(rest))
            if rest:
                self.ready.append(fresh)
        return count

    def _release(self, queue: KeyQueue, consumer: BrokerConsumer, now: float) -> None:
        if queue.returned or queue.first < len(queue.waiting):
            super()._release(queue, consumer, now)
        else:
            queue.holder = None


class _ToTheTail(KeyedSubscription):
    def _return(self, queue: KeyQueue, delivery: QueuedDelivery, due: float) -> None:
        queue.waiting.append(delivery.again())
        queue.handed_out -= 1


@broken("ORD-5", "ORD-6")
class NackToTheTail(_ToTheTail):
    """A nacked message goes behind the later ones of its key."""

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        return KeyedSubscription._take_back(self, consumer, now)


@broken("ORD-4", "LIF-2")
class LeaveToTheTail(KeyedSubscription):
    """What a consumer leaves behind goes behind the later ones of its key."""

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        for delivery, queue in consumer.in_hand.items():
            queue.waiting.append(cast_queued(delivery).again())
            queue.handed_out -= 1
            queue.holder = None
            if not queue.offered:
                queue.offered = True
                self.ready.append(queue)
        consumer.in_hand.clear()
        consumer.queues.clear()


@broken("ORD-6")
class LastGivenBackFirst(KeyedSubscription):
    """Of what was nacked, the latest of its key comes first."""

    def _return(self, queue: KeyQueue, delivery: QueuedDelivery, due: float) -> None:
        turned = QueuedDelivery(
            delivery.message, delivery.attempt, delivery.published_at, None, -abs(delivery.order) - 1
        )
        super()._return(queue, turned, due)


@broken("ORD-7")
class StuckKeyStopsAll(KeyedSubscription):
    """While the first message of a key is put off, no key moves."""

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        stuck = any(queue.returned and queue.returned[0][1] > now for queue in self.queues.values())
        return [] if stuck else super()._hand_out(consumer, limit, now)


class Rekeys(KeyedSubscription):
    """Takes some keys for others. What is handed out has its own key."""

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.originals: dict[int, tuple[Message, Message]] = {}

    def rekeyed(self, key: str | None) -> str | None:
        raise NotImplementedError

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        wrong = [replace(each, key=self.rekeyed(each.key)) for each in messages]
        self.originals |= {id(wrong): (wrong, right) for wrong, right in zip(wrong, messages, strict=True)}
        super().put(wrong, published_at)

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        right: list[Delivery] = []
        for each in map(cast_queued, super()._hand_out(consumer, limit, now)):
            _, original = self.originals.get(id(each.message), (each.message, each.message))
            right.append(QueuedDelivery(original, each.attempt, each.published_at, None, each.order))
            consumer.in_hand[right[-1]] = consumer.in_hand.pop(each)
        return right


@broken("ORD-8")
class NoKeyIsAKey(Rekeys):
    """Messages without a key wait for each other."""

    def rekeyed(self, key: str | None) -> str | None:
        return "none" if key is None else key


@broken("ORD-9")
class EmptyKeyIsNone(Rekeys):
    """Messages with the empty key are in no order."""

    def rekeyed(self, key: str | None) -> str | None:
        return key or None


@broken("ORD-10")
class FoldsCase(Rekeys):
    """Keys that differ only in case are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key.casefold()


@broken("ORD-10")
class NormalisesKeys(Rekeys):
    """Keys that look the same are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and unicodedata.normalize("NFC", key)


@broken("ORD-10")
class CutsKeys(Rekeys):
    """Keys with the same first 1000 characters are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key[:1000]


@broken("ORD-10")
class StopsAtNul(Rekeys):
    """Keys that are the same before a NUL are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key.partition("\0")[0]


@broken("ORD-11")
class TwoInterleavings(KeyedSubscription):
    """The second subscription has the messages of different producers in another order."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put(messages, published_at)
        for queue in self.queues.values():
            if self.name != "main" and queue.first == 0:
                queue.waiting.sort(key=lambda each: each.message.body)


@broken("ORD-12")
class BatchIsOneKey(KeyedSubscription):
    """All that is published together goes where its first message goes."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put([replace(each, key=messages[0].key) for each in messages], published_at)
