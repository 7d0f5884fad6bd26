"""One attempt in the hands of a service executor, and the message that makes others run it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from infinitic.messages import service
from infinitic.messages.control import Attempt
from infinitic.messages.service import ExecuteTask, Guard
from infinitic.runtime.service_executor.current_task import CurrentTask, Stoppable
from infinitic.runtime.service_executor.pulse import Pulse
from infinitic.transport import Delivery, Message, Outgoing

CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of messages that are published together."""


class Outbound(NamedTuple):
    """A message to publish, and the deliveries that it replaces.

    The deliveries are acknowledged once the message is published, not before.
    """

    message: Message
    deliveries: list[Delivery]


class Work(msgspec.Struct, eq=False):
    """An attempt in hand.

    Args:
        message: what has to be run.
        attempt: the attempt that the message asks for.
        deliveries: all deliveries of this attempt so far. More may come until it is reported.
        carrier: the message of the first delivery, as it was sent.
        report: what came of the attempt, once it has run.
        report_bytes: bytes of the report.
        on_trial: True while this is the one suspect that runs in this process (see `Trials`).
        member: the asyncio task in which it runs; None while it waits.
        current: tells its code to stop; None while that has not begun.
        is_cancelled: True once it was told to stop, because nobody waits for it any more.
        batch: the batch that it is in; None: it runs by itself, or is out of its batch again.
        task_id: the id of its task, once it was put into a batch.
        guard: its newest guard, if its task has a heartbeat timeout and it has begun.
        pulse: its heartbeats, while it runs.
        is_held: True while it is a guard that waits here for its time.
    """

    message: ExecuteTask
    attempt: Attempt
    deliveries: list[Delivery]
    carrier: Message
    report: Outgoing | None = None
    report_bytes: int = 0
    on_trial: bool = False
    member: asyncio.Task[object] | None = None
    current: CurrentTask | None = None
    is_cancelled: bool = False
    batch: Batch | None = None
    task_id: str = ""
    guard: Guard | None = None
    pulse: Pulse | None = None
    is_held: bool = False

    def withdraw(self) -> bool:
        """Take back an attempt for a step whose code has not begun. Only a local one can be."""
        return False

    def begin(self, current: CurrentTask) -> None:
        """Note that its code begins."""
        self.current = current

    def count_guards(self) -> int:
        """The number of the guard that this is; 0: it is none."""
        return self.message.guard.number if self.message.guard is not None and self.message.asked else 0

    def was_handed_back_with(self, number: int) -> bool:
        """Whether a worker has handed it back, and no guard of it was newer than this one."""
        guard = self.message.guard
        return not self.message.asked and guard is not None and guard.number >= number

    def make_copy(self, deliver_at: float | None = None, **changes: Any) -> Outbound:
        """Make a message that asks for the same attempt.

        Args:
            deliver_at: when it is to be delivered, in seconds since the Unix epoch; None: at once.
            changes: fields of the `ExecuteTask` that are different.
        """
        carrier = self.carrier
        changed = {name: value for name, value in changes.items() if getattr(self.message, name) != value}
        body = service.encode(replace(self.message, **changed)) if changed else carrier.body
        return Outbound(Message(carrier.id, None, body, carrier.headers, deliver_at), self.deliveries)

    def make_handed_back(self, deliver_at: float | None = None, **changes: Any) -> Outbound:
        """Make a message that has the attempt run again from its last heartbeat on.

        Arguments are those of `make_copy`.
        """
        if self.guard is not None and self.pulse is not None:
            changes |= {"guard": self.guard, "last_heartbeat": self.pulse.renew(self.message).last_heartbeat}
        return self.make_copy(deliver_at, **changes)


class Batch(msgspec.Struct, eq=False):
    """Attempts of one task that run in one call. They leave it one by one as they are settled.

    Args:
        task: the name of the task.
        key: the `batch_key` of all of them, from their meta; None: they have none.
        works: the attempts that are not settled, by the id of their task.
        size: bytes of their messages.
        timer: closes the batch when it has waited long enough; None: it is closed.
        member: the asyncio task in which it runs; None while it waits.
        current: tells its code to stop; None while that has not begun.
    """

    task: str
    key: bytes | None
    works: dict[str, Work] = {}
    size: int = 0
    timer: asyncio.TimerHandle | None = None
    member: asyncio.Task[object] | None = None
    current: Stoppable | None = None

    def add(self, work: Work) -> None:
        """Take an attempt. Its `task_id` is set before."""
        self.works[work.task_id] = work
        self.size += len(work.carrier.body)
        work.batch = self

    def remove(self, work: Work) -> None:
        """Let an attempt go: it is settled, or goes elsewhere."""
        del self.works[work.task_id]
        self.size -= len(work.carrier.body)
        work.batch = None

    def stop(self) -> None:
        """Cancel the call, unless it runs in a thread, if nobody waits for any of the attempts."""
        current, member = self.current, self.member
        if member is None or not all(work.is_cancelled for work in self.works.values()):
            return
        # A thread cannot be stopped. Without its caller nobody would count it.
        if current is None or not current.is_blocking:
            member.cancel()


def count_for_chunk(sizes: Iterable[int]) -> int:
    """Count how many of the first messages are published together: at most 4 MiB, at least one.

    Args:
        sizes: bytes of each message, in order.
    """
    count = total = 0
    for size in sizes:
        total += size
        if count and total > CHUNK_BYTES:
            break
        count += 1
    return count
