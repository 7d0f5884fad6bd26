"""What becomes of tasks and timers: results, failures, failed attempts, wakes.

Each input is recognised by its position: once that is closed, a duplicate changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from infinitic.engines import delegations, positions, retries, timers
from infinitic.engines.effects import ArmWake, Effect, Postpone, SendTask
from infinitic.engines.state import Retry, TimerKind, WorkflowHead
from infinitic.engines.workflow.cancel import cancel_positions
from infinitic.engines.workflow.due import find_next_due
from infinitic.engines.workflow.input_result import InputResult
from infinitic.messages import engine as inputs, events
from infinitic.messages.events import Event


def settle(head: WorkflowHead, position: int, event: Event) -> InputResult:
    """Close the position of a task, child or call, with its timeout and its retries.

    A duplicate changes nothing.
    """
    still_open = positions.close(head.open, position)
    if still_open is None:
        return InputResult(head)
    pending = head.pending or head.sequence + 1
    if head.delegated:
        head = replace(head, delegated=delegations.remove(head.delegated, position))
    if not head.timers and not head.retries:
        return InputResult(replace(head, open=still_open, pending=pending), (event,))
    changed = replace(
        head,
        open=still_open,
        timers=timers.remove(head.timers, position),
        retries=retries.remove(head.retries, position),
        pending=pending,
    )
    return InputResult(changed, (event,))


def task_completed(head: WorkflowHead, message: inputs.TaskCompleted, now: float) -> InputResult:
    """Settle a task with its result, whichever attempt it comes from."""
    if message.run != head.run:
        return InputResult(head)
    return settle(head, message.position, events.TaskResult(message.position, message.value, message.execution))


def task_failed(head: WorkflowHead, message: inputs.TaskFailed, now: float) -> InputResult:
    """Settle a task as failed.

    It counts only if this attempt was sent last: a newer one may still run. If it was delegated
    before, its function has returned: see `_is_delegated`.
    """
    last = retries.find(head.retries, message.position)
    if message.run != head.run or message.retry_sequence != (last.retry_sequence if last else 0):
        return InputResult(head)
    if message.retry_index is not None:
        waits = last is not None and last.due is not None
        if waits or message.retry_index != (last.retry_index if last else 0):
            return InputResult(head)
        if _is_delegated(head, message.position):
            return InputResult(head)
    return settle(head, message.position, events.TaskError(message.position, message.failure, message.execution))


def attempt_failed(head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> InputResult:
    """Send the next attempt of a task, at once or after its delay.

    It counts only for the attempt that was sent last, unless its function has returned, and
    somebody outside ends the task.
    """
    position = message.position
    request = positions.find_request(head.open, position)
    if message.run != head.run or request is None:
        return InputResult(head)
    last = retries.find(head.retries, position)
    sent = (last.retry_sequence, last.retry_index) if last else (0, 0)
    waits = last is not None and last.due is not None
    if (message.retry_sequence, message.retry_index) != sent or waits or _is_delegated(head, position):
        return InputResult(head)
    sequence = head.sequence + 1
    due = now + message.delay if message.delay > 0 else None
    retry = Retry(position, request, sequence, message.retry_sequence, message.retry_index + 1, due)
    effect = _make_send(retry) if due is None else ArmWake(due)
    next_at = now if due is None else due
    event = events.AttemptError(position, message.failure, message.meta, message.execution, next_at, message.heartbeat)
    return InputResult(replace(head, retries=retries.put(head.retries, retry)), (event,), (effect,))


def _is_delegated(head: WorkflowHead, position: int) -> bool:
    """Whether the function of the attempt that was sent last has returned, and the task waits.

    The first report of an attempt counts. What comes after that is of a second run of it, or of a
    guard of its heartbeats that nobody remembers. The token is with somebody: asking once more
    would give it to others, too.
    """
    return bool(head.delegated) and delegations.contains(head.delegated, position)


def _make_send(retry: Retry) -> SendTask:
    return SendTask(retry.position, retry.request, retry.retry_sequence, retry.retry_index, retry.failure)


UNTIL = "infinitic-until"
"""The header of a wake that came early, and was published again.

It holds the time at which the broker was to deliver it, in seconds since the Unix epoch.
"""
MARGIN_SECONDS = 0.05
"""Added to each such delay, because brokers round times."""
FAR_SECONDS = 366 * 86_400.0
"""A header is ignored if its time is later than the due time by more than this."""


def wake(head: WorkflowHead, message: inputs.Wake, now: float, headers: Mapping[str, str]) -> InputResult:
    """Fire the timers and send the attempts that are due by now.

    The wake that was armed is used up, and `conclude` arms the next one. A duplicate finds nothing
    due.
    """
    is_armed = message.due == head.armed
    if is_armed and message.due > now:
        first = find_next_due(head)
        if first is None or first > now:
            return InputResult(head, handling=_put_off(message, now, headers))
    open_timers, fired = timers.take_due(head.timers, now)
    still_open, happened = head.open, list[Event]()
    timed_out = set[int]()
    for timer in fired:
        if timer.kind is TimerKind.TIMER:
            happened.append(events.TimerFired(timer.position))
        elif (remaining := positions.close(still_open, timer.position)) is not None:
            still_open = remaining
            timed_out.add(timer.position)
            happened.append(events.TaskTimeout(timer.position))
    attempts, due = retries.take_due(retries.remove_all(head.retries, timed_out), now)
    if not fired and not due and not is_armed:
        return InputResult(head)
    sends: list[Effect] = [_make_send(retry) for retry in due]
    if timed_out and (stopped := cancel_positions(head, timed_out)) is not None:
        sends.insert(0, stopped)
    changed = replace(
        head,
        armed=None if is_armed else head.armed,
        timers=open_timers,
        open=still_open,
        retries=attempts,
        pending=head.pending or (head.sequence + 1 if happened else 0),
    )
    return InputResult(changed, tuple(happened), tuple(sends))


def _put_off(message: inputs.Wake, now: float, headers: Mapping[str, str]) -> Postpone:
    """Publish a wake again, to come when it is due by this clock: the clock of the broker is ahead.

    Nothing is committed. Each copy is delayed by the time that is left until the wake is due by
    this clock, counted from the delivery time of the copy before. More is not known of the clock of
    the broker. This is too little if the timer is shorter than the difference of the clocks. So a
    delay is at least a quarter of all delays before it. A timer is late by at most a quarter of
    that difference.
    """
    early = message.due - now
    try:
        until = float(headers.get(UNTIL, message.due))
    except ValueError:
        until = message.due
    if not message.due <= until <= message.due + FAR_SECONDS:
        until = message.due
    again = until + max(early, (until - message.due) / 4) + MARGIN_SECONDS
    return Postpone(again, UNTIL, repr(again), until - now)
