"""What must be true when all faults are over and all work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import Protocol
from zlib import crc32

from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.state_engine.maintenance import INTERVAL_SECONDS
from infinitic.storage import MAX_LIMIT, Query, StateKey, Storage
from infinitic.topics import DEAD_LETTERS
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.logs import LogWatch
from infinitic_testing.invariants.stored import check_stored
from infinitic_testing.invariants.tags import TagChecks

LATEST_PURGE_SECONDS = 2 * INTERVAL_SECONDS + 60.0
"""After so long, what has expired is purged: first the instance, and then what is left of it."""


class HoldsMemory(Protocol):
    """What a `Worker` is for the check of memory."""

    @property
    def name(self) -> str:
        """Names it in a violation."""
        ...

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done."""
        ...


async def check_healed(
    book: RunBook,
    tags: TagChecks,
    storage: Storage,
    *,
    workers: Iterable[HoldsMemory],
    services: Collection[str] | None,
    log: LogWatch | None,
    faults: Collection[str],
) -> None:
    """Check all rules of `HEALED`, but for the outcome.

    Args:
        book: what is known of the run.
        tags: what is known of tags.
        storage: a connection without faults.
        workers: those that live.
        services: the services that somebody hosts. None: all are.
        log: of the run. None: nobody watched it.
        faults: those that the run may have had.
    """
    violations = await check_stored(
        storage, specs=book.specs, services=services, now=book.clock.now(), evaluated=book.evaluated
    )
    for violation in violations:
        book.judge(violation.rule, violation.message, violation.key)
    for key in book.instances:
        book.judge("history-kept", _find_changed(book, key), key)
        book.judge("no-orphan", _find_orphan(book, key), key)
    tags.check_stored()
    _check_forgotten(book)
    unheard, unwanted = _count_unwanted_attempts(book)
    workers = list(workers)
    _check_queues(book, unwanted, sum(worker.count_held().get("attempts", 0) for worker in workers))
    for worker in workers:
        held = {what: count for what, count in worker.count_held().items() if count}
        if held.get("attempts", 0) <= unheard:
            held.pop("attempts", None)
        book.judge("memory-empty", f"{worker.name} still holds {held}" if held else None)
    if log is not None:
        unexpected = log.find_unexpected(faults)
        book.judge("log-clean", None if unexpected is None else str(unexpected))


def _find_orphan(book: RunBook, key: StateKey) -> str | None:
    """Say so if a child runs whose parent has closed, and nobody has cancelled it.

    What a cancelled parent has asked for in its clean-up goes on.
    """
    instance = book.instances[key]
    if instance.is_over or instance.head.canceling or instance.head.parked:
        return None
    starts = book.traffic.sent_to(key).starts.values()
    reply_to = next((start.reply_to for start in starts if start.reply_to is not None), None)
    parent = None if reply_to is None else book.instances.get(StateKey(reply_to.workflow, reply_to.client))
    if reply_to is None or parent is None or not parent.is_over:
        return None
    _, position, _ = reply_to.place
    if parent.head.canceling and position >= parent.head.cleanup:
        return None
    return f"its parent {parent.key} has closed, and it runs"


def _find_changed(book: RunBook, key: StateKey) -> str | None:
    """Say what of an instance is not as it was written; None if all is."""
    instance = book.instances[key]
    if instance.purged:
        return None
    stored = book.database.load([key]).get(key)
    if stored is None:
        return "it is gone, and nobody has purged it"
    if stored.version != instance.version or crc32(stored.head) != instance.head_checksum:
        return f"its head is not the one that was written: version {stored.version}, written {instance.version}"
    segments = book.database.history(key, limit=MAX_LIMIT)
    kept = instance.checksums[max(instance.head.first - 1, 0) :]
    if [crc32(segment.events) for segment in segments] != kept:
        return f"its {len(segments)} segments are not the {len(kept)} that were written and stay"
    return None


def _check_forgotten(book: RunBook) -> None:
    """Nothing is kept of instances once they and their remnants have expired.

    There is something to check only if that is so for all instances.
    """
    now = book.clock.now() - book.database.deduplication_window - LATEST_PURGE_SECONDS
    if book.instances and all((each.expires_at or inf) < now for each in book.instances.values()):
        left = book.database.size()
        book.judge("all-forgotten", f"all instances have expired, and {left} keys are kept" if left else None)


def _check_queues(book: RunBook, unwanted: int, held: int) -> None:
    """Nothing waits for somebody who is there. Wakes of instances that wait for a time may.

    Args:
        book: what is known of the run.
        unwanted: how many messages of attempts may be left for which nobody waits.
        held: how many attempts the workers have in hand.
    """
    waiting = _count_waiting_for_time(book)
    for topic, subscriptions in book.broker.overview().items():
        kind, _, name = topic.partition(":")
        if topic.startswith(DEAD_LETTERS) or kind in ("client", "service-control"):
            continue
        for stats in subscriptions.values():
            allowed = waiting[name] if kind == "workflow-engine" else 0
            in_hand = held or not stats.unacked
            if kind == "service-executor" and in_hand and stats.unacked + stats.delayed <= unwanted:
                # An executor that was cut off was not told to stop a task (S6). It may have several
                # deliveries of one attempt.
                continue
            left = stats.unacked + (stats.backlog if stats.consumers else 0) + max(stats.delayed - allowed, 0)
            wrong = f"{topic}: {stats.backlog} wait, {stats.unacked} are in hand, {stats.delayed} are delayed"
            book.judge("queues-empty", wrong if left else None)


def _count_unwanted_attempts(book: RunBook) -> tuple[int, int]:
    """Count the attempts that may still run although nobody waits for their tasks.

    Returns:
        How many were sent of tasks that are to stop: a worker that was cut off may run one whose
        message another worker has acknowledged. And how many messages are left.
    """
    sent = count = 0
    for (key, position), attempts in book.traffic.attempts.items():
        instance = book.instances.get(key)
        if instance is not None and (instance.is_over or position not in instance.history.open_tasks):
            if (position, instance.head.run) in book.traffic.sent_to(key).cancelled:
                sent += len(attempts)
            count += sum(max(copies.left, 0) for copies in attempts)
    return sent, count


def _count_waiting_for_time(book: RunBook) -> Counter[str]:
    """Count the running instances with a wake, by the name of their workflow."""
    counted = Counter[str]()
    cursor: str | None = None
    while True:
        page = book.database.find(Query(status=WorkflowStatus.RUNNING, limit=1000, cursor=cursor))
        counted.update(found.key.name for found in page.found if found.entry.next_wake is not None)
        cursor = page.cursor
        if cursor is None:
            return counted
