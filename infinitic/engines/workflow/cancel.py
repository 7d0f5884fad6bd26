"""What becomes of what was sent for a position that is closed without a result.

Whoever runs it is told to stop. It is best effort: a result that comes all the same finds its
position closed, and is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from infinitic import topics
from infinitic.engines import positions, retries
from infinitic.engines.effects import CancelSent
from infinitic.engines.state import OpenBlock, WorkflowHead
from infinitic.engines.workflow.remote_messages import render_cancel_request
from infinitic.engines.workflow.task_tags import remove_task_tags
from infinitic.messages import control
from infinitic.messages.commands import CallRemote, ScheduleTask, StartChild
from infinitic.messages.events import Event
from infinitic.transport import Message, Outgoing

PAGE = 1000
"""How many tasks one message names."""


def cancel_positions(head: WorkflowHead, closed: Collection[int]) -> CancelSent | None:
    """Make the effect that stops what was sent for these positions.

    A task that waits for its next attempt is with nobody: that attempt is simply not sent. If it
    may have tags, it loses them.

    Args:
        head: the instance, while they are open.
        closed: the positions. Those that are not open, or are no task, are passed over.

    Returns:
        None if nothing has to be stopped.
    """
    by_segment: dict[int, list[int]] = {}
    waiting: dict[int, list[int]] = {}
    repeated: list[tuple[int, int]] = []
    for position in sorted(closed):
        last = retries.find(head.retries, position)
        sequence = positions.find_request(head.open, position)
        if sequence is None:
            continue
        if last is not None and last.due is not None:
            if not head.tags_tasks:
                continue
            waiting.setdefault(sequence, []).append(position)
        else:
            by_segment.setdefault(sequence, []).append(position)
        if last is not None and last.retry_sequence:
            repeated.append((position, last.retry_sequence))
    if not by_segment and not waiting:
        return None
    return CancelSent(_make_blocks(by_segment), tuple(repeated), waiting=_make_blocks(waiting))


def _make_blocks(by_segment: Mapping[int, list[int]]) -> tuple[OpenBlock, ...]:
    return tuple(positions.open_block(sequence, found) for sequence, found in by_segment.items())


def cancel_rest(head: WorkflowHead, cleanup: int, closed: Collection[int]) -> CancelSent | None:
    """Make the effect that stops what a cancelled instance leaves open when it closes.

    What clean-up code has asked for goes on, unless it has cancelled that. It has reasons not to
    wait for it: who is to be told of a cancellation need not be waited for.

    Args:
        head: the instance, before it closes.
        cleanup: the first position that its code asked for after it was cancelled.
        closed: the positions that its code cancels at last.

    Returns:
        None if nothing has to be stopped.
    """
    left = {position for block in head.open for position in positions.list_positions(block)}
    return cancel_positions(head, {each for each in left if each < cleanup or each in closed})


def cancel_all(head: WorkflowHead) -> CancelSent | None:
    """Make the effect that stops all that is open. Returns None if nothing has to be stopped."""
    return cancel_positions(head, {each for block in head.open for each in positions.list_positions(block)})


def render_cancel(
    effect: CancelSent, head: WorkflowHead, segments: Mapping[int, Sequence[Event]], now: float
) -> list[Outgoing]:
    """Make the messages that stop what was sent.

    Those about tasks go to the executors of each service, page by page. Each child and each
    other instance gets its own.

    Args:
        effect: what is to be stopped.
        head: the instance, after the transition.
        segments: those with the requests.
        now: stamped on messages to children; seconds since the Unix epoch.
    """
    repeated = dict(effect.repeated)
    by_service: dict[str, list[tuple[int, int]]] = {}
    outgoing: list[Outgoing] = []
    for block in effect.blocks:
        meant = set(positions.list_positions(block))
        for event in segments[block.sequence]:
            if type(event) is ScheduleTask and event.position in meant:
                task = (event.position, repeated.get(event.position, 0))
                by_service.setdefault(event.service, []).append(task)
                if event.tags:
                    outgoing += remove_task_tags(event, head, repeated.get(event.position, 0), now)
            elif isinstance(event, StartChild | CallRemote) and event.position in meant:
                outgoing.append(render_cancel_request(event, repeated.get(event.position, 0), head, now))
    for block in effect.waiting:
        meant = set(positions.list_positions(block))
        for event in segments[block.sequence]:
            if type(event) is ScheduleTask and event.position in meant:
                outgoing += remove_task_tags(event, head, repeated.get(event.position, 0), now)
    for service, tasks in by_service.items():
        topic = topics.service_control(service)
        for start in range(0, len(tasks), PAGE):
            page = tuple(tasks[start : start + PAGE])
            body = control.encode(control.CancelTasks(workflow_id=head.id, run=head.run, tasks=page))
            outgoing.append(Outgoing(topic, Message("control", None, body)))
    return outgoing
