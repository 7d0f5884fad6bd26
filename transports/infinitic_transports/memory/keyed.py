"""The KEYED kind of subscription: all unsettled messages of a key are with one consumer, in order.

Keys that nobody holds are handed out before more messages of a key that the consumer holds. So a
busy key cannot starve the others. A key whose messages are settled, and that has more of them, goes
to the end of the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from heapq import heappop, heappush

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

_COMPACT_ABOVE = 64
"""How many messages of the front of a list are handed out before that part is cut off."""


class KeyedSubscription(BrokerSubscription):
    """One queue for each key that has unacknowledged messages.

    A queue without a holder is in `ready`, unless it begins with a nacked message that is not due
    yet. A queue with a holder has messages in hand there; it is in `holder.queues` if it has more
    to hand out.
    """

    __slots__ = ("order", "queues", "ready")

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.queues: dict[str, KeyQueue] = {}
        self.ready: deque[KeyQueue] = deque()
        self.order = 0

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        queues = self.queues
        for order, message in enumerate(messages, self.order):
            delivery = QueuedDelivery(message, 1, published_at, None, order)
            key = message.key
            queue = queues.get(key) if key is not None else None
            if queue is None:
                queue = KeyQueue(key, [delivery], True)
                if key is not None:
                    queues[key] = queue
                self.ready.append(queue)
            else:
                queue.waiting.append(delivery)
                if queue.holder is not None and queue.returned is None:
                    self._offer_to(queue.holder, queue)
        self.order += len(messages)
        if self.waiters:
            self.wake_waiters()

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        in_hand = consumer.in_hand
        before = len(in_hand)
        for delivery in deliveries:
            queue = in_hand.pop(delivery, None)
            if queue is None:
                continue
            queue.handed_out -= 1
            if not queue.handed_out:
                self._release(queue, consumer, now)
        self.total -= before - len(in_hand)
        if consumer.state is ConsumerState.FULL and len(in_hand) < consumer.prefetch:
            self.wake(consumer)
        if self.waiters:
            self.wake_waiters()

    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Restore | None:
        queue = consumer.in_hand.pop(delivery, None)
        if queue is None:
            return None
        self._return(queue, cast_queued(delivery), due)
        if queue.handed_out:
            self._offer(queue, now)
        else:
            self._release(queue, consumer, now)
        if consumer.state is ConsumerState.FULL:
            self.wake(consumer)
        self.wake_waiters()
        return partial(self._restore, queue) if due > now else None

    def _restore(self, queue: KeyQueue, now: float) -> None:
        """Offer a queue again, one of whose nacked messages is due."""
        self._offer(queue, now)
        self.wake_waiters()

    def list_unsettled(self) -> list[QueuedDelivery]:
        found = [cast_queued(delivery) for consumer in self.consumers for delivery in consumer.in_hand]
        # A message without a key has a queue that nothing else knows than who may take it.
        queues = dict.fromkeys([*self.queues.values(), *self.ready])
        for queue in queues:
            found += [delivery for _, _, delivery in queue.returned or ()]
            found += queue.waiting[queue.first :]
        return sorted(found, key=lambda delivery: delivery.order)

    def _available(self) -> int:
        return len(self.ready)

    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        taken: list[Delivery] = []
        ready = self.ready
        for _ in range(min(limit, self.share(len(ready)))):
            queue = ready.popleft() if self.choose is None else pick(ready, self.choose, "key")
            queue.offered = False
            queue.holder = consumer
            if len(queue.waiting) == 1 and queue.returned is None and not queue.first:
                # The usual case, without a call: one message.
                delivery = queue.waiting.pop()
                consumer.in_hand[delivery] = queue
                taken.append(delivery)
                queue.handed_out += 1
                limit -= 1
            else:
                limit -= self._hand_over(queue, consumer, limit, taken, now)
            if not limit:
                return taken
        own = consumer.queues
        while limit and own:
            queue = next(iter(own)) if self.choose is None else pick(deque(own), self.choose, "held key")
            del own[queue]
            limit -= self._hand_over(queue, consumer, limit, taken, now)
        return taken

    def _hand_over(
        self, queue: KeyQueue, consumer: BrokerConsumer, limit: int, taken: list[Delivery], now: float
    ) -> int:
        """Hand out up to `limit` messages of a queue; return how many, at least one."""
        in_hand = consumer.in_hand
        waiting = queue.waiting
        count = len(waiting)
        if count <= limit and not queue.first and queue.returned is None:
            # All there is.
            taken += waiting
            for delivery in waiting:
                in_hand[delivery] = queue
            waiting.clear()
            queue.handed_out += count
            return count
        chunk = self._cut(queue, limit, now)
        taken += chunk
        for delivery in chunk:
            in_hand[delivery] = queue
        queue.handed_out += len(chunk)
        if queue.returned or queue.first < len(waiting):
            self._offer(queue, now)
        return len(chunk)

    def _cut(self, queue: KeyQueue, limit: int, now: float) -> list[QueuedDelivery]:
        """Remove up to `limit` messages from the front: returned ones first, then waiting ones."""
        chunk: list[QueuedDelivery] = []
        returned = queue.returned
        while returned and returned[0][1] <= now and len(chunk) < limit:
            chunk.append(heappop(returned)[2])
        if returned:
            return chunk
        queue.returned = None
        waiting = queue.waiting
        start = queue.first
        end = queue.first = min(start + limit - len(chunk), len(waiting))
        chunk += waiting[start:end]
        if end == len(waiting) or (end > _COMPACT_ABOVE and 2 * end > len(waiting)):
            del waiting[:end]
            queue.first = 0
        return chunk

    def _release(self, queue: KeyQueue, consumer: BrokerConsumer, now: float) -> None:
        """Free a queue of which nothing is in hand. It may move, or is forgotten if it is empty."""
        queue.holder = None
        if queue.returned is None and queue.first == len(queue.waiting):
            if queue.key is not None:
                del self.queues[queue.key]
        else:
            consumer.queues.pop(queue, None)
            self._offer(queue, now)

    def _offer(self, queue: KeyQueue, now: float) -> None:
        """Put a queue where its next message can be taken; nowhere while that one is not due."""
        blocked = queue.returned is not None and queue.returned[0][1] > now
        holder = queue.holder
        if holder is None:
            if not blocked and not queue.offered:
                queue.offered = True
                self.ready.append(queue)
        elif blocked:
            holder.queues.pop(queue, None)
        else:
            self._offer_to(holder, queue)

    def _offer_to(self, holder: BrokerConsumer, queue: KeyQueue) -> None:
        """Let the holder of a queue take more of it."""
        holder.queues[queue] = None
        if holder.state is ConsumerState.WAITING:
            self.waiters.remove(holder)
            self.wake(holder)

    def _return(self, queue: KeyQueue, delivery: QueuedDelivery, due: float) -> None:
        """Move a delivery from the hand back into its queue, before all later messages."""
        if queue.returned is None:
            queue.returned = []
        heappush(queue.returned, (delivery.order, due, delivery.again()))
        queue.handed_out -= 1

    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        queues = dict.fromkeys(consumer.in_hand.values())
        for delivery, queue in consumer.in_hand.items():
            self._return(queue, cast_queued(delivery), now)
        consumer.in_hand.clear()
        consumer.queues.clear()
        for queue in reversed(queues):
            queue.holder = None
            if queue.returned and queue.returned[0][1] <= now:
                # Otherwise it waits for an earlier nack that is not due yet.
                queue.offered = True
                self.ready.appendleft(queue)
