"""What becomes of tasks and timers: results, failures, failed attempts, wakes.

Each input is recognised by its position: once that is closed, a duplicate changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import Effect, Postpone, SendTask
from infinitic.engines.state import Retry, WorkflowHead
from infinitic.engines.workflow.cancel import cancel_positions
from infinitic.engines.workflow.input_result import InputResult
from infinitic.messages import engine as inputs, events
from infinitic.messages.events import Event


def _settle(head: WorkflowHead, position: int, event: Event) -> InputResult:
    """Close the position of a task, with its timeout and its retries.

    A duplicate changes nothing.
    """
    still_open = positions.close(head.open, position)
    if still_open is None:
        return InputResult(head)
    pending = head.pending or head.sequence + 1
    if not head.timers and not head.retries:
        return InputResult(replace(head, open=still_open, pending=pending), (event,))
    timers = tuple(timer for timer in head.timers if timer.position != position)
    retries = tuple(retry for retry in head.retries if retry.position != position)
    return InputResult(replace(head, open=still_open, timers=timers, retries=retries, pending=pending), (event,))


def task_completed(head: WorkflowHead, message: inputs.TaskCompleted, now: float) -> InputResult:
    """Settle a task with its result, whichever attempt it comes from."""
    if message.run != head.run:
        return InputResult(head)
    return _settle(head, message.position, events.TaskResult(message.position, message.value, message.execution))


def _find_last_sent(head: WorkflowHead, position: int) -> Retry | None:
    return next((retry for retry in head.retries if retry.position == position), None)


def task_failed(head: WorkflowHead, message: inputs.TaskFailed, now: float) -> InputResult:
    """Settle a task as failed.

    It counts only if this attempt was sent last: a newer one may still run.
    """
    last = _find_last_sent(head, message.position)
    if message.run != head.run or message.retry_sequence != (last.retry_sequence if last else 0):
        return InputResult(head)
    if message.retry_index is not None:
        waits = last is not None and last.due is not None
        if waits or message.retry_index != (last.retry_index if last else 0):
            return InputResult(head)
    return _settle(head, message.position, events.TaskError(message.position, message.failure, message.execution))


def attempt_failed(head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> InputResult:
    """Send the next attempt of a task, at once or after its delay.

    It counts only for the attempt that was sent last.
    """
    position = message.position
    request = positions.find_request(head.open, position)
    if message.run != head.run or request is None:
        return InputResult(head)
    last = _find_last_sent(head, position)
    sent = (last.retry_sequence, last.retry_index) if last else (0, 0)
    waits = last is not None and last.due is not None
    if (message.retry_sequence, message.retry_index) != sent or waits:
        return InputResult(head)
    sequence = head.sequence + 1
    due = now + message.delay if message.delay > 0 else None
    retry = Retry(position, request, sequence, message.retry_sequence, message.retry_index + 1, due)
    others = tuple(other for other in head.retries if other.position != position)
    send = () if due is not None else (_make_send(retry),)
    next_at = now if due is None else due
    event = events.AttemptError(position, message.failure, message.meta, message.execution, next_at)
    return InputResult(replace(head, retries=(*others, retry)), (event,), send)


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
    armed = None if message.due == head.armed else head.armed
    fired = sorted((timer for timer in head.timers if timer.due <= now), key=lambda timer: (timer.due, timer.position))
    due = [retry for retry in head.retries if retry.due is not None and retry.due <= now]
    if not fired and not due:
        if message.due == head.armed and message.due > now:
            return InputResult(head, handling=_put_off(message, now, headers))
        return InputResult(head if armed == head.armed else replace(head, armed=armed))
    timers = tuple(timer for timer in head.timers if timer.due > now)
    still_open, happened = head.open, list[Event]()
    timed_out = set[int]()
    for timer in fired:
        if not timer.task:
            happened.append(events.TimerFired(timer.position))
        elif (remaining := positions.close(still_open, timer.position)) is not None:
            still_open = remaining
            timed_out.add(timer.position)
            happened.append(events.TaskTimeout(timer.position))
    retries, sends = list[Retry](), list[Effect]()
    if timed_out and (stopped := cancel_positions(head, timed_out)) is not None:
        sends.append(stopped)
    for retry in head.retries:
        if retry.position in timed_out:
            continue
        if retry in due:
            retry = replace(retry, due=None)
            sends.append(_make_send(retry))
        retries.append(retry)
    pending = head.pending or (head.sequence + 1 if happened else 0)
    changed = replace(head, armed=armed, timers=timers, open=still_open, retries=tuple(retries), pending=pending)
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
