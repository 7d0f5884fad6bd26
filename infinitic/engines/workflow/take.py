"""What one input does to an instance. Every input is recognised by what it says: its position, or its mark (S13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from infinitic.engines.effects import ActivateElsewhere, Answer, Bury, Confirm, Effect, Postpone, Refuse
from infinitic.engines.state import SCHEMA, Method, WorkflowHead
from infinitic.engines.validate import check_decision
from infinitic.engines.workflow import tasks
from infinitic.engines.workflow.decide import decide, note_failures, stall
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.taken import Taken, stimulate
from infinitic.ids import number_of
from infinitic.messages import engine as inputs, events
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import Input
from infinitic.storage import StateKey

WAITS = "infinitic-waits"
"""The header that counts how often an input has waited for the start of its instance."""
WAIT_SECONDS = (0.1, 0.2, 0.35, 0.6, 1.1, 2.0, 3.7)
"""Counted, not timed: while the engine is down, nobody has looked whether the start is there."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_MARKED = (inputs.CallMethod, inputs.Signal, inputs.Cancel, inputs.RetryWorkflowTask)
"""Inputs that are recognised by their mark, which is kept for the deduplication window.

Older ones are refused: the mark may be gone, and a duplicate would not be recognised.
"""


def take(
    head: WorkflowHead | None,
    key: StateKey,
    message: Input,
    now: float,
    window: float,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> Taken:
    """Take one input of the instance `key`. Raises `InvalidInput` for one that cannot be.

    Args:
        head: the instance; None: there is none.
        now: seconds since the Unix epoch.
        window: the deduplication window, in seconds: how long marks are kept.
        headers: those of the message, in which one that was postponed says so.
    """
    if head is None:
        return _take_without_state(key, message, now, window, headers)
    if head.closed_at is not None:
        return _take_closed(head, message)
    if now - message.made_at > window and isinstance(message, _MARKED):
        return Taken(head, handling=Bury(f"This message is older than the deduplication window of {window:.0f} s"))
    if type(message) is inputs.Wake:
        return tasks.wake(head, message, now, headers)
    return _HANDLERS[type(message)](head, message, now)


def _take_without_state(key: StateKey, message: Input, now: float, window: float, headers: Mapping[str, str]) -> Taken:
    if isinstance(message, inputs.Start):
        if now - message.made_at > window:
            return Taken(None, handling=Bury(f"This start is older than the deduplication window of {window:.0f} s"))
        return _create(key, message, now)
    reply_to: ReplyTo | None = getattr(message, "reply_to", None)
    waits = isinstance(message, inputs.Signal | inputs.CallMethod | inputs.Cancel | inputs.Wait | inputs.Describe)
    if isinstance(message, inputs.Wait) and message.stop:
        return Taken(None)
    waited = headers.get(WAITS, "0")
    if waits and (count := int(waited) if waited.isdecimal() and len(waited) < 3 else 0) < len(WAIT_SECONDS):
        return Taken(None, handling=Postpone(now + WAIT_SECONDS[count], WAITS, str(count + 1)))
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
            if message.stop:
                return Taken(head)
            if method_id is None or method_id == main.id:
                return Taken(head, replies=(Answer(reply_to, main.id, main.ended),))
            return Taken(head, replies=(Refuse(reply_to),))
        case inputs.Describe():
            return _describe(head, message, 0.0)
        case inputs.CallMethod() | inputs.Signal() | inputs.Cancel() | inputs.RetryWorkflowTask():
            return Taken(head, replies=(Refuse(message.reply_to),) if message.reply_to is not None else ())
        case _:
            return Taken(head)


def _start(head: WorkflowHead, message: inputs.Start, now: float) -> Taken:
    return Taken(head)


def _call_method(head: WorkflowHead, message: inputs.CallMethod, now: float) -> Taken:
    waiters = (message.reply_to,) if message.reply_to is not None else ()
    methods = (*head.methods, Method(message.method_id, message.method, waiters))
    event = events.MethodStarted(message.method_id, message.method, message.arguments)
    return stimulate(head, event, mark=message.method_id, methods=methods)


def _signal(head: WorkflowHead, message: inputs.Signal, now: float) -> Taken:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    return stimulate(head, events.SignalReceived(message.channel, message.value), *confirm, mark=message.signal_id)


def _cancel(head: WorkflowHead, message: inputs.Cancel, now: float) -> Taken:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    return stimulate(head, events.CancelRequested(), *confirm, mark=message.request_id, canceling=True)


def _wait(head: WorkflowHead, message: inputs.Wait, now: float) -> Taken:
    method_id = message.method_id or head.methods[0].id
    for index, method in enumerate(head.methods):
        if method.id != method_id:
            continue
        if method.ended:
            return Taken(head, replies=() if message.stop else (Answer(message.reply_to, method.id, method.ended),))
        waiters = _waiters(method.waiters, message)
        if waiters == method.waiters:
            return Taken(head)
        methods = (*head.methods[:index], replace(method, waiters=waiters), *head.methods[index + 1 :])
        return Taken(replace(head, methods=methods))
    return Taken(head, replies=() if message.stop else (Refuse(message.reply_to),))


def _waiters(waiters: tuple[ReplyTo, ...], message: inputs.Wait) -> tuple[ReplyTo, ...]:
    """Who waits after this input. A client that has one request for a method at a time is there once.

    Its requests are numbered: a newer one takes the place of those before. One that seems to be older is a repeat, or
    the clock of the client was set back while it was down: it waits beside the newer one.
    """
    mine = message.reply_to
    if not message.single:
        return waiters if mine in waiters else (*waiters, mine)
    number = number_of(mine.request)
    newer = tuple(each for each in waiters if each.client == mine.client and number_of(each.request) > number)
    others = tuple(each for each in waiters if each.client != mine.client)
    if message.stop:
        return others + newer
    return waiters if newer and mine in waiters else (*others, *newer, mine)


def _describe(head: WorkflowHead, message: inputs.Describe, now: float) -> Taken:
    return Taken(head, replies=(describe(head, message.reply_to),))


def _retry_workflow_task(head: WorkflowHead, message: inputs.RetryWorkflowTask, now: float) -> Taken:
    """Run a stalled instance again. An activation that runs elsewhere is asked for once more: it may be lost there."""
    outbox: list[Effect] = []
    if head.deciding:
        outbox.append(ActivateElsewhere(head.activation, head.deciding))
    if message.reply_to is not None:
        outbox.append(Confirm(message.reply_to))
    epoch = head.epoch if head.stalled is None else head.epoch + 1
    return Taken(replace(head, stalled=None, epoch=epoch), outbox=tuple(outbox), mark=message.request_id)


def _decision(head: WorkflowHead, message: inputs.Decision, now: float) -> Taken:
    """What the code asked for on another worker. One that answers no running activation is a repeat."""
    if not head.deciding or message.activation != head.activation:
        return Taken(head)
    if message.epoch is not None and message.epoch != head.epoch:
        return Taken(head)
    if message.stalled is not None:
        return Taken(stall(head, message.stalled))
    check_decision(head, message)
    decided, outbox = decide(head, message.commands, message.version, message.retention, taken=message.taken)
    decided = note_failures(decided, message.failures)
    happened: tuple[events.Event, ...] = message.commands
    if message.taken is not None:
        happened = (events.Partial(message.taken), *message.commands)
    return Taken(replace(decided, digest=message.digest, stalled=None), happened, tuple(outbox))


_HANDLERS: dict[type[Input], Callable[[WorkflowHead, Any, float], Taken]] = {
    inputs.Start: _start,
    inputs.CallMethod: _call_method,
    inputs.Signal: _signal,
    inputs.Cancel: _cancel,
    inputs.TaskCompleted: tasks.task_completed,
    inputs.TaskFailed: tasks.task_failed,
    inputs.AttemptFailed: tasks.attempt_failed,
    inputs.Wait: _wait,
    inputs.Describe: _describe,
    inputs.RetryWorkflowTask: _retry_workflow_task,
    inputs.Decision: _decision,
}
