"""What a consumer has taken from the library: messages that are ready, in hand, or wait.

It is synchronous and has no clock. The rules of `nack` are kept here, and not by the broker: a
message that is given back stays in this process.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from heapq import heappop, heappush

from infinitic.transport import Delivery, Message
from infinitic_transports.pulsar.client import RawMessageId

REMEMBERED = 10_000
"""How many acknowledged messages are recognised when the broker sends them again."""


class BufferedMessage:
    """One message of the broker that is not settled.

    It keeps the id of the message and not the message of the library, which would keep the body in
    memory a second time.

    Attributes:
        id: what is acknowledged.
        identity: tells the message when the broker sends it again.
        number: counts in the order of arrival.
        size: bytes of the body.
        due: when it is ready, in seconds since the Unix epoch; 0.0 at once.
        waiting: whether it is neither ready nor in hand.
        returned: whether it is ready for a second time.
    """

    __slots__ = ("due", "id", "identity", "number", "returned", "size", "waiting")

    def __init__(self, id: RawMessageId, identity: bytes, number: int, size: int) -> None:
        self.id = id
        self.identity = identity
        self.number = number
        self.size = size
        self.due = 0.0
        self.waiting = False
        self.returned = False


Item = tuple[int, Delivery, BufferedMessage]


class ReceiveBuffer:
    """All messages that one consumer holds.

    A message is *ready* for `take`, or *in hand* until it is settled, or *waiting*. It waits until
    it is due. On a KEYED topic it also waits behind an earlier message of its key that was given
    back.

    Args:
        keyed: whether the topic is KEYED.

    Attributes:
        ready: deliveries that can be taken, in this order.
        in_hand: deliveries that were taken and are not settled.
        known: all messages here, by their identity.
        returned: how many of the ready ones are ready for a second time.
        returned_bytes: bytes of the bodies of these.
        ready_bytes: bytes of the bodies of all ready ones.
        waiting_bytes: bytes of the bodies of those that wait.
    """

    __slots__ = (
        "_delayed",
        "_keyed",
        "_queues",
        "_schedule",
        "_settled",
        "in_hand",
        "known",
        "ready",
        "ready_bytes",
        "returned",
        "returned_bytes",
        "waiting_bytes",
    )

    def __init__(self, *, keyed: bool) -> None:
        self._keyed = keyed
        self.ready: deque[Delivery] = deque()
        self.in_hand: dict[Delivery, BufferedMessage] = {}
        self.known: dict[bytes, BufferedMessage] = {}
        self._queues: dict[str, list[Item]] = {}
        self._schedule: list[tuple[float, int, Delivery]] = []
        self._delayed: set[int] = set()
        self._settled: dict[bytes, None] = {}
        self.returned = 0
        self.returned_bytes = 0
        self.ready_bytes = 0
        self.waiting_bytes = 0

    def add(self, message: Message, buffered: BufferedMessage, attempt: int, published_at: float, due: float) -> None:
        """Add a message. It is ready, unless it is not due yet or waits behind one of its key.

        Args:
            message: what the publisher sent.
            buffered: what the buffer keeps of it.
            attempt: counts from 1.
            published_at: when the broker accepted it, in seconds since the Unix epoch.
            due: when it is due, likewise; 0.0 at once.
        """
        self.known[buffered.identity] = buffered
        delivery = Delivery(message, attempt, published_at, buffered)
        queue = self._queues.get(message.key) if self._keyed and message.key is not None else None
        if queue is not None:
            buffered.due = 0.0
            queue.append((buffered.number, delivery, buffered))
            self._make_wait(buffered)
        elif due:
            self._delay(due, delivery, buffered)
        else:
            self.ready.append(delivery)
            self.ready_bytes += buffered.size

    def take(self, limit: int, limit_bytes: int) -> list[Delivery]:
        """Take ready messages into the hand.

        Args:
            limit: how many at most.
            limit_bytes: bytes of their bodies at which no more is taken.
        """
        ready, in_hand = self.ready, self.in_hand
        taken: list[Delivery] = []
        before = self.ready_bytes
        while ready and len(taken) < limit and before - self.ready_bytes < limit_bytes:
            delivery = ready.popleft()
            buffered = in_hand[delivery] = _get_buffered(delivery)
            self.ready_bytes -= buffered.size
            self._uncount(buffered)
            taken.append(delivery)
        return taken

    def settle(self, delivery: Delivery) -> RawMessageId | None:
        """Settle a delivery. Return the id to acknowledge; None if the delivery is not in hand."""
        buffered = self.in_hand.pop(delivery, None)
        if buffered is None:
            return None
        del self.known[buffered.identity]
        self._settled[buffered.identity] = None
        if len(self._settled) > REMEMBERED:
            del self._settled[next(iter(self._settled))]
        return buffered.id

    def was_settled(self, identity: bytes) -> bool:
        """Whether the message was acknowledged here lately. A lost connection may lose that."""
        return identity in self._settled

    def give_back(self, delivery: Delivery, due: float) -> bool:
        """Take a delivery back. It is ready again when it is due. False if it is not in hand.

        Args:
            delivery: what was taken.
            due: seconds since the Unix epoch; 0.0 at once.
        """
        buffered = self.in_hand.pop(delivery, None)
        if buffered is None:
            return False
        again = Delivery(delivery.message, delivery.attempt + 1, delivery.published_at, buffered)
        key = delivery.message.key
        if not self._keyed or key is None:
            if due:
                self._delay(due, again, buffered)
            else:
                self._make_ready(again, buffered)
            return True
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._withdraw(key)
        buffered.due = due
        self._make_wait(buffered)
        insort(queue, (buffered.number, again, buffered), key=_get_number)
        heappush(self._schedule, (due, buffered.number, again))
        return True

    def find_next_due(self) -> float | None:
        """When `release` has something to do; None if nothing waits for a time."""
        return self._schedule[0][0] if self._schedule else None

    def release(self, now: float) -> None:
        """Make ready what is due at `now`."""
        while self._schedule and self._schedule[0][0] <= now:
            _, number, delivery = heappop(self._schedule)
            if number in self._delayed:
                self._delayed.remove(number)
                self._make_ready(delivery, _get_buffered(delivery))
            else:
                self._release_key(delivery.message.key or "", now)

    @property
    def waiting(self) -> int:
        """How many messages are neither ready nor in hand."""
        return len(self.known) - len(self.ready) - len(self.in_hand)

    def _make_ready(self, delivery: Delivery, buffered: BufferedMessage) -> None:
        if buffered.waiting:
            buffered.waiting = False
            self.waiting_bytes -= buffered.size
        buffered.returned = True
        self.returned += 1
        self.returned_bytes += buffered.size
        self.ready.append(delivery)
        self.ready_bytes += buffered.size

    def _make_wait(self, buffered: BufferedMessage) -> None:
        buffered.waiting = True
        self.waiting_bytes += buffered.size

    def _uncount(self, buffered: BufferedMessage) -> None:
        if buffered.returned:
            buffered.returned = False
            self.returned -= 1
            self.returned_bytes -= buffered.size

    def _delay(self, due: float, delivery: Delivery, buffered: BufferedMessage) -> None:
        self._make_wait(buffered)
        self._delayed.add(buffered.number)
        heappush(self._schedule, (due, buffered.number, delivery))

    def _withdraw(self, key: str) -> list[Item]:
        """Take the ready messages of a key out of `ready`, so that they wait."""
        queue: list[Item] = []
        others: deque[Delivery] = deque()
        for delivery in self.ready:
            buffered = _get_buffered(delivery)
            if delivery.message.key == key:
                self._uncount(buffered)
                self.ready_bytes -= buffered.size
                self._make_wait(buffered)
                buffered.due = 0.0
                insort(queue, (buffered.number, delivery, buffered), key=_get_number)
            else:
                others.append(delivery)
        self.ready = others
        return queue

    def _release_key(self, key: str, now: float) -> None:
        queue = self._queues.get(key)
        if queue is None:
            return
        released = 0
        for _, delivery, buffered in queue:
            if buffered.due > now:
                break
            self._make_ready(delivery, buffered)
            released += 1
        del queue[:released]
        if not queue:
            del self._queues[key]


def _get_buffered(delivery: Delivery) -> BufferedMessage:
    buffered = delivery.token
    assert isinstance(buffered, BufferedMessage)
    return buffered


def _get_number(item: Item) -> int:
    return item[0]
