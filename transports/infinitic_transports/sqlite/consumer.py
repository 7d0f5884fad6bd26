"""A consumer: what it has in hand, and the call of `receive` that waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from infinitic.errors import TransportError, UsageError
from infinitic.transport import Consumer, Delivery, TransportClosed
from infinitic_transports.sqlite.claiming import Demand
from infinitic_transports.sqlite.joining import Joined
from infinitic_transports.sqlite.settling import Mark, acknowledge, give_back, leave, list_held
from infinitic_transports.sqlite.turn import Turn

if TYPE_CHECKING:
    from infinitic_transports.sqlite.writer import FileWriter

CLOSE_SECONDS = 5.0
"""Seconds that a consumer waits until what it has in hand is given back. It is in any case."""


class SqliteConsumer(Consumer):
    """A consumer of a subscription. `SqliteTransport.subscribe` makes it.

    Args:
        writer: does what it asks for.
        joined: its number, and that of its subscription.
        keyed: whether the subscription has lanes.
        prefetch: messages in hand at most.
        most_bytes: bytes that it takes at a time at most.
        look: called when it begins to want messages.
        gone: called when it is closed.

    Attributes:
        looked: True if there was nothing for it when somebody looked, and nothing is known to have
            come since.
    """

    __slots__ = (
        "_buffer",
        "_ended",
        "_gone",
        "_in_hand",
        "_joined",
        "_keyed",
        "_look",
        "_most_bytes",
        "_prefetch",
        "_waiter",
        "_wanted",
        "_writer",
        "looked",
    )

    def __init__(
        self,
        writer: FileWriter,
        joined: Joined,
        *,
        keyed: bool,
        prefetch: int,
        most_bytes: int,
        look: Callable[[SqliteConsumer], None],
        gone: Callable[[SqliteConsumer], None],
    ) -> None:
        self._writer = writer
        self._joined = joined
        self._keyed = keyed
        self._prefetch = prefetch
        self._most_bytes = most_bytes
        self._look = look
        self._gone = gone
        # All that it has, also what is in the buffer.
        self._in_hand: dict[Delivery, Mark] = {}
        # What came for a `receive` that was cancelled.
        self._buffer: deque[Delivery] = deque()
        self._waiter: asyncio.Future[list[Delivery]] | None = None
        self._wanted = 0
        self._ended: TransportError | None = None
        self.looked = False

    @property
    def number(self) -> int:
        """Its number in the file."""
        return self._joined.consumer

    @property
    def subscription(self) -> int:
        """The number of its subscription in the file."""
        return self._joined.subscription

    async def receive(self, max_messages: int) -> list[Delivery]:
        """Wait for messages, see `Consumer.receive`.

        Raises:
            UsageError: `max_messages` is below 1, or another `receive` of this consumer is waiting.
        """
        self._check()
        if max_messages < 1:
            raise UsageError(f"max_messages has to be at least 1, not {max_messages}")
        if self._waiter is not None:
            raise UsageError("Another `receive` of this consumer is waiting: call it once at a time")
        if self._buffer:
            return [self._buffer.popleft() for _ in range(min(max_messages, len(self._buffer)))]
        self._wanted = max_messages
        waiter: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self.looked = False
        try:
            self._look(self)
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It came in the same moment.
                self._buffer.extend(waiter.result())
            raise
        finally:
            self._waiter = None

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._check_open()
        in_hand = self._in_hand
        marks = [in_hand.pop(each) for each in dict.fromkeys(deliveries) if each in in_hand]
        if marks:
            self._writer.post(partial(acknowledge, consumer=self.number, marks=marks))
            self._look_if_waiting()

    def find_marks(self, deliveries: Iterable[Delivery]) -> list[Mark]:
        """Find what the deliveries that are in hand are known by in the file."""
        in_hand = self._in_hand
        return [in_hand[each] for each in dict.fromkeys(deliveries) if each in in_hand]

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Have deliveries in hand no longer: the file says that they are acknowledged."""
        for each in deliveries:
            self._in_hand.pop(each, None)
        self._look_if_waiting()

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        self._check_open()
        mark = self._in_hand.pop(delivery, None)
        if mark is None:
            return
        following: list[Mark] = []
        if mark.lane is not None and self._buffer:
            # What is not handed out yet comes behind it.
            behind = [each for each in self._buffer if self._in_hand[each].lane == mark.lane]
            self._buffer = deque(each for each in self._buffer if each not in behind)
            following = [self._in_hand.pop(each) for each in behind]

        def work(turn: Turn) -> None:
            give_back(turn, self.number, mark, turn.now + delay if delay > 0 else None)
            for each in following:
                give_back(turn, self.number, each, None, counts=False)

        self._writer.post(work)
        self._look_if_waiting()

    async def close(self) -> None:
        if self._ended is not None:
            self._gone(self)
            return
        self.end(TransportClosed("This consumer is closed"))
        left = asyncio.Event()

        def work(turn: Turn) -> None:
            leave(turn, self.number)
            turn.then(left.set)

        self._writer.post(work)
        self._writer.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await left.wait()

    def leave(self) -> None:
        """Close it, and wait for nothing."""
        self.end(TransportClosed("This consumer is closed"))
        self._writer.post(partial(leave, consumer=self.number))

    def end(self, error: TransportError) -> None:
        """Raise this error in a `receive` that waits, and in every later call. Idempotent."""
        if self._ended is None:
            self._ended = error
            self._in_hand.clear()
            self._buffer.clear()
            self._gone(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._ended)

    def fail(self, error: TransportError) -> None:
        """Raise this error in a `receive` that waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def find_demand(self, sharers: int) -> Demand | None:
        """Say what it wants now; None: nothing.

        Args:
            sharers: how many consumers the subscription has.
        """
        room = self._prefetch - len(self._in_hand)
        if self._waiter is None or self._waiter.done() or room <= 0:
            return None
        count = min(self._wanted, room)
        return Demand(self.number, self.subscription, self._keyed, count, self._most_bytes, sharers)

    def hand_over(self, deliveries: Sequence[Delivery]) -> None:
        """Take what was claimed for it: the turn is committed."""
        if self._ended is not None:
            return
        for each in deliveries:
            mark = each.token
            assert isinstance(mark, Mark)
            self._in_hand[each] = mark
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(list(deliveries))
        else:
            self._buffer.extend(deliveries)

    def reconcile(self, turn: Turn) -> None:
        """Give back what the file says it has, and it has not: a commit failed, or it did not."""
        known = set(self._in_hand.values())
        for mark in list_held(turn, self.number, self.subscription):
            if mark not in known:
                give_back(turn, self.number, mark, None, counts=False)

    def _look_if_waiting(self) -> None:
        if self._waiter is not None:
            self.looked = False
            self._look(self)

    def _check_open(self) -> None:
        """Check that it may acknowledge. If its topic is gone, it has nothing in hand."""
        self._writer.check()
        if isinstance(self._ended, TransportClosed):
            raise self._ended

    def _check(self) -> None:
        self._writer.check()
        if self._ended is not None:
            raise self._ended
