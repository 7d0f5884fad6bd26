"""Lists the open tasks, children and calls of an instance, for people.

They come from its head and its history.

It only reads. No engine uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from infinitic import ids
from infinitic.engines import delegations, positions, retries
from infinitic.engines.state import WorkflowHead
from infinitic.errors import TaskFailure
from infinitic.messages.commands import CallRemote, ScheduleTask, StartChild
from infinitic.messages.events import AttemptError, Event


class OpenTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that is not settled.

    Attributes:
        position: its position.
        task_id: its id.
        service: its service.
        task: its name.
        attempt: the number of the attempt, from 1. It runs, or waits for a worker or for `due`.
        due: when the attempt will be sent, in seconds since the Unix epoch; None: it was sent.
        failure: that of the attempt before, if there was one.
        delegated: whether its function has returned, and it waits for somebody outside.
    """

    position: int
    task_id: str
    service: str
    task: str
    attempt: int = 1
    due: float | None = None
    failure: TaskFailure | None = None
    delegated: bool = False


class OpenRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A child, or a call of a method of another instance, that is not settled.

    Attributes:
        position: its position.
        is_child: whether it is a child; otherwise it is a call.
        workflow: the name of the workflow.
        workflow_id: the id of the child, or of the other instance; empty for a call of the
            instance that holds `custom_id`.
        method: the name of the method.
        custom_id: that of the child or the other instance; empty: it has none, or is not known.
    """

    position: int
    is_child: bool
    workflow: str
    workflow_id: str
    method: str
    custom_id: str = ""


def list_open_positions(head: WorkflowHead) -> Iterator[tuple[int, int]]:
    """List the open positions, each with the sequence of the segment that holds its request."""
    return positions.list_requests(head.open)


def find_needed_segments(head: WorkflowHead, limit: int) -> list[int]:
    """Find the segments that `list_open_tasks` needs for the first `limit` open positions.

    Returns:
        Their sequences, in ascending order.
    """
    shown = dict(_list_first(head, limit))
    needed = set(shown.values())
    for retry in head.retries:
        if retry.position in shown:
            needed |= {retry.request, retry.failure}
    return sorted(needed)


def list_open_tasks(head: WorkflowHead, segments: Iterable[Sequence[Event]], limit: int) -> list[OpenTask]:
    """List the first `limit` open tasks.

    Args:
        head: the instance.
        segments: the events of those that `find_needed_segments` names. A task whose request is in
            none of them is left out.
        limit: how many positions are looked at.
    """
    requests: dict[int, ScheduleTask] = {}
    failures: dict[int, TaskFailure] = {}
    for events in segments:
        for event in events:
            if isinstance(event, ScheduleTask):
                requests[event.position] = event
            elif isinstance(event, AttemptError):
                failures[event.position] = event.failure
    found: list[OpenTask] = []
    for position, _ in _list_first(head, limit):
        request, retry = requests.get(position), retries.find(head.retries, position)
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
                delegations.contains(head.delegated, position),
            )
        )
    return found


def list_open_requests(head: WorkflowHead, segments: Iterable[Sequence[Event]], limit: int) -> list[OpenRequest]:
    """List the children and calls among the first `limit` open positions.

    Args:
        head: the instance.
        segments: the events of those that `find_needed_segments` names.
        limit: how many positions are looked at.
    """
    shown = dict(_list_first(head, limit))
    found: list[OpenRequest] = []
    for events in segments:
        for event in events:
            if not isinstance(event, StartChild | CallRemote) or event.position not in shown:
                continue
            if isinstance(event, CallRemote):
                workflow_id = event.workflow_id
            else:
                last = retries.find(head.retries, event.position)
                workflow_id = ids.remote_id(
                    head.id, head.run, event.position, 0 if last is None else last.retry_sequence
                )
            is_child = isinstance(event, StartChild)
            found.append(
                OpenRequest(event.position, is_child, event.workflow, workflow_id, event.method, event.custom_id)
            )
    return sorted(found, key=lambda each: each.position)


def _list_first(head: WorkflowHead, limit: int) -> list[tuple[int, int]]:
    return [each for each, _ in zip(list_open_positions(head), range(limit), strict=False)]
