"""Events that wait for a listener, and the batches that are made of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from infinitic.runtime.wakeup import wake
from infinitic.transport import Delivery

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


class Received(msgspec.Struct, eq=False):
    """A message with events, in hand.

    Attributes:
        source: the name of the topic that it came from.
        delivery: the message.
        events: those that matter, in order.
        handed: how many of them were handed over.
    """

    source: str
    delivery: Delivery
    events: Sequence[CloudEvent]
    handed: int = 0


class EventBatch(msgspec.Struct, frozen=True, eq=False):
    """What a listener is called with.

    Attributes:
        events: in order.
        done: the messages of which no event is left when these are handed over.
    """

    events: list[CloudEvent]
    done: Sequence[Received]


class EventBuffer:
    """Events in hand, from all topics of a listener.

    A message with more events than fit into a batch goes into several ones.

    Args:
        max_events: how many events a batch has at most.
        max_seconds: how long an event waits for others, in seconds.

    Attributes:
        count: how many events wait.
    """

    def __init__(self, max_events: int, max_seconds: float) -> None:
        self.count = 0
        self._max_events = max_events
        self._max_seconds = max_seconds
        self._waiting: deque[Received] = deque()
        self._since = 0.0
        self._added: asyncio.Future[None] | None = None
        self._taken: list[asyncio.Future[None]] = []
        self._is_ending = False

    def end(self) -> None:
        """Wait for nothing more: what is here is all that there will be."""
        self._is_ending = True
        wake(self._added)

    def add(self, received: Received) -> None:
        """Add a message that has events."""
        if not self.count:
            self._since = asyncio.get_running_loop().time()
        self._waiting.append(received)
        self.count += len(received.events)
        wake(self._added)

    def discard(self, source: str) -> None:
        """Forget the messages of a topic whose consumer is lost: they come again."""
        self._waiting = deque(each for each in self._waiting if each.source != source)
        self.count = sum(len(each.events) - each.handed for each in self._waiting)
        self._tell_taken()

    async def wait_for_room(self) -> None:
        """Wait until less than one batch waits."""
        while self.count >= self._max_events:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._taken.append(room)
            await room

    async def wait_for_batch(self) -> None:
        """Wait until a batch is full, or the first of its events has waited for long enough."""
        loop = asyncio.get_running_loop()
        while not self.count and not self._is_ending:
            self._added = loop.create_future()
            await self._added
        due = self._since + self._max_seconds
        while 0 < self.count < self._max_events and loop.time() < due and not self._is_ending:
            added = self._added = loop.create_future()
            timer = loop.call_at(due, wake, added)
            try:
                await added
            finally:
                timer.cancel()

    def take(self) -> EventBatch:
        """Take the next batch. It is empty if nothing waits."""
        events: list[CloudEvent] = []
        done: list[Received] = []
        while self._waiting and len(events) < self._max_events:
            first = self._waiting[0]
            part = first.events[first.handed : first.handed + self._max_events - len(events)]
            events += part
            first.handed += len(part)
            if first.handed == len(first.events):
                done.append(self._waiting.popleft())
        self.count -= len(events)
        self._since = asyncio.get_running_loop().time()
        self._tell_taken()
        return EventBatch(events, done)

    def _tell_taken(self) -> None:
        if self.count < self._max_events:
            taken, self._taken = self._taken, []
            for each in taken:
                wake(each)
