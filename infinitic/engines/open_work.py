"""What the open tasks of an instance are, read from its head and history. Only reads: it drives nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from infinitic import ids
from infinitic.engines.state import OpenBlock, WorkflowHead
from infinitic.errors import TaskFailure
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.events import AttemptFailed, Event


class OpenTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that is not settled.

    `attempt` counts from 1: it runs, or waits for a worker, or for `due` (seconds since the Unix epoch) if that is
    not None. `failure` is that of the attempt before.
    """

    position: int
    task_id: str
    service: str
    task: str
    attempt: int = 1
    due: float | None = None
    failure: TaskFailure | None = None


def open_positions(head: WorkflowHead) -> Iterator[tuple[int, int]]:
    """Each open position, in order within its block, and the sequence of the segment with its request."""
    for block in head.open:
        for position in _positions(block):
            yield position, block.sequence


def segments_needed(head: WorkflowHead, limit: int) -> list[int]:
    """The sequences of the segments that `open_tasks` needs for the first `limit` open positions."""
    shown = dict(_first(head, limit))
    needed = set(shown.values())
    for retry in head.retries:
        if retry.position in shown:
            needed |= {retry.request, retry.failure}
    return sorted(needed)


def open_tasks(head: WorkflowHead, segments: Iterable[Sequence[Event]], limit: int) -> list[OpenTask]:
    """The first `limit` open tasks. What the segments do not tell of is left out."""
    requests: dict[int, ScheduleTask] = {}
    failures: dict[int, TaskFailure] = {}
    for events in segments:
        for event in events:
            if isinstance(event, ScheduleTask):
                requests[event.position] = event
            elif isinstance(event, AttemptFailed):
                failures[event.position] = event.failure
    retries = {retry.position: retry for retry in head.retries}
    found: list[OpenTask] = []
    for position, _ in _first(head, limit):
        request, retry = requests.get(position), retries.get(position)
        if request is None:
            continue
        found.append(
            OpenTask(
                position,
                ids.task_id(head.id, head.run, position),
                request.service,
                request.task,
                1 if retry is None else retry.retry_index + 1,
                None if retry is None else retry.due,
                None if retry is None else failures.get(position),
            )
        )
    return found


def _first(head: WorkflowHead, limit: int) -> list[tuple[int, int]]:
    return [each for each, _ in zip(open_positions(head), range(limit), strict=False)]


def _positions(block: OpenBlock) -> Iterator[int]:
    for index, byte in enumerate(block.bits):
        for bit in range(8):
            if byte >> bit & 1:
                yield block.first + 8 * index + bit
