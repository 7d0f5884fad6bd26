"""One subscription of the in-memory broker: who waits for messages, and the SHARED kind of handing them out.

Pure and synchronous. The KEYED kind is in `keyed`; topics and delayed messages are the business of `broker`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from infinitic.transport import Delivery, Message, SubscriptionStats
from infinitic_transports.memory.parts import Choose, Held, Lane, Receiver, State, held, pick


class Subscription(ABC):
    """What both kinds have in common: counts, and the consumers that wait, woken in turn.

    No more consumers are woken than there is something to take for. One that takes while others want messages
    too takes only its share of what is there.
    """

    __slots__ = (
        "choose",
        "closed",
        "delayed",
        "durable",
        "name",
        "receivers",
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
        self.receivers: dict[Receiver, None] = {}
        self.waiters: deque[Receiver] = deque()
        self.woken = 0
        self.total = 0  # not acknowledged, wherever it is; the broker counts what comes in
        self.delayed = 0  # of these, not due yet

    @abstractmethod
    def put(self, messages: Sequence[Message], published_at: float) -> None:
        """Append messages to the end of their order."""

    @abstractmethod
    def ack(self, receiver: Receiver, deliveries: Iterable[Delivery], now: float) -> None:
        """Forget deliveries that are in hand at the receiver; the others are ignored."""

    @abstractmethod
    def nack(self, receiver: Receiver, delivery: Delivery, due: float, now: float) -> Callable[[float], None] | None:
        """Take a delivery back. Returns what must be called at `due` if that is later than `now`."""

    @abstractmethod
    def _available(self) -> int:
        """How many consumers could be given something."""

    @abstractmethod
    def _hand_out(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        """Move up to `limit` (1 or more) messages into the hand of the receiver."""

    @abstractmethod
    def _take_back(self, receiver: Receiver, now: float) -> None:
        """Empty the hand of the receiver: each message to its place, before all that was never handed out."""

    def take(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        """Hand out up to `limit` messages; if there is nothing, the receiver waits for its turn."""
        if receiver.state is not State.IDLE:
            self._leave_queue(receiver)
        room = receiver.prefetch - len(receiver.in_hand)
        if room <= 0:
            receiver.state = State.FULL
            return []
        taken = self._hand_out(receiver, min(room, limit), now)
        if not taken:
            receiver.state = State.WAITING
            self.waiters.append(receiver)
        return taken

    def stop_waiting(self, receiver: Receiver) -> None:
        """The receiver wants nothing any more; what it was woken for goes to the next one."""
        if receiver.state is not State.IDLE:
            self._leave_queue(receiver)
            self.rouse()

    def leave(self, receiver: Receiver, now: float) -> None:
        """Remove the receiver; what it had in hand is there for the others."""
        del self.receivers[receiver]
        receiver.closed = True
        waited = receiver.state is not State.IDLE
        self._leave_queue(receiver)
        self._take_back(receiver, now)
        self.rouse()
        if waited:
            receiver.wake()

    def end(self) -> None:
        """The topic is removed: nothing comes any more, and all that wait or want are told."""
        self.closed = True
        for receiver in self.receivers:
            if receiver.state is not State.IDLE:
                self._leave_queue(receiver)
                receiver.wake()

    def rouse(self) -> None:
        """Wake as many of those that wait as there is something for, beyond those woken already."""
        missing = self._available() - self.woken
        while missing > 0 and self.waiters:
            self.call(pick(self.waiters, self.choose, "consumer"))
            missing -= 1

    def call(self, receiver: Receiver) -> None:
        """Wake a receiver that is in no queue, or was just taken out of it."""
        receiver.state = State.WOKEN
        self.woken += 1
        receiver.wake()

    def share(self, count: int) -> int:
        """How much of `count` is for one of the receivers that want something now, this one included."""
        others = self.woken + len(self.waiters)
        return -(-count // (others + 1)) if others else count

    def stats(self) -> SubscriptionStats:
        """Count messages and consumers."""
        unacked = sum(len(receiver.in_hand) for receiver in self.receivers)
        return SubscriptionStats(
            backlog=self.total - self.delayed - unacked,
            unacked=unacked,
            delayed=self.delayed,
            consumers=len(self.receivers),
        )

    def _leave_queue(self, receiver: Receiver) -> None:
        if receiver.state is State.WOKEN:
            self.woken -= 1
        elif receiver.state is State.WAITING:
            self.waiters.remove(receiver)
        receiver.state = State.IDLE


class SharedSubscription(Subscription):
    """Each message to whoever asks next."""

    __slots__ = ("_lane", "ready")

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.ready: deque[Held] = deque()
        self._lane = Lane(None, [])  # what `in_hand` says of every message here

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        for message in messages:
            self.ready.append(Held(message, 1, published_at))
        if self.waiters:
            self.rouse()

    def ack(self, receiver: Receiver, deliveries: Iterable[Delivery], now: float) -> None:
        in_hand = receiver.in_hand
        before = len(in_hand)
        for delivery in deliveries:
            in_hand.pop(delivery, None)
        self.total -= before - len(in_hand)
        if receiver.state is State.FULL and len(in_hand) < receiver.prefetch:
            self.call(receiver)

    def nack(self, receiver: Receiver, delivery: Delivery, due: float, now: float) -> Callable[[float], None] | None:
        if receiver.in_hand.pop(delivery, None) is None:
            return None
        again = held(delivery).again()

        def restore(now: float) -> None:
            self.ready.append(again)
            self.rouse()

        if receiver.state is State.FULL:
            self.call(receiver)
        if due > now:
            return restore
        restore(now)
        return None

    def _available(self) -> int:
        return len(self.ready)

    def _hand_out(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        ready = self.ready
        count = min(limit, self.share(len(ready)))
        taken: list[Delivery] = []
        for _ in range(count):
            delivery = ready.popleft() if self.choose is None else pick(ready, self.choose, "message")
            receiver.in_hand[delivery] = self._lane
            taken.append(delivery)
        return taken

    def _take_back(self, receiver: Receiver, now: float) -> None:
        self.ready.extendleft([held(delivery).again() for delivery in reversed(receiver.in_hand)])
        receiver.in_hand.clear()
