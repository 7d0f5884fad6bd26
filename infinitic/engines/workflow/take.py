"""What one input does to an instance.

Every input is recognised when it comes again: by its position, or by its deduplication id (S13).
Each input has a handler of its name. The table of handlers is at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from infinitic.engines.effects import (
    Answer,
    Confirm,
    Defer,
    Effect,
    Postpone,
    Refuse,
    Reply,
    SendToDeadLetters,
    TellCanceled,
)
from infinitic.engines.state import SCHEMA, Method, WorkflowHead
from infinitic.engines.validate import check_decision
from infinitic.engines.workflow import queries, remotes, reopening, rerunning, tasks
from infinitic.engines.workflow.cancel_task import cancel_task
from infinitic.engines.workflow.claimed_starts import claim_first
from infinitic.engines.workflow.complete_timers import complete_timers
from infinitic.engines.workflow.decide import decide, note_failures, stall
from infinitic.engines.workflow.delegated import complete_task, fail_task, task_delegated
from infinitic.engines.workflow.delete import delete
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.input_result import InputResult, stimulate
from infinitic.engines.workflow.refusals import Deduplicated, is_running, refuse
from infinitic.engines.workflow.remote_messages import PATIENT
from infinitic.engines.workflow.runs import begin_run
from infinitic.engines.workflow.tags import Reopening, add_tags, free_claim, note_start, refuse_by_tag
from infinitic.engines.workflow.terminate import terminate
from infinitic.ids import read_request_number
from infinitic.limits import MAX_METHODS, MAX_WAITERS
from infinitic.messages import engine as inputs, events
from infinitic.messages.client import ReplyTo
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.engine import Input
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey

WAITS = "infinitic-waits"
"""The header that counts how often an input has waited for the start of its instance."""
WAIT_SECONDS = (0.1, 0.2, 0.35, 0.6, 1.1, 2.0, 3.7)
"""Seconds to wait, the first time, the second time, and so on.

The waits are counted, and not measured from when the input was sent: while no engine runs, nobody
has looked whether the start is there.
"""

ASK_AGAIN_SECONDS = 5.0
"""When a client asks again if too many wait for a method."""
MORE_WAITS = 60
"""How often a patient message waits after that, see `remote_messages.PATIENT`."""
MORE_SECONDS = 10.0
"""Seconds of each of these waits."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_WAIT_FOR_START = (
    inputs.Signal,
    inputs.CallMethod,
    inputs.Cancel,
    inputs.Wait,
    inputs.Describe,
    inputs.AskQuery,
    inputs.Terminate,
    inputs.CompleteTimers,
)
"""Inputs that may have overtaken the start of their instance."""


def take(
    head: WorkflowHead | None,
    key: StateKey,
    message: Input,
    now: float,
    window: float,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> InputResult:
    """Take one input.

    Args:
        head: the instance; None: there is none.
        key: names the instance.
        message: the input.
        now: seconds since the Unix epoch.
        window: the deduplication window, in seconds: how long deduplication ids are kept.
        headers: the headers of the message. They say how often it was postponed.

    Raises:
        InvalidInput: the message contradicts the state, so it belongs in the dead letters.
    """
    if head is None:
        return _take_without_state(key, message, now, window, headers)
    if type(message) is inputs.RemoteSettled and message.epoch:
        handling = reopening.wait_for_reopening(head, message, now, headers)
        if handling is not None:
            return InputResult(head, handling=handling)
    if head.closed_at is not None and type(message) not in reopening.TAKEN_WHEN_CLOSED:
        return _take_closed(head, message, too_old=now - message.made_at > window)
    if now - message.made_at > window and isinstance(message, Deduplicated):
        if isinstance(message, Reopening) and message.claimed > head.epoch:
            # Its custom id is claimed by now, and is freed again. It was not handled before: that
            # would have raised the epoch.
            return reopening.reject_too_old(head, message, window)
        if type(message) is inputs.ChildReopened:
            # Nobody asked for it, and nobody waits for an answer.
            return InputResult(head)
        return InputResult(head, handling=_give_up("message", window))
    if type(message) is inputs.Wake:
        return tasks.wake(head, message, now, headers)
    if type(message) is inputs.Cancel:
        handling = _wait_for_call(head, message, now, headers)
        if handling is not None:
            return InputResult(head, handling=handling)
    if type(message) is inputs.RetryWorkflowTask and reopening.POSTPONED in headers:
        handling = rerunning.wait_for_activation(head, now)
        if handling is not None:
            return InputResult(head, handling=handling)
    return _HANDLERS[type(message)](head, message, now)


def _give_up(what: str, window: float) -> SendToDeadLetters:
    return SendToDeadLetters(
        f"This {what} is older than the deduplication window of {window:.0f} s, so the engine cannot know whether it "
        "was handled before. If it was not, send it anew"
    )


def _take_without_state(
    key: StateKey, message: Input, now: float, window: float, headers: Mapping[str, str]
) -> InputResult:
    if isinstance(message, inputs.Start):
        if now - message.made_at > window:
            return InputResult(None, handling=_give_up("start", window))
        claim = claim_first(message, now, headers)
        if claim is not None:
            return InputResult(None, handling=claim)
        return _create(key, message, now)
    reply_to: ReplyTo | None = getattr(message, "reply_to", None)
    waits = isinstance(message, _WAIT_FOR_START)
    if isinstance(message, inputs.Wait) and message.stop:
        return InputResult(None)
    postponement = _postpone(now, headers) if waits else None
    if postponement is not None:
        return InputResult(None, handling=postponement)
    refusals: tuple[Reply, ...] = refuse_by_tag(None, message) or free_claim(message)
    return InputResult(None, replies=(*refusals, Refuse(reply_to)) if reply_to is not None else refusals)


def _postpone(now: float, headers: Mapping[str, str]) -> Postpone | None:
    """Put an input off that may have overtaken what it is about; None if it has waited enough."""
    waited = headers.get(WAITS, "0")
    count = int(waited) if waited.isdecimal() and len(waited) < 3 else 0
    if count >= len(WAIT_SECONDS) + (MORE_WAITS if PATIENT in headers else 0):
        return None
    seconds = WAIT_SECONDS[count] if count < len(WAIT_SECONDS) else MORE_SECONDS
    return Postpone(now + seconds, WAITS, str(count + 1))


def _wait_for_call(
    head: WorkflowHead, message: inputs.Cancel, now: float, headers: Mapping[str, str]
) -> Postpone | None:
    """Put the cancellation of a method off that may have overtaken its call.

    Some brokers lose the order of a key when a consumer is gone. The method would begin, and nobody
    would cancel it. Who waits for an answer is told at once that no such method runs.
    """
    method_id = message.method_id
    if not method_id or method_id == head.id or message.reply_to is not None or head.canceling:
        return None
    return None if is_running(head, method_id) else _postpone(now, headers)


def _create(key: StateKey, message: inputs.Start, now: float) -> InputResult:
    waiters = (message.reply_to,) if message.reply_to is not None else ()
    head = WorkflowHead(
        schema=SCHEMA,
        id=key.id,
        name=key.name,
        started_at=now,
        methods=(Method(key.id, message.method, waiters),),
        meta=message.meta,
        pending=1,
        tagged=bool(message.tags),
        unique=bool(message.custom_id),
        epoch=message.epoch,
    )
    started = events.MethodStarted(key.id, message.method, message.arguments, now, by=message.by)
    return InputResult(head, (*note_start(message), started), add_tags(head))


def _take_closed(head: WorkflowHead, message: Input, *, too_old: bool) -> InputResult:
    match message:
        case inputs.Wait(reply_to=reply_to, method_id=method_id):
            main = head.methods[0]
            if message.stop:
                return InputResult(head)
            if method_id is None or method_id == main.id:
                return InputResult(head, replies=(Answer(reply_to, main.id, main.ended),))
            return InputResult(head, replies=(Refuse(reply_to),))
        case inputs.Describe():
            return _describe(head, message, 0.0)
        case inputs.Decision() if head.probe is not None:
            return _decision(head, message, 0.0)
        case inputs.AskQuery():
            return queries.ask_query(head, message, 0.0)
        case inputs.Asked():
            return queries.forward_answer(head, message, 0.0)
        case inputs.Terminate() if head.status is WorkflowStatus.TERMINATED:
            # Who terminates it twice has what he wants. A repeat may be answered before the first.
            told: tuple[Reply, ...] = (Confirm(message.reply_to),) if message.reply_to is not None else ()
            return InputResult(head, replies=(*refuse_by_tag(head, message), *told))
        case _:
            refusals: tuple[Reply, ...] = refuse_by_tag(head, message)
            if not isinstance(message, Deduplicated):
                return InputResult(head, replies=refusals)
            return refuse(head, message, refusals, again=reopening.may_reopen(head) and not too_old)


def _start(head: WorkflowHead, message: inputs.Start, now: float) -> InputResult:
    return InputResult(head)


def _call_method(head: WorkflowHead, message: inputs.CallMethod, now: float) -> InputResult:
    if head.canceling:
        # It would run beside the clean-up of the others, and nobody would cancel it. The id is
        # kept: a repeat of an earlier call must not be answered so.
        told = (TellCanceled(message.reply_to),) if message.reply_to is not None else ()
        return InputResult(replace(head), outbox=told, deduplication_id=message.method_id)
    if len(head.methods) >= MAX_METHODS:
        reason = f"{len(head.methods):,} methods of this workflow run, and no more than {MAX_METHODS:,} can"
        return InputResult(head, handling=SendToDeadLetters(reason))
    waiters = (message.reply_to,) if message.reply_to is not None else ()
    methods = (*head.methods, Method(message.method_id, message.method, waiters))
    event = events.MethodStarted(message.method_id, message.method, message.arguments, now, message.meta, message.by)
    return stimulate(head, event, deduplication_id=message.method_id, methods=methods)


def _signal(head: WorkflowHead, message: inputs.Signal, now: float) -> InputResult:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    event = events.SignalReceived(message.channel, message.value, now, message.meta, message.by)
    return stimulate(head, event, *confirm, deduplication_id=message.signal_id)


def _cancel(head: WorkflowHead, message: inputs.Cancel, now: float) -> InputResult:
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    if head.canceling:
        # It is told once: a second time would interrupt its clean-up.
        return InputResult(replace(head), outbox=confirm, deduplication_id=message.request_id)
    if message.method_id:
        if not is_running(head, message.method_id):
            return refuse(head, message, again=True)
        event = events.CancelRequested(message.method_id, now, message.by)
        return stimulate(head, event, *confirm, deduplication_id=message.request_id)
    cleanup = -1 if head.deciding else head.position
    return stimulate(
        head,
        events.CancelRequested(at=now, by=message.by),
        *confirm,
        deduplication_id=message.request_id,
        canceling=True,
        cleanup=cleanup,
    )


def _wait(head: WorkflowHead, message: inputs.Wait, now: float) -> InputResult:
    method_id = message.method_id or head.methods[0].id
    for index, method in enumerate(head.methods):
        if method.id != method_id:
            continue
        if method.ended:
            return InputResult(
                head, replies=() if message.stop else (Answer(message.reply_to, method.id, method.ended),)
            )
        waiters = _list_waiters(method.waiters, message)
        if waiters == method.waiters:
            return InputResult(head)
        # An instance that waits cannot ask again.
        if (
            len(waiters) > max(MAX_WAITERS, len(method.waiters))
            and not message.reply_to.workflow
            and sum(not each.workflow for each in waiters) > MAX_WAITERS
        ):
            return InputResult(head, replies=(Defer(message.reply_to, ASK_AGAIN_SECONDS),))
        methods = (*head.methods[:index], replace(method, waiters=waiters), *head.methods[index + 1 :])
        return InputResult(replace(head, methods=methods))
    return InputResult(head, replies=() if message.stop else (Refuse(message.reply_to),))


def _list_waiters(waiters: tuple[ReplyTo, ...], message: inputs.Wait) -> tuple[ReplyTo, ...]:
    """List who waits for a method after this input.

    A client that numbers its requests has one request at a time for a method. So its newer request
    replaces the older ones. A request with a smaller number may be a duplicate, or the clock of the
    client was set back while it was down. So it is kept beside the newer one.
    """
    mine = message.reply_to
    if not message.single:
        return waiters if mine in waiters else (*waiters, mine)
    number = read_request_number(mine.request)
    newer = tuple(each for each in waiters if each.client == mine.client and read_request_number(each.request) > number)
    others = tuple(each for each in waiters if each.client != mine.client)
    if message.stop:
        return others + newer
    return waiters if newer and mine in waiters else (*others, *newer, mine)


def _describe(head: WorkflowHead, message: inputs.Describe, now: float) -> InputResult:
    return InputResult(head, replies=(describe(head, message.reply_to),))


def _unpark(head: WorkflowHead, message: inputs.Unpark, now: float) -> InputResult:
    """Let an instance take messages again.

    The id is kept also if it is not parked: a repeat must not unpark it later.
    """
    confirm = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    # A wake that came meanwhile is a dead letter, so `conclude` arms a new one.
    armed = None if head.parked else head.armed
    return InputResult(replace(head, parked=False, armed=armed), outbox=confirm, deduplication_id=message.request_id)


def _decision(head: WorkflowHead, message: inputs.Decision, now: float) -> InputResult:
    """Apply what the code asked for on another worker.

    A decision that answers no running activation is a repeat, and changes nothing.
    """
    if head.probe is not None and message.stalled is not None and (not head.deciding or head.stalled is not None):
        return reopening.fail_probe(head, message)
    if not head.deciding or message.activation != head.activation:
        return InputResult(head)
    if message.epoch is not None and message.epoch != head.epoch:
        return InputResult(head)
    if message.stalled is not None:
        return InputResult(stall(head, message.stalled))
    check_decision(head, message)
    outbox: Sequence[Effect]
    decided, outbox = decide(
        head, message.commands, message.version, message.retention, handed=message.handed, cleanup=message.cleanup
    )
    decided = note_failures(decided, message.failures)
    happened: Sequence[events.Event] = message.commands
    if message.handed is not None:
        happened = (events.Partial(message.handed), *message.commands)
    decided = replace(decided, digest=message.digest, stalled=None)
    begun, happened, outbox = begin_run(decided, message.carry, happened, outbox, now)
    return InputResult(begun, tuple(happened), tuple(outbox))


_HANDLERS: dict[type[Input], Callable[[WorkflowHead, Any, float], InputResult]] = {
    inputs.Start: _start,
    inputs.CallMethod: _call_method,
    inputs.Signal: _signal,
    inputs.Cancel: _cancel,
    inputs.TaskCompleted: tasks.task_completed,
    inputs.TaskFailed: tasks.task_failed,
    inputs.AttemptFailed: tasks.attempt_failed,
    inputs.Wait: _wait,
    inputs.Describe: _describe,
    inputs.RetryWorkflowTask: rerunning.retry_workflow_task,
    inputs.Decision: _decision,
    inputs.Unpark: _unpark,
    inputs.AskQuery: queries.ask_query,
    inputs.Asked: queries.forward_answer,
    inputs.Terminate: terminate,
    inputs.Delete: delete,
    inputs.RemoteSettled: remotes.remote_settled,
    inputs.CompleteTimers: complete_timers,
    inputs.RetryTasks: reopening.retry_tasks,
    inputs.Probed: reopening.take_findings,
    inputs.ChildReopened: reopening.child_reopened,
    inputs.CancelTask: cancel_task,
    TaskDelegated: task_delegated,
    CompleteTask: complete_task,
    FailTask: fail_task,
}
