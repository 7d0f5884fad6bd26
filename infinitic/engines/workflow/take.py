"""What one input does to an instance. Every input is recognised by what it says: its position, or its mark (S13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import (
    ActivateElsewhere,
    Answer,
    Bury,
    Confirm,
    Effect,
    Handling,
    Postpone,
    Refuse,
    Reply,
    SendTask,
)
from infinitic.engines.state import SCHEMA, Method, Retry, WorkflowHead
from infinitic.engines.workflow.decide import decide, stall
from infinitic.engines.workflow.describe import describe
from infinitic.messages import engine as inputs, events
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import Input
from infinitic.messages.events import Event
from infinitic.storage import StateKey

OVERTAKEN_SECONDS = 10.0
OVERTAKEN_DELAY_SECONDS = 1.0

_MARKED = (inputs.CallMethod, inputs.Signal, inputs.Cancel, inputs.RetryWorkflowTask)
"""Recognised by their mark, which is kept for the horizon: an older one could be a repeat that nobody recognises."""


class Taken(msgspec.Struct, frozen=True):
    """The head after an input, and what it caused.

    `events` go to the history and `outbox` to the outbox of the transition; `replies` are sent without being kept, as
    nothing changes by them. `mark` is the id by which this input is recognised when it comes again. `handling` is
    what becomes of an input that is not taken at all.
    """

    head: WorkflowHead | None
    events: tuple[Event, ...] = ()
    outbox: tuple[Effect, ...] = ()
    replies: tuple[Reply, ...] = ()
    mark: str | None = None
    handling: Handling | None = None


def take(head: WorkflowHead | None, key: StateKey, message: Input, now: float, horizon: float) -> Taken:
    """Take one input of the instance `key`. `now` is in seconds since the Unix epoch, `horizon` in seconds."""
    if head is None:
        return _take_without_state(key, message, now, horizon)
    if head.closed:
        return _take_closed(head, message)
    if now - message.made_at > horizon and isinstance(message, _MARKED):
        return Taken(head, handling=Bury(f"This message is older than the horizon of {horizon:.0f} s"))
    return _HANDLERS[type(message)](head, message, now)


def _take_without_state(key: StateKey, message: Input, now: float, horizon: float) -> Taken:
    if isinstance(message, inputs.Start):
        if now - message.made_at > horizon:
            return Taken(None, handling=Bury(f"This start is older than the horizon of {horizon:.0f} s"))
        return _create(key, message, now)
    reply_to: ReplyTo | None = getattr(message, "reply_to", None)
    waits = isinstance(message, inputs.Signal | inputs.CallMethod | inputs.Cancel | inputs.Wait | inputs.Describe)
    if waits and now - message.made_at < OVERTAKEN_SECONDS:
        return Taken(None, handling=Postpone(OVERTAKEN_DELAY_SECONDS))
    return Taken(None, replies=(Refuse(reply_to),) if reply_to is not None else ())


def _create(key: StateKey, message: inputs.Start, now: float) -> Taken:
    waiters = (message.reply_to,) if message.reply_to is not None else ()
    head = WorkflowHead(
        schema=SCHEMA,
        id=key.id,
        name=key.name,
        started_at=now,
        methods=(Method(key.id, message.method, waiters),),
        meta=message.meta,
        pending=1,
    )
    return Taken(head, (events.MethodStarted(key.id, message.method, message.arguments),))


def _take_closed(head: WorkflowHead, message: Input) -> Taken:
    match message:
        case inputs.Wait(reply_to=reply_to, method_id=method_id):
            main = head.methods[0]
            if method_id is None or method_id == main.id:
                return Taken(head, replies=(Answer(reply_to, main.id, main.ended),))
            return Taken(head, replies=(Refuse(reply_to),))
        case inputs.Describe():
            return _describe(head, message, 0.0)
        case inputs.CallMethod() | inputs.Signal() | inputs.Cancel() | inputs.RetryWorkflowTask():
            return Taken(head, replies=(Refuse(message.reply_to),) if message.reply_to is not None else ())
        case _:
            return Taken(head)


def _stimulate(head: WorkflowHead, event: Event, *effects: Effect, mark: str | None = None, **changes: Any) -> Taken:
    """The head with one more stimulus that its code has to be handed."""
    pending = head.pending or head.sequence + 1
    return Taken(replace(head, pending=pending, **changes), (event,), effects, mark=mark)


def _start(head: WorkflowHead, message: inputs.Start, now: float) -> Taken:
    return Taken(head)


def _call_method(head: WorkflowHead, message: inputs.CallMethod, now: float) -> Taken:
    waiters = (message.reply_to,) if message.reply_to is not None else ()
    methods = (*head.methods, Method(message.method_id, message.method, waiters))
    event = events.MethodStarted(message.method_id, message.method, message.arguments)
    return _stimulate(head, event, mark=message.method_id, methods=methods)


def _signal(head: WorkflowHead, message: inputs.Signal, now: float) -> Taken:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    return _stimulate(head, events.SignalReceived(message.channel, message.value), *confirm, mark=message.signal_id)


def _cancel(head: WorkflowHead, message: inputs.Cancel, now: float) -> Taken:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    return _stimulate(head, events.CancelRequested(), *confirm, mark=message.request_id, canceling=True)


def _settle(head: WorkflowHead, position: int, event: Event) -> Taken:
    """A task is settled: its position is closed, with its timeout and its retries. A duplicate changes nothing."""
    still_open = positions.close(head.open, position)
    if still_open is None:
        return Taken(head)
    pending = head.pending or head.sequence + 1
    if not head.timers and not head.retries:
        return Taken(replace(head, open=still_open, pending=pending), (event,))
    timers = tuple(timer for timer in head.timers if timer.position != position)
    retries = tuple(retry for retry in head.retries if retry.position != position)
    return Taken(replace(head, open=still_open, timers=timers, retries=retries, pending=pending), (event,))


def _task_completed(head: WorkflowHead, message: inputs.TaskCompleted, now: float) -> Taken:
    if message.run != head.run:
        return Taken(head)
    return _settle(head, message.position, events.TaskResult(message.position, message.value))


def _last_sent(head: WorkflowHead, position: int) -> Retry | None:
    return next((retry for retry in head.retries if retry.position == position), None)


def _task_failed(head: WorkflowHead, message: inputs.TaskFailed, now: float) -> Taken:
    last = _last_sent(head, message.position)
    if message.run != head.run or message.retry_sequence != (last.retry_sequence if last else 0):
        return Taken(head)
    return _settle(head, message.position, events.TaskError(message.position, message.failure))


def _attempt_failed(head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> Taken:
    position = message.position
    request = positions.request_of(head.open, position)
    if message.run != head.run or request is None:
        return Taken(head)
    last = _last_sent(head, position)
    sent = (last.retry_sequence, last.retry_index) if last else (0, 0)
    waits = last is not None and last.due is not None
    if (message.retry_sequence, message.retry_index) != sent or waits:
        return Taken(head)
    sequence = head.sequence + 1
    due = now + message.delay if message.delay > 0 else None
    retry = Retry(position, request, sequence, message.retry_sequence, message.retry_index + 1, due)
    others = tuple(other for other in head.retries if other.position != position)
    send = () if due is not None else (_send(retry),)
    event = events.AttemptFailed(position, message.failure, message.meta)
    return Taken(replace(head, retries=(*others, retry)), (event,), send)


def _send(retry: Retry) -> SendTask:
    return SendTask(retry.position, retry.request, retry.retry_sequence, retry.retry_index, retry.failure)


def _wake(head: WorkflowHead, message: inputs.Wake, now: float) -> Taken:
    """Fire what is due by now. The armed wake is used up by coming; `conclude` arms the next one."""
    armed = None if message.due == head.armed else head.armed
    fired = sorted((timer for timer in head.timers if timer.due <= now), key=lambda timer: (timer.due, timer.position))
    due = [retry for retry in head.retries if retry.due is not None and retry.due <= now]
    if not fired and not due:
        return Taken(head if armed == head.armed else replace(head, armed=armed))
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
    for retry in head.retries:
        if retry.position in timed_out:
            continue
        if retry in due:
            retry = replace(retry, due=None)
            sends.append(_send(retry))
        retries.append(retry)
    pending = head.pending or (head.sequence + 1 if happened else 0)
    changed = replace(head, armed=armed, timers=timers, open=still_open, retries=tuple(retries), pending=pending)
    return Taken(changed, tuple(happened), tuple(sends))


def _wait(head: WorkflowHead, message: inputs.Wait, now: float) -> Taken:
    method_id = message.method_id or head.methods[0].id
    for index, method in enumerate(head.methods):
        if method.id != method_id:
            continue
        if method.ended:
            return Taken(head, replies=(Answer(message.reply_to, method.id, method.ended),))
        if message.reply_to in method.waiters:
            return Taken(head)
        waiting = replace(method, waiters=(*method.waiters, message.reply_to))
        methods = (*head.methods[:index], waiting, *head.methods[index + 1 :])
        return Taken(replace(head, methods=methods))
    return Taken(head, replies=(Refuse(message.reply_to),))


def _describe(head: WorkflowHead, message: inputs.Describe, now: float) -> Taken:
    return Taken(head, replies=(describe(head, message.reply_to),))


def _retry_workflow_task(head: WorkflowHead, message: inputs.RetryWorkflowTask, now: float) -> Taken:
    outbox: list[Effect] = []
    if head.stalled is not None and head.deciding:
        outbox.append(ActivateElsewhere(head.activation, head.deciding))
    if message.reply_to is not None:
        outbox.append(Confirm(message.reply_to))
    return Taken(replace(head, stalled=None), outbox=tuple(outbox), mark=message.request_id)


def _decision(head: WorkflowHead, message: inputs.Decision, now: float) -> Taken:
    """What the code asked for on another worker. One that answers no running activation is a repeat."""
    if not head.deciding or message.activation != head.activation:
        return Taken(head)
    if message.stalled is not None:
        return Taken(stall(head, message.stalled))
    decided, outbox = decide(head, message.commands, message.version, message.retention)
    return Taken(replace(decided, digest=message.digest, stalled=None), message.commands, tuple(outbox))


_HANDLERS: dict[type[Input], Callable[[WorkflowHead, Any, float], Taken]] = {
    inputs.Start: _start,
    inputs.CallMethod: _call_method,
    inputs.Signal: _signal,
    inputs.Cancel: _cancel,
    inputs.TaskCompleted: _task_completed,
    inputs.TaskFailed: _task_failed,
    inputs.AttemptFailed: _attempt_failed,
    inputs.Wake: _wake,
    inputs.Wait: _wait,
    inputs.Describe: _describe,
    inputs.RetryWorkflowTask: _retry_workflow_task,
    inputs.Decision: _decision,
}
