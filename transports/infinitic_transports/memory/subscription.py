"""One subscription of the in-memory broker: its deliveries, its consumers, and who of them waits.

Pure and synchronous. The two kinds are in `shared` and `keyed`; topics are in `broker`, delayed
messages in `delays`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import msgspec

from infinitic.transport import Delivery, Message, SubscriptionStats
from infinitic_transports.memory.choice import Choose, pick

Restore = Callable[[float], None]
"""Puts a delivery back into its subscription. Its argument is the time of the call."""


class QueuedDelivery(Delivery, frozen=True, eq=False, gc=False):
    """A delivery as the broker keeps it.

    It is made when the message joins its queue, and made anew for each redelivery. Deliveries are
    compared by identity, so that one of yesterday is never mistaken for a later one of the same
    message. It holds nothing that refers to it, so the garbage collector does not have to look at
    it.

    `order` is the place of the message in a KEYED subscription.
    """

    order: int = 0

    def again(self) -> QueuedDelivery:
        """The next delivery of the same message."""
        return QueuedDelivery(self.message, self.attempt + 1, self.published_at, self.token, self.order)


class KeyQueue(msgspec.Struct, eq=False):
    """The unacknowledged messages of one key, in order. A message without a key has its own queue.

    Attributes:
        key: the key; None for a message without one.
        waiting: messages in their order. Those from index `first` on were never handed out.
        offered: whether the queue stands in `ready`, for any consumer to take. A queue without a
            holder that is not offered begins with a nacked message that is not due yet.
        first: see `waiting`.
        handed_out: how many messages are in hand at `holder`.
        holder: the consumer that has all messages in hand; None if none is in hand.
        returned: messages that were handed out and came back, as a heap of (order, not before,
            delivery). All of them are earlier than those that wait. None if there are none.
    """

    key: str | None
    waiting: list[QueuedDelivery]
    offered: bool = False
    first: int = 0
    handed_out: int = 0
    holder: BrokerConsumer | None = None
    returned: list[tuple[int, float, QueuedDelivery]] | None = None


class ConsumerState(Enum):
    """Whether a consumer wants messages."""

    IDLE = "idle"
    FULL = "wants, but its prefetch is used up"
    WAITING = "wants, and waits for its turn"
    WOKEN = "was told to take"


class BrokerConsumer:
    """A consumer as the broker sees it. `Broker.attach` makes it; others only read its attributes.

    Attributes:
        subscription: where it takes messages from.
        prefetch: how many messages it may have in hand.
        wake: called when it is worth its while to take again.
        in_hand: what it was handed and has not settled, oldest first, each with its queue.
        queues: the queues that it holds and that have more to hand out. It is a dict to keep their
            order, and never longer than `in_hand`.
        state: whether it wants messages.
        closed: whether it has left.
    """

    __slots__ = ("closed", "in_hand", "prefetch", "queues", "state", "subscription", "wake")

    def __init__(self, subscription: BrokerSubscription, prefetch: int, wake: Callable[[], None]) -> None:
        self.subscription = subscription
        self.prefetch = prefetch
        self.wake = wake
        self.in_hand: dict[Delivery, KeyQueue] = {}
        self.queues: dict[KeyQueue, None] = {}
        self.state = ConsumerState.IDLE
        self.closed = False


def cast_queued(delivery: Delivery) -> QueuedDelivery:
    """The delivery with its true type: all deliveries in a hand are of it."""
    assert isinstance(delivery, QueuedDelivery)
    return delivery


class BrokerSubscription(ABC):
    """What both kinds have in common: counts, and the consumers that wait and are woken in turn.

    No more consumers are woken than there are messages for. A consumer that takes while others want
    messages as well gets only its share of them.
    """

    __slots__ = (
        "choose",
        "closed",
        "consumers",
        "delayed",
        "durable",
        "name",
        "topic",
        "total",
        "waiters",
        "woken",
    )

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        self.topic = topic
        self.name = name
        self.choose = choose
        self.durable = durable
        self.closed = False
        self.consumers: dict[BrokerConsumer, None] = {}
        self.waiters: deque[BrokerConsumer] = deque()
        self.woken = 0
        # Messages that are not acknowledged, wherever they are. The broker counts what comes in.
        self.total = 0
        # Those of them that are not due yet.
        self.delayed = 0

    @abstractmethod
    def put(self, messages: Sequence[Message], published_at: float) -> None:
        """Append messages to the end of their order.

        Args:
            messages: in this order.
            published_at: when they were published, in seconds since the Unix epoch.
        """

    @abstractmethod
    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery], now: float) -> None:
        """Settle the deliveries that are in hand at the consumer. Others are ignored.

        Args:
            consumer: who has them.
            deliveries: what it settles.
            now: seconds since the Unix epoch.
        """

    @abstractmethod
    def nack(self, consumer: BrokerConsumer, delivery: Delivery, due: float, now: float) -> Restore | None:
        """Take a delivery back.

        Args:
            consumer: who gives it back.
            delivery: what it gives back.
            due: when it may come again, in seconds since the Unix epoch.
            now: the time, likewise.

        Returns:
            What has to be called at `due`, if that is later than `now`; otherwise None.
        """

    @abstractmethod
    def list_unsettled(self) -> list[QueuedDelivery]:
        """List what waits or is in hand, in the order of publishing. It takes nothing.

        What waits for its delay is left out.
        """

    @abstractmethod
    def _available(self) -> int:
        """How many consumers could be given something."""

    @abstractmethod
    def _hand_out(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        """Move up to `limit` (1 or more) messages into the hand of the consumer."""

    @abstractmethod
    def _take_back(self, consumer: BrokerConsumer, now: float) -> None:
        """Empty the hand of the consumer. Each message returns to its place before all new ones."""

    def take(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        """Hand out up to `limit` messages; if there is nothing, the consumer waits for its turn."""
        if consumer.state is not ConsumerState.IDLE:
            self._leave_queue(consumer)
        room = consumer.prefetch - len(consumer.in_hand)
        if room <= 0:
            consumer.state = ConsumerState.FULL
            return []
        taken = self._hand_out(consumer, min(room, limit), now)
        if not taken:
            consumer.state = ConsumerState.WAITING
            self.waiters.append(consumer)
        return taken

    def stop_waiting(self, consumer: BrokerConsumer) -> None:
        """The consumer wants nothing now. What it was woken for goes to the next one."""
        if consumer.state is not ConsumerState.IDLE:
            self._leave_queue(consumer)
            self.wake_waiters()

    def leave(self, consumer: BrokerConsumer, now: float) -> None:
        """Remove the consumer. Others may take what it had in hand."""
        del self.consumers[consumer]
        consumer.closed = True
        waited = consumer.state is not ConsumerState.IDLE
        self._leave_queue(consumer)
        self._take_back(consumer, now)
        self.wake_waiters()
        if waited:
            consumer.wake()

    def end(self) -> None:
        """The topic was removed: wake all consumers that want messages, so that they learn it."""
        self.closed = True
        for consumer in self.consumers:
            if consumer.state is not ConsumerState.IDLE:
                self._leave_queue(consumer)
                consumer.wake()

    def wake_waiters(self) -> None:
        """Wake as many waiting consumers as there are messages for, those woken before included."""
        missing = self._available() - self.woken
        while missing > 0 and self.waiters:
            self.wake(pick(self.waiters, self.choose, "consumer"))
            missing -= 1

    def wake(self, consumer: BrokerConsumer) -> None:
        """Wake a consumer that is in no queue, or was just taken out of it."""
        consumer.state = ConsumerState.WOKEN
        self.woken += 1
        consumer.wake()

    def share(self, count: int) -> int:
        """How many of `count` messages one consumer gets if all that want some get alike."""
        others = self.woken + len(self.waiters)
        return -(-count // (others + 1)) if others else count

    def stats(self) -> SubscriptionStats:
        """Count messages and consumers."""
        unacked = sum(len(consumer.in_hand) for consumer in self.consumers)
        return SubscriptionStats(
            backlog=self.total - self.delayed - unacked,
            unacked=unacked,
            delayed=self.delayed,
            consumers=len(self.consumers),
        )

    def _leave_queue(self, consumer: BrokerConsumer) -> None:
        if consumer.state is ConsumerState.WOKEN:
            self.woken -= 1
        elif consumer.state is ConsumerState.WAITING:
            self.waiters.remove(consumer)
        consumer.state = ConsumerState.IDLE
