"""What a consumer has taken from the library, and where it stands: ready, in hand, or put off.

Synchronous and without clock. The rules of `nack` are kept here: what is given back is not the broker's business.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from heapq import heappop, heappush

from infinitic.transport import Delivery, Message
from infinitic_transports.pulsar.client import RawMessageId

REMEMBERED = 10_000
"""Acknowledged messages that are recognised if the broker sends them once more."""


class Held:
    """One message of the broker that is not settled.

    `id` is what is acknowledged: the library's message would keep its body in memory a second time. `number` counts
    in the order of arrival, `size` is of the body, in bytes.
    """

    __slots__ = ("due", "id", "identity", "number", "parked", "returned", "size")

    def __init__(self, id: RawMessageId, identity: bytes, number: int, size: int) -> None:
        self.id = id
        self.identity = identity
        self.number = number
        self.size = size
        self.due = 0.0
        self.parked = False  # it is neither ready nor in hand
        self.returned = False  # it is ready once more


Item = tuple[int, Delivery, Held]


class Shelf:
    """All that one consumer holds. KEYED: behind a message that was given back wait the later ones of its key.

    `ready_bytes` and `parked_bytes` are of the bodies that are ready, and of those neither ready nor in hand;
    `returned_bytes` are part of the former, as `returned` counts part of what is ready.
    """

    __slots__ = (
        "_keyed",
        "_lanes",
        "_later",
        "_put_off",
        "_settled",
        "in_hand",
        "known",
        "parked_bytes",
        "ready",
        "ready_bytes",
        "returned",
        "returned_bytes",
    )

    def __init__(self, *, keyed: bool) -> None:
        self._keyed = keyed
        self.ready: deque[Delivery] = deque()
        self.in_hand: dict[Delivery, Held] = {}
        self.known: dict[bytes, Held] = {}
        self._lanes: dict[str, list[Item]] = {}
        self._later: list[tuple[float, int, Delivery]] = []
        self._put_off: set[int] = set()
        self._settled: dict[bytes, None] = {}
        self.returned = 0  # of the ready ones, those that were given back or put off
        self.returned_bytes = 0
        self.ready_bytes = 0
        self.parked_bytes = 0

    def arrive(self, message: Message, held: Held, attempt: int, published_at: float, due: float) -> None:
        """A message came. It is ready unless it is not due yet, or waits behind one of its key."""
        self.known[held.identity] = held
        delivery = Delivery(message, attempt, published_at, held)
        lane = self._lanes.get(message.key) if self._keyed and message.key is not None else None
        if lane is not None:
            held.due = 0.0
            lane.append((held.number, delivery, held))
            self._park(held)
        elif due:
            self._put(due, delivery, held)
        else:
            self.ready.append(delivery)
            self.ready_bytes += held.size

    def take(self, limit: int, limit_bytes: int) -> list[Delivery]:
        """Up to `limit` of what is ready, or until their bodies have `limit_bytes`; it is in hand then."""
        ready, in_hand = self.ready, self.in_hand
        taken: list[Delivery] = []
        before = self.ready_bytes
        while ready and len(taken) < limit and before - self.ready_bytes < limit_bytes:
            delivery = ready.popleft()
            held = in_hand[delivery] = _held(delivery)
            self.ready_bytes -= held.size
            self._gone(held)
            taken.append(delivery)
        return taken

    def settle(self, delivery: Delivery) -> RawMessageId | None:
        """A delivery is acknowledged. None if it is not in hand."""
        held = self.in_hand.pop(delivery, None)
        if held is None:
            return None
        del self.known[held.identity]
        self._settled[held.identity] = None
        if len(self._settled) > REMEMBERED:
            del self._settled[next(iter(self._settled))]
        return held.id

    def was_settled(self, identity: bytes) -> bool:
        """Whether it was acknowledged here lately: a lost connection may have swallowed that."""
        return identity in self._settled

    def give_back(self, delivery: Delivery, due: float) -> bool:
        """A delivery is not handled: it is ready again when due. False if it is not in hand."""
        held = self.in_hand.pop(delivery, None)
        if held is None:
            return False
        again = Delivery(delivery.message, delivery.attempt + 1, delivery.published_at, held)
        key = delivery.message.key
        if not self._keyed or key is None:
            if due:
                self._put(due, again, held)
            else:
                self._return(again, held)
            return True
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._recall(key)
        held.due = due
        self._park(held)
        insort(lane, (held.number, again, held), key=_number)
        heappush(self._later, (due, held.number, again))
        return True

    def next_due(self) -> float | None:
        """When `release` has something to do."""
        return self._later[0][0] if self._later else None

    def release(self, now: float) -> None:
        """What is due becomes ready."""
        while self._later and self._later[0][0] <= now:
            _, number, delivery = heappop(self._later)
            if number in self._put_off:
                self._put_off.remove(number)
                self._return(delivery, _held(delivery))
            else:
                self._release_lane(delivery.message.key or "", now)

    @property
    def parked(self) -> int:
        """How many are neither ready nor in hand."""
        return len(self.known) - len(self.ready) - len(self.in_hand)

    def _return(self, delivery: Delivery, held: Held) -> None:
        if held.parked:
            held.parked = False
            self.parked_bytes -= held.size
        held.returned = True
        self.returned += 1
        self.returned_bytes += held.size
        self.ready.append(delivery)
        self.ready_bytes += held.size

    def _park(self, held: Held) -> None:
        held.parked = True
        self.parked_bytes += held.size

    def _gone(self, held: Held) -> None:
        if held.returned:
            held.returned = False
            self.returned -= 1
            self.returned_bytes -= held.size

    def _put(self, due: float, delivery: Delivery, held: Held) -> None:
        self._park(held)
        self._put_off.add(held.number)
        heappush(self._later, (due, held.number, delivery))

    def _recall(self, key: str) -> list[Item]:
        """The messages of a key that are ready and not handed out: they wait now."""
        lane: list[Item] = []
        others: deque[Delivery] = deque()
        for delivery in self.ready:
            held = _held(delivery)
            if delivery.message.key == key:
                self._gone(held)
                self.ready_bytes -= held.size
                self._park(held)
                held.due = 0.0
                insort(lane, (held.number, delivery, held), key=_number)
            else:
                others.append(delivery)
        self.ready = others
        return lane

    def _release_lane(self, key: str, now: float) -> None:
        lane = self._lanes.get(key)
        if lane is None:
            return
        released = 0
        for _, delivery, held in lane:
            if held.due > now:
                break
            self._return(delivery, held)
            released += 1
        del lane[:released]
        if not lane:
            del self._lanes[key]


def _held(delivery: Delivery) -> Held:
    held = delivery.token
    assert isinstance(held, Held)
    return held


def _number(item: Item) -> int:
    return item[0]
