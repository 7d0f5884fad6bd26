"""The SHARED kind of subscription: each message goes to whoever asks next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from infinitic.transport import Delivery, Message
from infinitic_transports.memory.choice import Choose, pick
from infinitic_transports.memory.subscription import (
    BrokerConsumer,
    BrokerSubscription,
    ConsumerState,
    KeyQueue,
    QueuedDelivery,
    Restore,
    cast_queued,
)


class SharedSubscription(BrokerSubscription):
    """Each message to whoever asks next."""

    __slots__ = ("_queue", "ready")

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.ready: deque[QueuedDelivery] = deque()
        # `in_hand` names a queue for each message; here it is the same one for all.
        self._queue = KeyQueue(None, [])

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        self.ready.extend([QueuedDelivery(message, 1, published_at) for message in messages])
        if self.waiters:
            self.wake_waiters()

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        in_hand = consumer.in_hand
        before = len(in_hand)
        for delivery in deliveries:
            in_hand.pop(delivery, None)
        self.total -= before - len(in_hand)
        if consumer.state is ConsumerState.FULL and len(in_hand) < consumer.prefetch:
            self.wake(consumer)

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Restore | None:
        if consumer.in_hand.pop(delivery, None) is None:
            return None
        again = cast_queued(delivery).again()

        def restore(now: float) -> None:
            self.ready.append(again)
            self.wake_waiters()

        if consumer.state is ConsumerState.FULL:
            self.wake(consumer)
        if due > now:
            return restore
        restore(now)
        return None

    def list_unsettled(self) -> list[QueuedDelivery]:
        in_hand = [cast_queued(delivery) for consumer in self.consumers for delivery in consumer.in_hand]
        return sorted([*in_hand, *self.ready], key=lambda delivery: delivery.published_at)

    def _available(self) -> int:
        return len(self.ready)

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        ready = self.ready
        count = min(limit, self.share(len(ready)))
        taken: list[Delivery] = []
        if self.choose is None:
            taken += [ready.popleft() for _ in range(count)]
        else:
            taken += [pick(ready, self.choose, "message") for _ in range(count)]
        consumer.in_hand.update(dict.fromkeys(taken, self._queue))
        return taken

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        self.ready.extendleft([cast_queued(delivery).again() for delivery in reversed(consumer.in_hand)])
        consumer.in_hand.clear()
