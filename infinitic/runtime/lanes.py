"""Lanes: the messages of a keyed subscription, one queue for each key, processed in batches of keys.

A receiver appends deliveries to the lane of their key; a lane that was empty becomes runnable. A few processors take
many runnable lanes at a time. Messages of one key are never handled at the same time or out of order: a failing one
is tried again in its lane, with backoff, and later ones of its key wait behind it. Nothing polls.

What is in hand is bounded in number and bytes. Lanes that fail have bounds of their own: they starve no other. At
these bounds the lanes that failed last are given back to the broker, which keeps the order of their keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from operator import is_

import msgspec

from infinitic.clock import Clock
from infinitic.errors import InfiniticError, StorageError, TransportError
from infinitic.runtime.backoff import LONGEST_SECONDS, delay_of
from infinitic.runtime.memory_bounds import DEFAULT_BUFFER_BYTES
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.storage import DamagedState, StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import Delivery, TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.runtime")

PROCESSORS = 4
BATCH_LANES = 64
BATCH_MESSAGES = 64
LANE_BATCH_BYTES = 1024 * 1024
RECEIVE = 256
BUDGET_SECONDS = 60.0
"""For how long a message is tried again that fails by itself. A pause between two tries does not count."""

LONGEST_WAIT_SECONDS = 30.0
"""The longest backoff of a lane that waits for something that this worker lacks: tried sooner, it fails as well."""

TRIES_PER_SECOND = 100
"""How many lanes are tried a second that wait for a repair, as long as that is no longer wait than the longest."""

ACTIVE = 1000
"""Messages in hand of lanes that do not fail."""

FAILING = 20_000
"""Messages in hand of lanes that fail. A broker may stop at 50,000 for a consumer."""

REMEMBERED = 10_000
"""Of how many lanes that were given back it is remembered how they fared."""

PREFETCH = ACTIVE + FAILING

BATCH_BYTES = 4 * 1024 * 1024
"""Bytes that one processor handles at a time, or one message."""

TOLD_ONCE = (StorageUnavailable, StorageOutcomeUnknown, TransportUnavailable)


class InHand:
    """How much is in hand of one kind of lane."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


class Lane(msgspec.Struct, eq=False):
    """The deliveries of one key that are in hand, in order, and how its first one fares.

    Args:
        key: of the messages in this lane.
        account: of which kind it is: there it is counted what this lane has in hand.
        waiting: what is in hand, and counted in the account already.
        bytes: how large that is.
    """

    key: str
    account: InHand = msgspec.field(default_factory=InHand)
    waiting: list[Delivery] = []
    bytes: int = 0
    tries: int = 0
    """How often it has failed since something was settled. At 0 all below is as it is here."""
    failed: bool = False
    failure: BaseException | None = None
    counted: bool = False
    """Whether the last failure used up the budget."""
    spent: float = 0.0
    """Seconds of the budget that are used up."""
    given_back: str = ""
    """The id of its first message when it was given back: how it fared is only told of that one."""
    _last: float | None = None

    def come_again(self, account: InHand, delivery: Delivery) -> None:
        """What was given back comes again: this is the first of it, and counted in the account already."""
        self.account = account
        self.waiting.append(delivery)
        self.bytes = len(delivery.message.body)

    def append(self, delivery: Delivery) -> None:
        """One more delivery, behind the others."""
        self.waiting.append(delivery)
        size, account = len(delivery.message.body), self.account
        self.bytes += size
        account.count += 1
        account.bytes += size

    def take_batch(self) -> list[Delivery]:
        """The deliveries to handle together: all that wait, within bounds; after a failure the first one alone."""
        if self.tries:
            return [self.waiting[0]]
        if self.bytes <= LANE_BATCH_BYTES:
            return self.waiting[:BATCH_MESSAGES]
        batch: list[Delivery] = []
        size = 0
        for delivery in islice(self.waiting, BATCH_MESSAGES):
            size += len(delivery.message.body)
            if batch and size > LANE_BATCH_BYTES:
                break
            batch.append(delivery)
        return batch

    @property
    def next_batch_bytes(self) -> int:
        """About how many bytes `take_batch` has."""
        if self.bytes <= LANE_BATCH_BYTES:
            return self.bytes
        return min(self.bytes, max(LANE_BATCH_BYTES, len(self.waiting[0].message.body)))

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled and acknowledged. They are the first ones, or among the first ones."""
        waiting = self.waiting
        if len(deliveries) == len(waiting):  # as `clear`, which would be one more call for each message
            account = self.account
            account.count -= len(waiting)
            account.bytes -= self.bytes
            waiting.clear()
            self.bytes = 0
        else:
            self.drop(deliveries)
        if self.tries:
            self.tries = 0
            self.spent = 0.0
            self._last = None
            self.failed = False
            self.failure = None

    def drop(self, deliveries: Sequence[Delivery]) -> None:
        """These are acknowledged. How the lane fares stays as it is."""
        waiting, account = self.waiting, self.account
        count = len(deliveries)
        if all(map(is_, waiting, deliveries)):
            del waiting[:count]
        else:
            for delivery in deliveries:
                waiting.remove(delivery)
        size = sum(len(delivery.message.body) for delivery in deliveries)
        self.bytes -= size
        account.count -= count
        account.bytes -= size

    def clear(self) -> None:
        """Nothing of it is in hand any more."""
        self.account.count -= len(self.waiting)
        self.account.bytes -= self.bytes
        self.waiting.clear()
        self.bytes = 0

    def move(self, account: InHand) -> None:
        """From here on it is of this kind."""
        before, self.account = self.account, account
        for each, sign in ((before, -1), (account, 1)):
            each.count += sign * len(self.waiting)
            each.bytes += sign * self.bytes

    def fail(self, error: BaseException, now: float, *, counted: bool) -> None:
        """The first delivery could not be handled now. `counted`: this uses up its budget."""
        if counted and self._last is not None:
            passed = max(0.0, now - self._last)  # the process may have been paused, or the clock been set
            self.spent += min(passed, 2 * delay_of(self.tries))
        self._last = now if counted else None
        self.counted = counted
        self.failed = True
        self.failure = error
        self.tries += 1

    def exhausted(self, now: float) -> bool:
        """True if the first delivery has used up its budget of 60 s, in many tries."""
        return self.spent >= BUDGET_SECONDS or (self._last is not None and self._would_exhaust(now))

    def _would_exhaust(self, now: float) -> bool:
        return self.spent + min(max(0.0, now - (self._last or now)), 2 * delay_of(self.tries)) >= BUDGET_SECONDS


Handler = Callable[[Sequence[Lane]], Awaitable[None]]


class Lanes:
    """Runs a handler over the lanes of one subscription.

    The handler settles or fails each lane that it is given; a lane that it neither settled nor failed is run again.
    `concurrency` bounds how many lanes are in its hands at once, `max_bytes` the bytes in hand of lanes that do not
    fail, and of those that do.
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
        self._given_back: OrderedDict[str, Lane] = OrderedDict()  # how the last of them fared
        self._active = InHand()
        self._failing = InHand()
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._busy = 0
        self._is_down = False
        self._is_lost = False
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
                if lane is None or lane.given_back != message.id:  # another worker has settled that one
                    lane = Lane(key, active, [delivery], length)
                else:
                    lane.come_again(active, delivery)
                lanes[key] = lane
                runnable.append(lane)
                count += 1
                size += length
            active.count += count
            active.bytes += size
            self._wake()

    async def _wait_for_room(self) -> int:
        """How many messages to receive, once there is room for them."""
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
        """Give messages of the lanes that failed last back to the broker, until the others are within bounds.

        They come again later, in order within their key. So other keys go on, and memory stays bounded.
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
            lane.given_back = deliveries[0].message.id
            self._given_back[key] = lane
            if len(self._given_back) > REMEMBERED:
                self._given_back.popitem(last=False)
            delay = max(LONGEST_WAIT_SECONDS, len(self._given_back) / TRIES_PER_SECOND)
            await self._subscription.give_back(deliveries, delay)

    async def _forget_all(self) -> None:
        """The subscription was lost: what was in hand comes again, here or elsewhere."""
        self._is_lost = True
        for handle in self._backing_off.values():
            handle.cancel()
        self._backing_off.clear()
        self._runnable.clear()
        while self._busy:
            self._at_rest = asyncio.get_running_loop().create_future()
            await self._at_rest
        self._runnable.clear()
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
                if lane.tries or lane.account is not active or self._is_lost:
                    self._after(lane)
                elif lane.waiting:
                    runnable.append(lane)
                else:
                    del lanes[lane.key]
            batch.clear()
            if self._room is not None:
                wake(self._room)
            if runnable:
                self._wake()
            elif self._at_rest is not None and not self._busy:
                wake(self._at_rest)

    def _next_batch(self, room: int) -> list[Lane]:
        """The next lanes, up to `room` (1 or more), until they have enough bytes to be handled together."""
        runnable = self._runnable
        if self._active.bytes + self._failing.bytes <= BATCH_BYTES:  # more than that they cannot have
            return [runnable.popleft() for _ in range(room)]
        batch = [runnable.popleft()]
        size = batch[0].next_batch_bytes
        while len(batch) < room and size < BATCH_BYTES:
            batch.append(runnable.popleft())
            size += batch[-1].next_batch_bytes
        return batch

    def _after(self, lane: Lane) -> None:
        """Let a lane go on that fails, or did before."""
        if self._is_lost or (lane.failed and isinstance(lane.failure, TransportClosed)):
            lane.clear()  # this consumer was fenced: what it had in hand is with others, and theirs to handle
        account = self._failing if lane.tries else self._active
        if lane.account is not account:
            lane.move(account)
        if not lane.waiting:
            del self._lanes[lane.key]
        elif not lane.failed:
            self._runnable.append(lane)
        else:
            lane.failed = False
            delay = delay_of(lane.tries, self._longest_wait(lane))
            log = _logger.warning if lane.tries == 1 else _logger.debug
            if isinstance(lane.failure, TOLD_ONCE):  # all keys fail then, and it is said once
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
        forget_frames(lane.failure)

    def _longest_wait(self, lane: Lane) -> float:
        """Seconds. What is down is up again for all at once; of those that wait for a repair each is tried alone."""
        if isinstance(lane.failure, DamagedState):
            return min(LONGEST_WAIT_SECONDS, max(LONGEST_SECONDS, len(self._backing_off) / TRIES_PER_SECOND))
        if lane.counted or isinstance(lane.failure, StorageError | TransportError):
            return LONGEST_SECONDS
        return LONGEST_WAIT_SECONDS

    def _resume(self, lane: Lane) -> None:
        del self._backing_off[lane.key]
        self._runnable.append(lane)
        self._wake()


def _unexpected(error: BaseException | None) -> BaseException | None:
    return None if isinstance(error, InfiniticError) else error


def forget_frames(error: BaseException | None) -> None:
    """Keep what an error says, not the frames it came through: these hold messages, and it is kept for long."""
    seen = 0
    while error is not None and seen < 100:
        error.__traceback__ = None
        error, seen = error.__cause__ or error.__context__, seen + 1
