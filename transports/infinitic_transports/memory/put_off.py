"""What the in-memory broker has put off: messages with a later `deliver_at`, and nacked deliveries with a
delay.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

import msgspec

from infinitic.transport import Message
from infinitic_transports.memory.subscription import Subscription


class _Later(msgspec.Struct, frozen=True):
    """A message, and the subscriptions it is for: those there were when it was published."""

    subscriptions: tuple[Subscription, ...]
    message: Message
    published_at: float

    def happen(self, now: float) -> None:
        for subscription in self.subscriptions:
            subscription.delayed -= 1
            subscription.put((self.message,), self.published_at)

    def is_obsolete(self) -> bool:
        return all(subscription.closed for subscription in self.subscriptions)


class _Again(msgspec.Struct, frozen=True):
    """A nacked delivery: `restore` puts it back into its subscription."""

    subscription: Subscription
    restore: Callable[[float], None]

    def happen(self, now: float) -> None:
        self.subscription.delayed -= 1
        self.restore(now)

    def is_obsolete(self) -> bool:
        return self.subscription.closed


class PutOff:
    """A heap by due time, then by the order of putting off."""

    __slots__ = ("_sequence", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, _Later | _Again]] = []
        self._sequence = 0

    def message(
        self, due: float, subscriptions: tuple[Subscription, ...], message: Message, published_at: float
    ) -> None:
        """Put a message off until `due` (seconds since the Unix epoch)."""
        for subscription in subscriptions:
            subscription.delayed += 1
        self._push(due, _Later(subscriptions, message, published_at))

    def delivery(self, due: float, subscription: Subscription, restore: Callable[[float], None]) -> None:
        """Put a nacked delivery off until `due`; it comes back by `restore(now)`."""
        subscription.delayed += 1
        self._push(due, _Again(subscription, restore))

    def next_due(self) -> float | None:
        """When the earliest is due; None if there is nothing."""
        return self.heap[0][0] if self.heap else None

    def release(self, now: float) -> None:
        """Let all that is due join its queue, in the order of due times, then of putting off."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            heappop(heap)[2].happen(now)

    def discard_obsolete(self) -> None:
        """Forget what is for closed subscriptions only."""
        self.heap = [item for item in self.heap if not item[2].is_obsolete()]
        heapify(self.heap)

    def _push(self, due: float, what: _Later | _Again) -> None:
        self._sequence += 1
        heappush(self.heap, (due, self._sequence, what))
