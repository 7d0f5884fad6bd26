"""What the in-memory broker delivers later: delayed messages, and delayed redeliveries."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import msgspec

from infinitic.transport import Message
from infinitic_transports.memory.subscription import BrokerSubscription, Restore


class _DelayedMessage(msgspec.Struct, frozen=True):
    """A message, and the subscriptions that existed when it was published: it is for them."""

    subscriptions: tuple[BrokerSubscription, ...]
    message: Message
    published_at: float

    def release(self, now: float) -> None:
        for subscription in self.subscriptions:
            subscription.delayed -= 1
            subscription.put((self.message,), self.published_at)

    def is_obsolete(self) -> bool:
        return all(subscription.closed for subscription in self.subscriptions)


class _DelayedRedelivery(msgspec.Struct, frozen=True):
    """A nacked delivery: `restore` puts it back into its subscription."""

    subscription: BrokerSubscription
    restore: Restore

    def release(self, now: float) -> None:
        self.subscription.delayed -= 1
        self.restore(now)

    def is_obsolete(self) -> bool:
        return self.subscription.closed


class DelayQueue:
    """A heap, ordered by due time (seconds since the Unix epoch), then by the order of adding."""

    __slots__ = ("_sequence", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, _DelayedMessage | _DelayedRedelivery]] = []
        self._sequence = 0

    def add_message(
        self, due: float, subscriptions: tuple[BrokerSubscription, ...], message: Message, published_at: float
    ) -> None:
        """Keep a message back until it is due.

        Args:
            due: when, in seconds since the Unix epoch.
            subscriptions: those that it is for.
            message: the message.
            published_at: when it was published, in seconds since the Unix epoch.
        """
        for subscription in subscriptions:
            subscription.delayed += 1
        self._push(due, _DelayedMessage(subscriptions, message, published_at))

    def add_redelivery(self, due: float, subscription: BrokerSubscription, restore: Restore) -> None:
        """Keep a nacked delivery back until it is due.

        Args:
            due: when, in seconds since the Unix epoch.
            subscription: where it returns to.
            restore: returns it, at the time that it is called with.
        """
        subscription.delayed += 1
        self._push(due, _DelayedRedelivery(subscription, restore))

    def find_next_due(self) -> float | None:
        """When the earliest is due; None if there is nothing."""
        return self.heap[0][0] if self.heap else None

    def release(self, now: float) -> None:
        """Let all that is due by `now` join its queue, in the order of due times."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            heappop(heap)[2].release(now)

    def discard_obsolete(self) -> None:
        """Forget what is for closed subscriptions only."""
        self.heap = [item for item in self.heap if not item[2].is_obsolete()]
        heapify(self.heap)

    def _push(self, due: float, what: _DelayedMessage | _DelayedRedelivery) -> None:
        self._sequence += 1
        heappush(self.heap, (due, self._sequence, what))
