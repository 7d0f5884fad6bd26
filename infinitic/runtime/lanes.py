"""Lanes: the messages of a keyed subscription, one queue for each key, processed in batches of keys.

A receiver appends deliveries to the lane of their key; a lane that was empty becomes runnable. A few processors take
many runnable lanes at a time. Messages of one key are never handled at the same time or out of order: a failing one
is tried again in its lane, with backoff, and later ones of its key wait behind it. Nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from infinitic.clock import Clock
from infinitic.errors import InfiniticError
from infinitic.runtime.backoff import delay_of, insist
from infinitic.runtime.wakeup import wake
from infinitic.storage import StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import Consumer, Delivery, TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.runtime")

PROCESSORS = 4
BATCH_LANES = 64
FOLD_MESSAGES = 64
FOLD_BYTES = 1024 * 1024
RECEIVE = 256
BUDGET_SECONDS = 60.0

OUTAGES = (StorageUnavailable, StorageOutcomeUnknown, TransportUnavailable)


class Lane:
    """The deliveries of one key that are in hand, in order, and how its first one fares."""

    __slots__ = ("failed", "failed_since", "failure", "key", "tries", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Delivery] = deque()
        self.tries = 0
        self.failed = False
        self.failed_since: float | None = None
        self.failure: BaseException | None = None

    def fold(self) -> list[Delivery]:
        """The deliveries to handle together: all that wait, within bounds."""
        if len(self.waiting) == 1:
            return [self.waiting[0]]
        folded: list[Delivery] = []
        size = 0
        for delivery in islice(self.waiting, FOLD_MESSAGES):
            size += len(delivery.message.body)
            if folded and size > FOLD_BYTES:
                break
            folded.append(delivery)
        return folded

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled and acknowledged. They are the first ones, or among the first ones."""
        for delivery in deliveries:
            if self.waiting and self.waiting[0] is delivery:
                self.waiting.popleft()
            else:
                self.waiting.remove(delivery)
        self.tries = 0
        self.failed_since = None
        self.failure = None

    def fail(self, error: BaseException, now: float, *, counted: bool) -> None:
        """The first delivery could not be handled now. `counted`: this uses up its budget."""
        self.failed = True
        self.failure = error
        self.tries += 1
        if not counted:
            self.failed_since = None
        elif self.failed_since is None:
            self.failed_since = now

    def exhausted(self, now: float) -> bool:
        """True if the first delivery has been failing for longer than the budget of 60 s."""
        return self.failed_since is not None and now - self.failed_since >= BUDGET_SECONDS


Handler = Callable[[Sequence[Lane]], Awaitable[None]]


class Lanes:
    """Runs a handler over the lanes of one consumer.

    The handler settles or fails each lane that it is given; a lane that it neither settled nor failed is run again.
    `concurrency` bounds how many lanes are in its hands at once.
    """

    def __init__(self, consumer: Consumer, handler: Handler, clock: Clock, concurrency: int) -> None:
        self._consumer = consumer
        self._handler = handler
        self._clock = clock
        self._concurrency = concurrency
        self._lanes: dict[str, Lane] = {}
        self._runnable: deque[Lane] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._backing_off: dict[str, asyncio.TimerHandle] = {}
        self._busy = 0
        self._is_down = False
        self._at_rest: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Receive and process until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(PROCESSORS, self._concurrency)):
                group.create_task(self._process())
            self._receiver = group.create_task(self._receive())

    async def drain(self) -> None:
        """Stop receiving and return once nothing is being processed; lanes that back off are left for others."""
        self._receiver.cancel()
        while self._runnable or self._busy:
            self._at_rest = asyncio.get_running_loop().create_future()
            await self._at_rest
        for handle in self._backing_off.values():
            handle.cancel()

    async def _receive(self) -> None:
        lanes, runnable = self._lanes, self._runnable
        while True:
            try:
                deliveries = await insist("Receiving", lambda: self._consumer.receive(RECEIVE))
            except TransportClosed:
                return
            for delivery in deliveries:
                key = delivery.message.key or ""
                lane = lanes.get(key)
                if lane is None:
                    lane = lanes[key] = Lane(key)
                    runnable.append(lane)
                lane.waiting.append(delivery)
            self._wake()

    def _wake(self) -> None:
        if self._runnable and self._idle:
            wake(self._idle.pop())

    async def _process(self) -> None:
        runnable = self._runnable
        loop = asyncio.get_running_loop()
        while True:
            room = min(BATCH_LANES, self._concurrency - self._busy, len(runnable))
            if room <= 0:
                future: asyncio.Future[None] = loop.create_future()
                self._idle.append(future)
                await future
                continue
            batch = [runnable.popleft() for _ in range(room)]
            self._busy += room
            self._wake()
            try:
                await self._handler(batch)
            finally:
                self._busy -= room
            if self._is_down and not all(lane.failed for lane in batch):
                self._is_down = False
                _logger.warning("Storage and broker work again")
            for lane in batch:
                self._after(lane)
            self._wake()
            if not runnable and not self._busy:
                wake(self._at_rest)

    def _after(self, lane: Lane) -> None:
        if lane.failed and isinstance(lane.failure, TransportClosed):
            lane.waiting.clear()  # this consumer was fenced: what it had in hand is with others, and theirs to handle
        if not lane.waiting:
            del self._lanes[lane.key]
        elif not lane.failed:
            self._runnable.append(lane)
        else:
            lane.failed = False
            delay = delay_of(lane.tries)
            log = _logger.warning if lane.tries == 1 else _logger.debug
            if isinstance(lane.failure, OUTAGES):  # all keys fail then, and it is said once
                log = _logger.debug if self._is_down else _logger.warning
                self._is_down = True
            log(
                "Key %s: %s; trying again in %.1f s",
                lane.key,
                lane.failure,
                delay,
                exc_info=_unexpected(lane.failure),
            )
            loop = asyncio.get_running_loop()
            self._backing_off[lane.key] = loop.call_later(delay, self._resume, lane)

    def _resume(self, lane: Lane) -> None:
        del self._backing_off[lane.key]
        self._runnable.append(lane)
        self._wake()


def _unexpected(error: BaseException | None) -> BaseException | None:
    return None if isinstance(error, InfiniticError) else error
