"""Puts tasks together that run in one call: collects them, and says how many more are taken.

A batch is closed when it has enough tasks, when its first task has waited long enough, or when its
messages have 4 MiB. It counts as one of the `concurrency` attempts that run at once, from its first
task on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from infinitic.definitions.batch_methods import BatchMethod
from infinitic.definitions.batches import BATCH_KEY, MOST_MESSAGES
from infinitic.definitions.service_contract import ServiceImplementation
from infinitic.runtime.service_executor.deaths import SUSPECT
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.work import CHUNK_BYTES, Batch, Work

BATCH_BYTES = CHUNK_BYTES
"""Bytes of messages with which a batch is complete."""

IN_HAND_BYTES = 64 * 1024 * 1024
"""Bytes of messages in batches, above which no more are taken."""

FIRST_MESSAGES = 100
"""How many messages are taken at once while nobody knows how large they are."""


def find_batch_methods(service: ServiceImplementation) -> dict[str, BatchMethod]:
    """Find the batch methods of a service, by the name of their task."""
    return {name: task.batch for name, task in service.tasks.items() if task.batch is not None}


def choose_prefetch(methods: Mapping[str, BatchMethod], concurrency: int) -> int:
    """Choose how many messages an executor may have in hand.

    Half of them may wait for their reports to be published. With batches they are at most 10,000.

    Args:
        methods: the batch methods of the service.
        concurrency: how many attempts and batches run at once.
    """
    largest = max((method.max_messages for method in methods.values()), default=1)
    return max(2 * concurrency, min(2 * concurrency * largest, MOST_MESSAGES))


class Batching:
    """Collects the tasks of one executor in batches.

    Args:
        service: the service.
        in_hand: what the executor has in hand.
        concurrency: how many attempts and batches run at once.
        wake: called when a batch was closed because its time is over.

    Attributes:
        most: how many messages may be in hand.
    """

    def __init__(
        self,
        service: ServiceImplementation,
        in_hand: TasksInHand,
        concurrency: int,
        wake: Callable[[], object],
    ) -> None:
        self._methods = methods = find_batch_methods(service)
        self._is_mixed = len(methods) < len(service.tasks)
        self._in_hand = in_hand
        self._concurrency = concurrency
        self._wake = wake
        self.most = choose_prefetch(methods, concurrency)
        self._smallest = min(method.max_messages for method in methods.values())
        # The newest open batch of each task and batch key. It may be closed, or gone.
        self._open: dict[tuple[str, bytes | None], Batch] = {}
        # Closed batches that wait until doubts are settled, and from when on none waits for that.
        self._held: list[Batch] = []
        self._settled_at = 0.0
        self._messages = 0
        self._bytes = 0

    def add(self, work: Work) -> bool:
        """Put an attempt into a batch.

        Returns:
            False if its task has no batches: it has to run by itself.
        """
        message = work.message
        size = len(work.carrier.body)
        self._messages += 1
        self._bytes += size
        method = self._methods.get(message.task)
        if method is None:
            return False
        key = message.task, message.meta.get(BATCH_KEY)
        # It is made anew each time that the message is asked for it.
        work.task_id = message.task_id
        if message.deaths >= SUSPECT:
            # The others must not die with it.
            alone = self._make(*key)
            alone.add(work)
            self._in_hand.waiting.append(alone)
            return True
        batch = self._open.get(key)
        # A second attempt of a task has the same id.
        if batch is not None and (work.task_id in batch.works or batch.size + size > BATCH_BYTES):
            self._close(batch)
            batch = None
        if batch is None or batch.timer is None:
            batch = self._open[key] = self._make(*key)
            loop = asyncio.get_running_loop()
            batch.timer = loop.call_later(method.max_seconds, self._close_late, batch)
        batch.add(work)
        if len(batch.works) >= method.max_messages or batch.size >= BATCH_BYTES:
            self._close(batch)
        return True

    def count_room(self) -> int:
        """Count how many messages may be taken now.

        A message may begin a new batch, if less than `concurrency` attempts and batches are in
        hand, or join one that is open. Nobody knows which before it is there. So there may be a few
        too many batches, and tasks that have none: these wait for their turn.
        """
        in_hand, concurrency = self._in_hand, self._concurrency
        batches = in_hand.batches
        opened = [batch for batch in batches if batch.timer is not None]
        if len(self._open) > len(opened):
            # Some were emptied: their tasks were cancelled or handed back.
            self._open = {(batch.task, batch.key): batch for batch in opened}
        singles = len(in_hand.works) - in_hand.reported - sum(len(batch.works) for batch in batches)
        free = concurrency - singles - len(batches)
        if free <= 0 and (not opened or free <= -concurrency):
            return 0
        free = max(free, 0)
        room = sum(self._methods[batch.task].max_messages - len(batch.works) for batch in opened)
        if self._is_mixed:
            waiting = sum(isinstance(each, Work) for each in in_hand.waiting)
            room = free + min(room, max(concurrency - waiting, 0))
        else:
            room += free * self._smallest
        return max(0, min(room, self.most - len(in_hand.works), self._count_for_bytes()))

    def _count_for_bytes(self) -> int:
        """Count how many messages have room, if they are as large as those before them."""
        rest = IN_HAND_BYTES - sum(batch.size for batch in self._in_hand.batches)
        if not self._messages:
            return FIRST_MESSAGES
        return rest * self._messages // max(self._bytes, 1)

    def _make(self, task: str, key: bytes | None) -> Batch:
        batch = Batch(task, key)
        self._in_hand.batches[batch] = None
        return batch

    def _close(self, batch: Batch) -> None:
        """Have a batch run as soon as a member of the pool is free."""
        assert batch.timer is not None
        batch.timer.cancel()
        batch.timer = None
        if self._open.get((batch.task, batch.key)) is batch:
            del self._open[batch.task, batch.key]
        loop = asyncio.get_running_loop()
        if self._in_hand.is_doubting():
            self._held.append(batch)
        elif loop.time() < self._settled_at:
            loop.call_at(self._settled_at, self._release, [batch])
        else:
            self._in_hand.waiting.append(batch)

    def note_settled(self, seconds: float) -> None:
        """Note that doubts are settled. Batches that were closed meanwhile run soon.

        One of them may end this process. If they ran at once, what was in doubt would come again
        as it was: each process would die so, and none would ever count the deaths.

        Args:
            seconds: after which the acknowledgements of what was settled are safe.
        """
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        self._settled_at = loop.time() + seconds
        if seconds:
            loop.call_at(self._settled_at, self._release, held)
        else:
            self._release(held)

    def _release(self, held: list[Batch]) -> None:
        self._in_hand.waiting += [batch for batch in held if batch in self._in_hand.batches]
        self._wake()

    def _close_late(self, batch: Batch) -> None:
        """Close a batch whose time is over."""
        self._close(batch)
        self._wake()
