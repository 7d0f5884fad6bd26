"""What the code of a workflow asks for in an activation, applied to the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from infinitic.engines import positions, retries as all_retries, timers as all_timers
from infinitic.engines.effects import Answer, ArmWake, CancelSent, Effect, SendRemote, SendTask
from infinitic.engines.state import Method, TimerKind, WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.workflow.cancel import cancel_positions, cancel_rest
from infinitic.engines.workflow.transition import has_returned
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import (
    CallRemote,
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    ContinueRun,
    EndMethod,
    FailMethod,
    RecordInline,
    RecordPatch,
    RefuseCall,
    ScheduleTask,
    SignalRemote,
    StartChild,
    StartTimer,
)
from infinitic.messages.events import Activated
from infinitic.messages.outcomes import WorkflowStatus

MAX_FAILURES = 5
"""Failures of background tasks that a head keeps."""
MAX_FAILURE = 700
"""Characters of each."""
MAX_TOLD = 1000
"""Instances that a head keeps, to tell them if the method that has failed runs again."""


def begin(head: WorkflowHead, now: float, *, each: bool) -> Activated:
    """Open the next activation, in which the stimuli that wait are handed to the code.

    Args:
        head: the instance.
        now: seconds since the Unix epoch. The time that the code sees never goes back (S16).
        each: whether there may be several stimuli. They are handed over one by one then (S19).
    """
    at = now if now > head.at else head.at
    return Activated(head.activation + 1, at if head.rerun_at is None else head.rerun_at, each)


def begin_elsewhere(head: WorkflowHead, activated: Activated) -> WorkflowHead:
    """Note in the head that another worker runs this activation."""
    return replace(head, activation=activated.number, at=activated.at, pending=0, deciding=head.pending, rerun_at=None)


def stall(head: WorkflowHead, reason: str) -> WorkflowHead:
    """Note that the code cannot be run. Everything is kept, and nothing runs until a retry (S34).

    Args:
        head: the instance.
        reason: why, for people. It is cut to `STALL_REASON` bytes.
    """
    return replace(head, stalled=fit_text(reason, STALL_REASON))


def note_failures(head: WorkflowHead, failures: Sequence[str]) -> WorkflowHead:
    """Note what background tasks of the code have raised and nobody has awaited.

    Args:
        head: the instance, after an activation.
        failures: one line each. The first `MAX_FAILURES` of them are kept, and cut to `MAX_FAILURE`
            characters.
    """
    kept = tuple(text[:MAX_FAILURE] for text in failures[:MAX_FAILURES])
    return head if kept == head.failures else replace(head, failures=kept)


def decide(
    head: WorkflowHead,
    commands: Sequence[Command],
    version: int,
    retention: float,
    activated: Activated | None = None,
    handed: int | None = None,
    cleanup: int | None = None,
) -> tuple[WorkflowHead, list[Effect]]:
    """Apply the commands of an activation. Returns the new head, and the effects of the commands.

    The commands go to the segment after the last one. The new head counts that segment already, so
    it need not be copied once more; `conclude` takes it back if there is nothing to write.

    Args:
        head: the instance before.
        commands: what the code asked for, in order.
        version: that of the code.
        retention: seconds to keep the instance once it is closed.
        activated: the activation, if it was opened and run in this very transition; None if it was
            opened in an earlier one, and run by another worker.
        handed: how many of the stimuli were handed over, if others wait for the next activation.
        cleanup: once the code has seen that the instance is cancelled, the next free position at
            that moment. None: it has not, or was run by a release that does not tell.
    """
    sequence = head.sequence + 1
    scheduled: list[int] = []
    remotes: dict[int, bool] = {}
    cancelled: list[int] = []
    timers: list[Timer] = []
    ended: list[EndMethod] = []
    position, continuing, tags_tasks = head.position, head.continuing, head.tags_tasks
    for command in commands:
        match command:
            case ScheduleTask():
                position = command.position + 1
                scheduled.append(command.position)
                if command.timeout_at is not None:
                    timers.append(Timer(command.timeout_at, command.position, TimerKind.TIMEOUT))
                if command.tags:
                    tags_tasks = True
            case CompleteMethod() | FailMethod() | CancelMethod():
                ended.append(command)
            case StartTimer():
                position = command.position + 1
                timers.append(Timer(command.due, command.position, TimerKind.TIMER, command.method))
            case RecordInline():
                position = command.position + 1
            case CancelPosition():
                cancelled.append(command.position)
            case RefuseCall() | RecordPatch():
                pass
            case StartChild() | CallRemote():
                position = command.position + 1
                scheduled.append(command.position)
                remotes[command.position] = True
                if command.timeout_at is not None:
                    timers.append(Timer(command.timeout_at, command.position, TimerKind.TIMEOUT))
            case SignalRemote():
                position = command.position + 1
                remotes[command.position] = False
            case ContinueRun():
                continuing = True
            case _:
                assert_never(command)
    number, at, pending, skip = head.activation, head.at, head.pending, 0
    if activated is not None:
        number, at, pending = activated.number, activated.at, 0
    if handed is not None:
        pending, skip = head.deciding or head.pending, head.skip + handed
    outbox: list[Effect] = []
    methods, told = head.methods, head.told
    if ended:
        remaining_methods = list(methods)
        for end in ended:
            outbox += _end(remaining_methods, end, sequence)
            if type(end) is FailMethod:
                told += _list_instances(methods, end.method_id)
            if end.method_id == head.id:
                # It was cancelled before the next run could begin.
                continuing = False
        methods = tuple(remaining_methods)
    blocks, open_timers, retries = head.open, head.timers, head.retries
    if cleanup is None:
        cleanup = head.cleanup if head.cleanup >= 0 else position
    if head.canceling or cancelled:
        stopped: CancelSent | None = None
        if head.canceling and not pending and has_returned(methods):
            # The instance closes, and waits for none of this.
            stopped = cancel_rest(head, cleanup, cancelled) if blocks else None
            # What the code has asked for just before it saw that it is cancelled is not sent.
            scheduled = _leave_out_before(scheduled, cleanup)
        elif cancelled and blocks:
            stopped = cancel_positions(head, set(cancelled))
        if stopped is not None:
            outbox.append(stopped)
    if cancelled:
        gone = set(cancelled)
        scheduled, timers = _leave_out(scheduled, timers, gone)
        retries = all_retries.remove_all(retries, gone)
        for each in cancelled:
            open_timers = all_timers.remove(open_timers, each)
            remaining = positions.close(blocks, each)
            blocks = blocks if remaining is None else remaining
    if timers:
        open_timers = all_timers.add(open_timers, timers)
        outbox.append(ArmWake(min(timers).due))
    if scheduled:
        blocks = positions.append(blocks, sequence, scheduled)
        for each in scheduled:
            if each not in remotes:
                outbox.append(SendTask(each, sequence))
    if remotes:
        outbox += _send_remotes(remotes, set(scheduled), sequence)
    # Not more than 14 keywords: CPython passes more of them as a dict, which takes long.
    decided = replace(
        head,
        methods=methods,
        version=version,
        open=blocks,
        timers=open_timers,
        retries=retries,
        pending=pending,
        activation=number,
        at=at,
        deciding=0,
        position=position,
        sequence=sequence,
        retention=retention,
        skip=skip,
        cleanup=cleanup,
    )
    if continuing is not head.continuing or told is not head.told or tags_tasks is not head.tags_tasks:
        decided = replace(decided, continuing=continuing, told=told[-MAX_TOLD:], tags_tasks=tags_tasks)
    if head.rerun_at is not None:
        decided = replace(decided, rerun_at=None)
    return decided, outbox


# These are functions of their own: a variable that a comprehension reads costs more at each use.


def _leave_out(positions: list[int], timers: list[Timer], gone: set[int]) -> tuple[list[int], list[Timer]]:
    """Leave out what the same activation has cancelled."""
    return [each for each in positions if each not in gone], [each for each in timers if each.position not in gone]


def _leave_out_before(positions: list[int], first: int) -> list[int]:
    """Leave out what comes before this position."""
    return [each for each in positions if each >= first]


def _send_remotes(remotes: dict[int, bool], wanted: set[int], sequence: int) -> list[SendRemote]:
    """Send the requests that nobody waits for, and those that were not cancelled."""
    return [SendRemote(each, sequence) for each, waits in remotes.items() if not waits or each in wanted]


def _list_instances(methods: Sequence[Method], method_id: str) -> tuple[tuple[str, ReplyTo], ...]:
    """List the instances that wait for a method. They are told if it runs again after a failure."""
    waiting = (waiter for method in methods if method.id == method_id for waiter in method.waiters)
    return tuple((method_id, waiter) for waiter in waiting if waiter.workflow)


def _end(methods: list[Method], end: EndMethod, sequence: int) -> list[Effect]:
    """End a method, and answer its waiters at once (S28).

    The first method of an instance stays in the head, for those who ask later.
    """
    index = 0
    while methods[index].id != end.method_id:
        index += 1
    method = methods[index]
    if index == 0:
        methods[0] = Method(method.id, method.name, (), _STATUS_AT_END[type(end)], sequence)
    else:
        del methods[index]
    return [Answer(waiter, method.id, sequence) for waiter in method.waiters]


_STATUS_AT_END: dict[type[EndMethod], WorkflowStatus] = {
    CompleteMethod: WorkflowStatus.COMPLETED,
    FailMethod: WorkflowStatus.FAILED,
    CancelMethod: WorkflowStatus.CANCELED,
}
