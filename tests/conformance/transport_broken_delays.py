"""Broken in-memory brokers: what they do to messages, delays and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, MessageTooLarge
from infinitic_transports.memory import Broker, BrokerConsumer
from tests.conformance.transport_broken import broken


class Alters(Broker):
    """Changes what is published."""

    def altered(self, message: Message, now: float) -> Message:
        raise NotImplementedError

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        super().publish(topic, [self.altered(message, now) for message in messages], now)


@broken("DLY-1")
class ComesEarly(Alters):
    """A message comes half a second before it is due."""

    def altered(self, message: Message, now: float) -> Message:
        return message if message.deliver_at is None else replace(message, deliver_at=message.deliver_at - 0.5)


@broken("DLY-2")
class ComesLate(Alters):
    """A message comes half a second after it is due."""

    def altered(self, message: Message, now: float) -> Message:
        return message if message.deliver_at is None else replace(message, deliver_at=message.deliver_at + 0.5)


@broken("DLY-1", "DLY-4", "DLY-5", "DLY-8")
class KnowsNoDelays(Alters):
    """`deliver_at` is ignored."""

    def altered(self, message: Message, now: float) -> Message:
        return replace(message, deliver_at=None)


@broken("DLY-3")
class PutsOffThePast(Alters):
    """What is due already comes in a second."""

    def altered(self, message: Message, now: float) -> Message:
        return message if message.deliver_at is None else replace(message, deliver_at=max(message.deliver_at, now + 1))


@broken("DLY-4")
class OneDelayForAll(Alters):
    """Whatever is put off comes three seconds later."""

    def altered(self, message: Message, now: float) -> Message:
        return message if message.deliver_at is None else replace(message, deliver_at=now + 3)


@broken("DLY-5")
class PendingBlocks(Alters):
    """What is pending holds its key up."""

    def altered(self, message: Message, now: float) -> Message:
        pending: dict[str | None, float] = self.__dict__.setdefault("pending", {})
        if message.deliver_at is not None:
            pending[message.key] = message.deliver_at
        return replace(message, deliver_at=pending.get(message.key))


@broken("DLY-6")
class DueHasNoKey(Alters):
    """What was put off goes to anybody when it is due."""

    def altered(self, message: Message, now: float) -> Message:
        return message if message.deliver_at is None else replace(message, key=None)


@broken("DLY-8")
class FewPending(Alters):
    """Above a thousand pending messages the next ones are not put off."""

    def altered(self, message: Message, now: float) -> Message:
        self.pending = getattr(self, "pending", 0) + (message.deliver_at is not None)
        return replace(message, deliver_at=None) if self.pending > 1000 else message


@broken("DLY-9")
class NackPutsOffAgain(Broker):
    """A nack of a message that had been put off puts it off once more."""

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, delay: float, now: float) -> None:
        due = delivery.message.deliver_at
        again = 0.0 if due is None else due - delivery.published_at
        super().nack(consumer, delivery, max(delay, again), now)


@broken("RED-1")
class NackKnowsNoDelay(Broker):
    """The delay of a nack is ignored."""

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, delay: float, now: float) -> None:
        super().nack(consumer, delivery, 0.0, now)


@broken("FLO-1")
class KnowsNoPrefetch(Broker):
    """A consumer gets all there is."""

    def attach(
        self, topic: Topic, subscription: str, prefetch: int, wake: Callable[[], None], *, durable: bool = True
    ) -> BrokerConsumer:
        return super().attach(topic, subscription, 1_000_000, wake, durable=durable)


@broken("PAY-1", "PER-8")
class CutsWhatIsTooLarge(Broker):
    """A message that is too large is cut, and nothing is raised."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        try:
            super().publish(topic, messages, now)
        except MessageTooLarge:
            super().publish(topic, [replace(each, body=each.body[: self.max_payload]) for each in messages], now)


@broken("PAY-1")
class DropsTheEmpty(Broker):
    """A message without body is nothing."""

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        super().publish(topic, [message for message in messages if message.body], now)


@broken("PAY-2")
class BodiesAreText(Alters):
    """Bodies are taken for UTF-8."""

    def altered(self, message: Message, now: float) -> Message:
        return replace(message, body=message.body.decode(errors="replace").encode())


@broken("PAY-2")
class TenHeaders(Alters):
    """All headers but ten are dropped."""

    def altered(self, message: Message, now: float) -> Message:
        return replace(message, headers=dict(list(message.headers.items())[:10]))
