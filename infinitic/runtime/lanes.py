"""The messages of a keyed subscription: one lane for each key, handled in batches of lanes.

A receiver appends deliveries to the lane of their key. A lane that was empty becomes runnable. A
few processors take many runnable lanes at a time. Messages of one key are never handled at the same
time or out of order: one that fails is tried again in its lane, with backoff, and later ones of its
key wait behind it. Nothing polls.

What is in hand is bounded in number and bytes. Lanes that fail have bounds of their own, so they
cannot starve the others. At these bounds the lanes that failed last are given back to the broker,
which keeps the order of their keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from infinitic.clock import Clock
from infinitic.errors import InfiniticError, StorageError, TransportError
from infinitic.runtime.backoff import LONGEST_SECONDS, compute_delay
from infinitic.runtime.lane import InHand, Lane, forget_frames
from infinitic.runtime.memory_bounds import DEFAULT_BUFFER_BYTES
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.storage import DamagedState, StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.runtime")

PROCESSORS = 4
"""How many batches are handled at once."""

BATCH_LANES = 64
"""How many lanes a batch has at most."""

BATCH_BYTES = 4 * 1024 * 1024
"""How many bytes of messages one processor handles at a time at most; or one message."""

RECEIVE = 256
"""How many messages are received at a time."""

ACTIVE = 1000
"""How many messages are in hand at most of lanes that do not fail."""

FAILING = 20_000
"""How many messages are in hand at most of lanes that fail. A broker may stop at 50,000."""

PREFETCH = ACTIVE + FAILING

LONGEST_WAIT_SECONDS = 30.0
"""The longest backoff of a lane that waits for something that this worker lacks."""

TRIES_PER_SECOND = 100
"""How many lanes that wait for a repair are tried in a second, if they wait no longer for it."""

REMEMBERED = 10_000
"""How many lanes that were given back are kept in memory, to know how they fared."""

TOLD_ONCE = (StorageUnavailable, StorageOutcomeUnknown, TransportUnavailable)
"""Errors that all keys have at the same time. The log says so once."""


Handler = Callable[[Sequence[Lane]], Awaitable[None]]


class Lanes:
    """Runs a handler over the lanes of one subscription.

    Args:
        subscription: where messages come from.
        handler: called with a batch of lanes. It settles or fails each of them. A lane that it
            neither settles nor fails is handled again; one that is suspended, once it is resumed.
        clock: the time of day.
        concurrency: how many lanes are handled at once at most.
        max_bytes: how many bytes of messages are in hand at most, of lanes that do not fail; and as
            many of those that do.
    """

    def __init__(
        self,
        subscription: Subscription,
        handler: Handler,
        clock: Clock,
        concurrency: int,
        max_bytes: int = DEFAULT_BUFFER_BYTES,
    ) -> None:
        self._subscription = subscription
        self._handler = handler
        self._clock = clock
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        self._lanes: dict[str, Lane] = {}
        self._runnable: deque[Lane] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._backing_off: dict[str, asyncio.TimerHandle] = {}
        self._given_back: OrderedDict[str, Lane] = OrderedDict()
        self._active = InHand()
        self._failing = InHand()
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._busy = 0
        self._suspended: dict[str, Lane] = {}
        self._is_down = False
        self._is_lost = False
        self._at_rest: asyncio.Future[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._is_draining = False

    async def run(self) -> None:
        """Receive and process until cancelled. After `drain`, do nothing."""
        if self._is_draining:
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(min(PROCESSORS, self._concurrency)):
                group.create_task(self._process())
            self._receiver = group.create_task(self._receive())

    def count_held(self) -> Mapping[str, int]:
        """Count the lanes, and the messages in them with their bytes."""
        return {
            "lanes": len(self._lanes) + len(self._runnable) + len(self._backing_off),
            "messages": self._active.count + self._failing.count,
            "bytes of messages": self._active.bytes + self._failing.bytes,
        }

    async def drain(self) -> None:
        """Stop receiving, and return once nothing is being handled.

        Lanes that back off are left for others.
        """
        self._is_draining = True
        if self._receiver is not None:  # a worker may be stopped before `run` has begun
            self._receiver.cancel()
        for suspended in list(self._suspended.values()):
            if suspended.under_way is not None:
                suspended.under_way.cut()
        while self._runnable or self._busy or self._suspended:
            self._at_rest = asyncio.get_running_loop().create_future()
            await self._at_rest
        for handle in self._backing_off.values():
            handle.cancel()
        self.abandon()

    def abandon(self) -> None:
        """Abandon what is under way in any lane."""
        for lane in self._lanes.values():
            if lane.under_way is not None:
                lane.under_way.abandon()
                lane.under_way = None

    @property
    def suspended(self) -> int:
        """How many lanes are suspended."""
        return len(self._suspended)

    def resume(self, lane: Lane) -> None:
        """Have a suspended lane be handled again."""
        if self._suspended.pop(lane.key, None) is not None:
            self._runnable.append(lane)
            self._wake()

    async def _receive(self) -> None:
        lanes, runnable, active, given_back = self._lanes, self._runnable, self._active, self._given_back
        while True:
            wanted = await self._wait_for_room()
            deliveries = await self._subscription.receive(wanted)
            if deliveries is None:
                await self._forget_all()
                if not await self._subscription.rejoin():
                    return
                continue
            count = size = 0
            for delivery in deliveries:
                message = delivery.message
                key = message.key or ""
                lane = lanes.get(key)
                if lane is not None:
                    lane.append(delivery)
                    continue
                length = len(message.body)
                lane = given_back.pop(key, None) if given_back else None
                if lane is None or lane.given_back != hash(message.body):  # another worker has settled that one
                    lane = Lane(key, active, [delivery], length)
                else:
                    lane.begin_again(active, delivery)
                lanes[key] = lane
                runnable.append(lane)
                count += 1
                size += length
            active.count += count
            active.bytes += size
            self._wake()

    async def _wait_for_room(self) -> int:
        """Wait until there is room, and return for how many messages."""
        while True:
            active, failing = self._active, self._failing
            room = min(RECEIVE, ACTIVE - active.count, FAILING - failing.count)
            if room > 0 and active.bytes < self._max_bytes and failing.bytes < self._max_bytes:
                if self._is_full and 2 * failing.count < FAILING and 2 * failing.bytes < self._max_bytes:
                    self._is_full = False
                return room
            if self._backing_off and self._is_above() and not self._is_down:  # in an outage all of them fail
                await self._give_back()
                continue
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _is_above(self) -> bool:
        failing = self._failing
        return failing.count >= FAILING or failing.bytes >= self._max_bytes

    async def _give_back(self) -> None:
        """Give messages of the lanes that failed last back to the broker, until the bounds hold.

        They come again later, in order within their key. So other keys go on, and memory stays
        bounded.
        """
        if not self._is_full:
            self._is_full = True
            _logger.error(
                "%s: %d messages (%d bytes) in hand cannot be handled now; the latest are given back, for later: %s",
                self._subscription.topic.name,
                self._failing.count,
                self._failing.bytes,
                next((lane.failure for lane in self._lanes.values() if lane.failure is not None), None),
            )
        while self._backing_off and self._is_above():
            key, handle = self._backing_off.popitem()
            handle.cancel()
            lane = self._lanes.pop(key)
            deliveries = list(lane.waiting)
            lane.clear()
            lane.given_back = hash(deliveries[0].message.body)
            self._given_back[key] = lane
            if len(self._given_back) > REMEMBERED:
                self._given_back.popitem(last=False)
            delay = max(LONGEST_WAIT_SECONDS, len(self._given_back) / TRIES_PER_SECOND)
            await self._subscription.give_back(deliveries, delay)

    async def _forget_all(self) -> None:
        """Forget all lanes, since the subscription was lost. The messages come again somewhere."""
        self._is_lost = True
        for handle in self._backing_off.values():
            handle.cancel()
        self._backing_off.clear()
        self._runnable.clear()
        self.abandon()
        self._suspended.clear()
        while self._busy:
            self._at_rest = asyncio.get_running_loop().create_future()
            await self._at_rest
        self._runnable.clear()
        self.abandon()
        self._suspended.clear()
        self._lanes.clear()
        self._active.count = self._active.bytes = self._failing.count = self._failing.bytes = 0
        self._is_lost = False

    def _wake(self) -> None:
        if self._runnable and self._idle:
            wake(self._idle.pop())

    async def _process(self) -> None:
        lanes, runnable, active = self._lanes, self._runnable, self._active
        loop = asyncio.get_running_loop()
        while True:
            room = min(BATCH_LANES, self._concurrency - self._busy, len(runnable))
            if room <= 0:
                future: asyncio.Future[None] = loop.create_future()
                self._idle.append(future)
                await future
                continue
            batch = self._next_batch(room)
            room = len(batch)
            self._busy += room
            if runnable:
                self._wake()
            try:
                await self._handler(batch)
            finally:
                self._busy -= room
            if self._is_down and not any(lane.failed and isinstance(lane.failure, TOLD_ONCE) for lane in batch):
                self._is_down = False  # also if all of them fail for other reasons
                _logger.warning("Storage and broker work again")
            for lane in batch:
                if lane.under_way is not None and lane.under_way.is_suspended and not self._is_lost:
                    self._suspended[lane.key] = lane
                elif lane.tries or lane.account is not active or self._is_lost:
                    self._go_on(lane)
                elif lane.waiting:
                    runnable.append(lane)
                else:
                    if lane.under_way is not None:
                        lane.clear()
                    del lanes[lane.key]
            batch.clear()
            if self._room is not None:
                wake(self._room)
            if runnable:
                self._wake()
            elif self._at_rest is not None and not self._busy and not self._suspended:
                wake(self._at_rest)

    def _next_batch(self, room: int) -> list[Lane]:
        """Take the next lanes, up to `room` (1 or more), until their bytes make a batch."""
        runnable = self._runnable
        if self._active.bytes + self._failing.bytes <= BATCH_BYTES:  # more than that they cannot have
            return [runnable.popleft() for _ in range(room)]
        batch = [runnable.popleft()]
        size = batch[0].next_batch_bytes
        while len(batch) < room and size < BATCH_BYTES:
            batch.append(runnable.popleft())
            size += batch[-1].next_batch_bytes
        return batch

    def _go_on(self, lane: Lane) -> None:
        """Decide what to do next with a lane that fails, or has failed before."""
        if self._is_lost or (lane.failed and isinstance(lane.failure, TransportClosed)):
            # This consumer was fenced: what it had in hand is with others, and theirs to handle.
            lane.clear()
        account = self._failing if lane.tries else self._active
        if lane.account is not account:
            lane.move(account)
        if not lane.waiting:
            # Its messages may have gone to the dead letters: what is under way for them ends, too.
            lane.clear()
            del self._lanes[lane.key]
        elif not lane.failed:
            self._runnable.append(lane)
        else:
            lane.failed = False
            delay = compute_delay(lane.tries, self._longest_wait(lane))
            log = _logger.warning if lane.tries == 1 else _logger.debug
            if isinstance(lane.failure, TOLD_ONCE):  # all keys fail then, and it is said once
                log = _logger.debug if self._is_down else _logger.warning
                self._is_down = True
            log(
                "Key %s: %s; trying again in %.1f s",
                lane.key,
                lane.failure,
                delay,
                exc_info=_find_unexpected(lane.failure),
            )
            loop = asyncio.get_running_loop()
            self._backing_off[lane.key] = loop.call_later(delay, self._resume, lane)
        forget_frames(lane.failure)

    def _longest_wait(self, lane: Lane) -> float:
        """The longest backoff of a lane, in seconds.

        What is down comes back for all lanes at once. What waits for a repair is tried one by one.
        """
        if isinstance(lane.failure, DamagedState):
            return min(LONGEST_WAIT_SECONDS, max(LONGEST_SECONDS, len(self._backing_off) / TRIES_PER_SECOND))
        if lane.counted or isinstance(lane.failure, StorageError | TransportError):
            return LONGEST_SECONDS
        return LONGEST_WAIT_SECONDS

    def _resume(self, lane: Lane) -> None:
        del self._backing_off[lane.key]
        self._runnable.append(lane)
        self._wake()


def _find_unexpected(error: BaseException | None) -> BaseException | None:
    return None if isinstance(error, InfiniticError) else error
