"""Broken subscriptions of the in-memory broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from infinitic.transport import Delivery, Message
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import BrokerConsumer, ConsumerState, QueuedDelivery, cast_queued
from tests.conformance.transport_broken import broken

Later = Callable[[float], None] | None


def find_same(consumer: BrokerConsumer, delivery: Delivery) -> list[Delivery]:
    """What is in a hand of the message of a delivery, whichever delivery of it."""
    return [each for each in consumer.in_hand if each.message is delivery.message]


@broken("EXC-1")
class HandsOutTwice(SharedSubscription):
    """A message goes to two consumers at once."""

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        taken = super()._hand_out(consumer, limit, now)
        self.ready.extend(cast_queued(each).again() for each in taken if each.attempt == 1)
        return taken


@broken("EXC-4")
class AllToOne(SharedSubscription):
    """Only the consumer that came first gets anything."""

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        return super()._hand_out(consumer, limit, now) if consumer is next(iter(self.consumers)) else []


@broken("PER-2", "LIF-1")
class CloseLoses(SharedSubscription):
    """What is in hand at a consumer that closes is lost."""

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        self.ack(consumer, list(consumer.in_hand), now)


@broken("DLY-7")
class PutOffDiesWithItsConsumer(SharedSubscription):
    """A nack with a delay is forgotten if its consumer leaves meanwhile."""

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Later:
        restore = super().nack(consumer, delivery, due, now)
        return None if restore is None else lambda now: None if consumer.closed else restore(now)


@broken("RED-1")
class NackLoses(SharedSubscription):
    """The third nack of a message loses it."""

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Later:
        if delivery.attempt < 3:
            return super().nack(consumer, delivery, due, now)
        self.ack(consumer, [delivery], now)
        return None


@broken("RED-2")
class StaleAckCounts(SharedSubscription):
    """The ack of an earlier delivery removes the message that is in hand again."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        super().ack(consumer, [each for delivery in deliveries for each in find_same(consumer, delivery)], now)


@broken("RED-3", "RED-11")
class AttemptsAreForgotten(SharedSubscription):
    """Each redelivery is said to be the first attempt."""

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        for each in list(self.ready):
            self.ready.remove(each)
            self.ready.append(QueuedDelivery(each.message, 1, each.published_at))
        return super()._hand_out(consumer, limit, now)


@broken("RED-7")
class ComesAgainAfterItsAck(SharedSubscription):
    """A nack after the ack brings the message back."""

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Later:
        if delivery in consumer.in_hand:
            return super().nack(consumer, delivery, due, now)
        self.ready.append(cast_queued(delivery).again())
        self.wake_waiters()
        return None


@broken("RED-7")
class SecondAckTakesAnother(SharedSubscription):
    """The second ack of a delivery settles something else that is in hand."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        for each in deliveries:
            other = next(iter(consumer.in_hand), each)
            super().ack(consumer, [each if each in consumer.in_hand else other], now)


class Rewrites(SharedSubscription):
    """Changes a message when it is given back."""

    def rewritten(self, message: Message) -> Message:
        raise NotImplementedError

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Later:
        queue = consumer.in_hand.pop(delivery, None)
        if queue is None:
            return None
        changed = cast_queued(delivery)
        changed = QueuedDelivery(
            self.rewritten(changed.message), changed.attempt, changed.published_at, None, changed.order
        )
        consumer.in_hand[changed] = queue
        return super().nack(consumer, changed, due, now)


@broken("RED-10")
class CutsBodies(Rewrites):
    """The body of a redelivery lacks its end."""

    def rewritten(self, message: Message) -> Message:
        return replace(message, body=message.body[:-1])


@broken("RED-10")
class DropsHeaders(Rewrites):
    """A redelivery has no headers."""

    def rewritten(self, message: Message) -> Message:
        return replace(message, headers={})


@broken("FLO-2")
class AckDoesNotResume(SharedSubscription):
    """A consumer whose hand was full waits on, although it has room again."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        if consumer.state is ConsumerState.FULL:
            consumer.state = ConsumerState.IDLE
        super().ack(consumer, deliveries, now)


@broken("FLO-3")
class OneFullHandStopsAll(SharedSubscription):
    """While one consumer has its hand full, nobody gets anything."""

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        full = any(len(each.in_hand) >= each.prefetch for each in self.consumers)
        return [] if full else super()._hand_out(consumer, limit, now)


@broken("PER-3", "RED-9")
class AcksAreLost(KeyedSubscription):
    """What was acknowledged comes again for the next consumer."""

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        settled = [each for each in deliveries if each in consumer.in_hand]
        super().ack(consumer, settled, now)
        self.lost = [*getattr(self, "lost", []), *(each.message for each in settled)]

    def leave(self, consumer: BrokerConsumer, now: float) -> None:
        super().leave(consumer, now)
        lost, self.lost = getattr(self, "lost", []), []
        self.put(lost, now)
