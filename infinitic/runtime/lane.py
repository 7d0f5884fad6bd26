"""One lane: the messages of one key that are in hand, in order, and how the first of them fares."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import is_
from typing import Protocol

import msgspec

from infinitic.runtime.backoff import compute_delay
from infinitic.transport import Delivery

BATCH_MESSAGES = 64
"""How many messages of a lane are handled together at most."""

LANE_BATCH_BYTES = 1024 * 1024
"""How many bytes of messages of a lane are handled together at most; or one message."""

BUDGET_SECONDS = 60.0
"""For how long a message is tried again that fails by itself. A pause does not count."""


class UnderWay(Protocol):
    """What a lane keeps while its first messages take longer than one call of the handler."""

    is_suspended: bool
    """True while nothing can be done for the lane until `Lanes.resume` is called for it."""

    def note_input(self) -> object:
        """Note that another message has come: it must not wait for long."""
        ...

    def cut(self) -> object:
        """Have it come to an end soon: the worker ends."""
        ...

    def abandon(self) -> object:
        """End it now, without a result: the messages of the lane are for others."""
        ...


class InHand:
    """How many messages, and how many bytes of them, are in hand of one kind of lane."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


class Lane(msgspec.Struct, eq=False):
    """The deliveries of one key that are in hand, in order, and how the first of them fares.

    Attributes:
        key: the key of the messages.
        account: the kind of lane that it is. What is in hand here is counted there.
        waiting: the deliveries, which are counted already.
        bytes: how many bytes the bodies of these messages have.
        tries: how often it has failed since something was settled. At 0 all below is as it is here.
        failed: whether it has failed, and nobody has looked after that yet.
        failure: why it failed last.
        counted: whether the last failure used up some of the budget.
        spent: seconds of the budget of its first message that are used up.
        given_back: the hash of its first message, if that was given back to the broker. How the
            lane fared is only true of that one. (Its id may be that of many messages of its key.)
        under_way: what takes longer for its first messages, or was done for them already; None:
            nothing is.
    """

    key: str
    account: InHand = msgspec.field(default_factory=InHand)
    waiting: list[Delivery] = []
    bytes: int = 0
    tries: int = 0
    failed: bool = False
    failure: BaseException | None = None
    counted: bool = False
    spent: float = 0.0
    given_back: int = 0
    under_way: UnderWay | None = None
    _last: float | None = None

    def begin_again(self, account: InHand, delivery: Delivery) -> None:
        """Begin with the first message that was given back and comes again.

        Args:
            account: where this message is counted already.
            delivery: the message.
        """
        self.account = account
        self.waiting.append(delivery)
        self.bytes = len(delivery.message.body)

    def append(self, delivery: Delivery) -> None:
        """Add a delivery behind the others."""
        self.waiting.append(delivery)
        size, account = len(delivery.message.body), self.account
        self.bytes += size
        account.count += 1
        account.bytes += size
        if self.under_way is not None:
            self.under_way.note_input()

    def take_batch(self, most: int = BATCH_MESSAGES) -> list[Delivery]:
        """Take the deliveries to handle together: all that wait, within bounds.

        They stay in the lane.

        After a failure it is the first one alone, so that it cannot spoil the others.

        Args:
            most: how many at most.
        """
        if self.tries:
            return [self.waiting[0]]
        if self.bytes <= LANE_BATCH_BYTES:
            return self.waiting[:most]
        batch: list[Delivery] = []
        size = 0
        for delivery in islice(self.waiting, most):
            size += len(delivery.message.body)
            if batch and size > LANE_BATCH_BYTES:
                break
            batch.append(delivery)
        return batch

    @property
    def next_batch_bytes(self) -> int:
        """About how many bytes `take_batch` would take."""
        if self.bytes <= LANE_BATCH_BYTES:
            return self.bytes
        return min(self.bytes, max(LANE_BATCH_BYTES, len(self.waiting[0].message.body)))

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Remove deliveries that are handled and acknowledged, and forget how the lane has fared.

        Args:
            deliveries: the first ones, or some of the first ones.
        """
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
        """Remove deliveries that are acknowledged. How the lane fares stays as it is."""
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
        """Remove all deliveries: none of them is in hand any more."""
        if self.under_way is not None:
            self.under_way.abandon()
            self.under_way = None
        self.account.count -= len(self.waiting)
        self.account.bytes -= self.bytes
        self.waiting.clear()
        self.bytes = 0

    def move(self, account: InHand) -> None:
        """Make it a lane of another kind."""
        before, self.account = self.account, account
        for each, sign in ((before, -1), (account, 1)):
            each.count += sign * len(self.waiting)
            each.bytes += sign * self.bytes

    def fail(self, error: BaseException, now: float, *, counted: bool) -> None:
        """Note that the first delivery could not be handled now.

        Args:
            error: why.
            now: seconds since the Unix epoch.
            counted: whether the message may be to blame. Then the time uses up its budget.
        """
        if counted and self._last is not None:
            passed = max(0.0, now - self._last)  # the process may have been paused, or the clock been set
            self.spent += min(passed, 2 * compute_delay(self.tries))
        self._last = now if counted else None
        self.counted = counted
        self.failed = True
        self.failure = error
        self.tries += 1

    def is_exhausted(self, now: float) -> bool:
        """True if the first delivery has used up its budget of 60 s, in many tries.

        Args:
            now: seconds since the Unix epoch.
        """
        return self.spent >= BUDGET_SECONDS or (self._last is not None and self._would_exhaust(now))

    def _would_exhaust(self, now: float) -> bool:
        return self.spent + min(max(0.0, now - (self._last or now)), 2 * compute_delay(self.tries)) >= BUDGET_SECONDS


def forget_frames(error: BaseException | None) -> None:
    """Remove the frames from an error that is kept for long: frames hold messages."""
    seen = 0
    while error is not None and seen < 100:
        error.__traceback__ = None
        error, seen = error.__cause__ or error.__context__, seen + 1
