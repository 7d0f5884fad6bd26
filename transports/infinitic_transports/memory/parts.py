"""The pieces of a subscription of the in-memory broker: deliveries, lanes, consumers, and who is chosen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from infinitic.transport import Delivery

if TYPE_CHECKING:
    from infinitic_transports.memory.subscription import Subscription

_T = TypeVar("_T")

Choose = Callable[[str, int], int]
"""Decides what the contract leaves open: `choose(what, count)` returns an index below `count`.

`what` is "message" (the next of a SHARED subscription), "key" (the next key that nobody holds), "held key"
(the next key that the consumer holds already) or "consumer" (which waiting consumer is woken). It is asked
only if `count` is above 1; index 0 is the oldest. A broker without a `choose` always takes index 0.
"""


class Held(Delivery, frozen=True, eq=False, gc=False):
    """A delivery as the broker keeps it: made when the message joins its queue, and again at each redelivery.

    `order` is the place of the message in a KEYED subscription. Compared by identity: a delivery that was
    handed over is never mistaken for a later one of the same message. It can be in no reference cycle.
    """

    order: int = 0

    def again(self) -> Held:
        """The next delivery of the same message."""
        return Held(self.message, self.attempt + 1, self.published_at, None, self.order)


class Lane(msgspec.Struct, eq=False):
    """The unacknowledged messages of one key, in order. A message without a key has a lane of its own.

    `waiting[head:]` was never handed out, `redo` was and came back: a heap of (order, not before, delivery),
    all of it earlier than what is waiting. `out` counts what is in hand at `holder`. A lane without a holder
    is `queued` to be handed out, or its first message was nacked and is not due yet.
    """

    key: str | None
    waiting: list[Held]
    queued: bool = False
    head: int = 0
    out: int = 0
    holder: Receiver | None = None
    redo: list[tuple[int, float, Held]] | None = None


class State(Enum):
    """Whether a consumer wants messages."""

    IDLE = "idle"
    FULL = "wants, but its prefetch is used up"
    WAITING = "wants, and waits for its turn"
    WOKEN = "was told to take"


class Receiver:
    """A consumer as the broker sees it. Made by `Broker.attach`; its fields are for reading only.

    `in_hand` is what was handed to it and is not settled, in that order, each with its lane. `lanes` are
    those it holds that have more to hand out: a dict for its order, never longer than `in_hand`.
    """

    __slots__ = ("closed", "in_hand", "lanes", "prefetch", "state", "subscription", "wake")

    def __init__(self, subscription: Subscription, prefetch: int, wake: Callable[[], None]) -> None:
        self.subscription = subscription
        self.prefetch = prefetch
        self.wake = wake
        self.in_hand: dict[Delivery, Lane] = {}
        self.lanes: dict[Lane, None] = {}
        self.state = State.IDLE
        self.closed = False


def held(delivery: Delivery) -> Held:
    """The delivery as what it is whenever it was found in a hand."""
    assert isinstance(delivery, Held)
    return delivery


def pick(queue: deque[_T], choose: Choose | None, what: str) -> _T:
    """Remove the one of a queue that is chosen; by default the oldest."""
    if choose is None or len(queue) == 1:
        return queue.popleft()
    index = choose(what, len(queue))
    queue.rotate(-index)
    chosen = queue.popleft()
    queue.rotate(index)
    return chosen
