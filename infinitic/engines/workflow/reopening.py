"""Running failed tasks again, and re-opening the methods that their failure has ended (S34).

Only a replay knows whether the code has dealt with a failure. So `retry_tasks` asks for a *probe*:
a replay in which the failures are left out. If the code then asks for what the history holds, but
for the ends and cancellations that came of the failure, `reopen` makes one transition of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from infinitic import ids
from infinitic.engines import delegations, positions, retries, timers
from infinitic.engines.effects import (
    ArmWake,
    Confirm,
    Effect,
    Postpone,
    Reject,
    SendRemote,
    SendTask,
    TellReopened,
)
from infinitic.engines.state import Method, Probe, Retry, TimerKind, WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.refusals import refuse
from infinitic.engines.workflow.survey import Survey, SurveyedTask, list_running
from infinitic.engines.workflow.tags import Reopening, add_tags, claim_again, give_up_claim, refuse_by_tag
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import (
    ChildReopened,
    Decision,
    Delete,
    Probed,
    RemoteSettled,
    RetryTasks,
    RetryWorkflowTask,
)
from infinitic.messages.events import Activated, Reopened, ReopenedTask, ReopenedTimer
from infinitic.messages.outcomes import WorkflowStatus

MAX_RETRIED = 1000
"""Tasks that one request runs again at most."""
PATIENCE_SECONDS = 2.0
"""Seconds until a request is looked at again that comes while the code runs elsewhere."""
POSTPONED = "infinitic-postponed"
"""The header of such a request."""
AGAIN = "infinitic-again"
"""The header that counts how often an answer has waited for the message that re-opens."""
AGAIN_SECONDS = (0.1, 0.2, 0.35, 0.6, 1.1, 2.0, 3.7)
"""Seconds to wait, the first time, the second time, and so on."""
PATIENCE_WITH_CLAIMS = 60
"""How often it waits after that if the instance has to claim its custom id first."""
CLAIM_SECONDS = 10.0
"""Seconds of each of these waits. The tag engine may be away for some minutes."""
TAKEN_WHEN_CLOSED = (RetryTasks, Probed, ChildReopened, RetryWorkflowTask, Delete)
"""Inputs that a closed instance takes: those that may re-open it, and its deletion."""
TERMINATED = "was terminated: it is not re-opened"
DELETED = "was deleted, or is not kept once it has closed: it is not re-opened"
MAX_REOPENINGS = 100
"""How often an instance can be re-opened: each replay looks at all re-openings first."""


def retry_tasks(head: WorkflowHead, message: RetryTasks, now: float) -> InputResult:
    """Ask for a probe, or refuse it because of what the head says.

    Args:
        head: the instance. It may be closed.
        message: which tasks are meant.
        now: seconds since the Unix epoch.
    """
    if head.closed_at is not None and message.by_tag:
        # Tags reach instances that run.
        return refuse(head, message, refuse_by_tag(head, message), again=may_reopen(head))
    if head.deciding or head.probe is not None:
        # The code runs on another worker. What it decides may change what can run again.
        return InputResult(head, handling=Postpone(now + PATIENCE_SECONDS, POSTPONED, "1"))
    why = message.refused or find_obstacle(head)
    if why is not None:
        return reject(head, message.request_id, message.reply_to, why)
    if head.closed_at is not None and head.unique and message.claimed != head.epoch + 1:
        return claim_again(head, message)
    return InputResult(head, deduplication_id=message.request_id, probe=message)


def begin_elsewhere(head: WorkflowHead, message: RetryTasks | ChildReopened, tasks: Collection[int]) -> WorkflowHead:
    """Note that another worker runs the probe.

    Args:
        head: the instance.
        message: the request.
        tasks: the positions of the tasks that it means.
    """
    if isinstance(message, ChildReopened):
        return replace(head, probe=Probe(message.request_id, None, tuple(tasks), True, message.epoch))
    probe = Probe(message.request_id, message.reply_to, tuple(sorted(tasks)), bool(message.task_ids))
    return replace(head, probe=probe)


def child_reopened(head: WorkflowHead, message: ChildReopened, now: float) -> InputResult:
    """Wait once more for what has failed on another instance, and runs again.

    If the code has dealt with that failure, or this instance does not go on, the message changes
    nothing, and the result of the other instance is dropped when it comes.
    """
    position = message.position
    last = retries.find(head.retries, position)
    asked = message.retry_sequence == (0 if last is None else last.retry_sequence)
    if message.run != head.run or find_obstacle(head) is not None:
        return InputResult(head)
    request = positions.find_request(head.open, position)
    if request is not None:
        if not asked:
            return InputResult(head)
        if last is not None and message.epoch <= last.retry_index:
            # A newer one has overtaken it.
            return InputResult(head)
        # Its failure has not come yet. When it does, it is an old one.
        newest = Retry(position, request, 0, message.retry_sequence, message.epoch, None)
        changed = replace(head, retries=retries.put(head.retries, newest))
        return InputResult(changed, deduplication_id=message.request_id)
    if head.deciding or head.probe is not None:
        return InputResult(head, handling=Postpone(now + PATIENCE_SECONDS, POSTPONED, "1"))
    if message.refused:
        return reject(head, message.request_id, None, message.refused)
    if head.closed_at is not None and head.unique and message.claimed != head.epoch + 1:
        return claim_again(head, message)
    return InputResult(head, deduplication_id=message.request_id, probe=message)


def wait_for_reopening(
    head: WorkflowHead, message: RemoteSettled, now: float, headers: Mapping[str, str]
) -> Postpone | None:
    """Put the answer of another instance off that may have overtaken its `ChildReopened`.

    If it were dropped, this instance would be re-opened, and would wait for ever. So it is looked
    at again some times, as an input that may have overtaken a start.

    Args:
        head: the instance. It may be closed.
        message: the answer of an instance that has run again.
        now: seconds since the Unix epoch.
        headers: those of the message. They say how often it was put off.

    Returns:
        None if the answer is to be taken as it is.
    """
    is_open = positions.find_request(head.open, message.position) is not None
    if is_open or message.run != head.run or find_obstacle(head) is not None:
        return None
    if head.deciding or head.probe is not None:
        return Postpone(now + PATIENCE_SECONDS, POSTPONED, "1")
    text = headers.get(AGAIN, "0")
    count = int(text) if text.isdecimal() and len(text) < 3 else 0
    claims = head.closed_at is not None and head.unique and head.status is WorkflowStatus.FAILED
    if count >= len(AGAIN_SECONDS) + (PATIENCE_WITH_CLAIMS if claims else 0):
        return None
    seconds = AGAIN_SECONDS[count] if count < len(AGAIN_SECONDS) else CLAIM_SECONDS
    return Postpone(now + seconds, AGAIN, str(count + 1))


def take_findings(head: WorkflowHead, message: Probed, now: float) -> InputResult:
    """Take what a probe on another worker has found. A repeat changes nothing."""
    if head.probe is None or head.probe.request_id != message.request_id:
        return InputResult(head)
    why = find_obstacle(head, rerun=head.probe.rerun != 0)
    if why is not None:
        return reject(replace(head, probe=None), None, head.probe.reply_to, why)
    return InputResult(head, probe=message)


def fail_probe(head: WorkflowHead, message: Decision) -> InputResult:
    """The message that asks for a probe became a dead letter. A repeat changes nothing."""
    if head.probe is None or (message.activation, message.epoch or 0) != (head.activation, head.epoch):
        return InputResult(head)
    return give_up_probe(head, head.probe, str(message.stalled))


def give_up_probe(head: WorkflowHead, probe: Probe, why: str) -> InputResult:
    """Wait for the answer of a probe no more."""
    return reject(replace(head, probe=None), None, probe.reply_to, f"cannot be replayed: {why}")


def drop_probe(head: WorkflowHead, why: str) -> tuple[WorkflowHead, tuple[Effect, ...]]:
    """Tell who waits for a probe that what it finds counts no more.

    The probe itself may never tell it: its message may become a dead letter, or come when the
    instance has been removed.

    Args:
        head: the instance.
        why: the end of a sentence about the instance, whose subject is "it".
    """
    if head.probe is None:
        return head, ()
    dropped = reject(replace(head, probe=None), None, head.probe.reply_to, why)
    assert dropped.head is not None
    return dropped.head, dropped.outbox


def find_obstacle(head: WorkflowHead, *, rerun: bool = False) -> str | None:
    """Say why an instance cannot be re-opened, as the end of a sentence; None if it can.

    `rerun` says that its code is to run again, and not its tasks.
    """
    if head.status is WorkflowStatus.TERMINATED:
        return TERMINATED
    if head.canceling or head.status not in (WorkflowStatus.RUNNING, WorkflowStatus.FAILED, WorkflowStatus.COMPLETED):
        return "was cancelled: it is not re-opened"
    if head.closed_at is not None and not head.retention:
        return DELETED
    if head.stalled is not None and not rerun:
        return "is stalled: correct the code and use retry_workflow_task first"
    if len(head.undone) >= MAX_REOPENINGS:
        return f"was re-opened {MAX_REOPENINGS} times already: it cannot be once more"
    return None


def may_reopen(head: WorkflowHead) -> bool:
    """Whether a closed instance may run again. One that was cancelled or terminated never does."""
    return head.status in (WorkflowStatus.FAILED, WorkflowStatus.COMPLETED)


def reject(head: WorkflowHead, request_id: str | None, reply_to: ReplyTo | None, why: str) -> InputResult:
    """Refuse a request of an operator.

    It is stored that it was refused: a repeat must not be obeyed later, when more has failed.

    Args:
        head: the instance.
        request_id: that of the request; None: it is stored already.
        reply_to: whom to answer.
        why: the end of a sentence about the instance, whose subject is "it".
    """
    reason = fit_text(f"it {why}", STALL_REASON)
    head, freed = give_up_claim(head)
    outbox = (*freed, Reject(reply_to, reason)) if reply_to is not None else freed
    # A copy: otherwise nothing would be written.
    return InputResult(replace(head), outbox=outbox, deduplication_id=request_id)


def reject_too_old(head: WorkflowHead, message: Reopening, window: float) -> InputResult:
    """Refuse a request that is older than the deduplication window, and has claimed the custom id.

    Args:
        head: the instance.
        message: the request.
        window: the deduplication window, in seconds.
    """
    reply_to = None if isinstance(message, ChildReopened) else message.reply_to
    why = message.refused or f"was to be re-opened longer ago than the deduplication window of {window:.0f} s"
    return reject(head, message.request_id, reply_to, why)


class Selection(msgspec.Struct, frozen=True):
    """The failed tasks that a request names.

    Attributes:
        tasks: by position, ascending.
        problem: why they cannot run again, as the end of a sentence about the instance; None if
            nothing is known against it.
    """

    tasks: Mapping[int, SurveyedTask]
    problem: str | None = None


def select_tasks(head: WorkflowHead, message: RetryTasks, survey: Survey) -> Selection:
    """Find the failed tasks that a request names.

    Args:
        head: the instance.
        message: the request.
        survey: of its whole history.
    """
    chosen: dict[int, SurveyedTask] = {}
    for task_id in message.task_ids:
        position = ids.read_task_id(task_id, head.id, head.run)
        task = None if position is None else survey.failed.get(position)
        if task is None or position is None:
            return Selection({}, _describe_wrong_task(head, task_id, position, survey))
        chosen[position] = task
    found = {
        position: task
        for position, task in sorted((chosen if message.task_ids else survey.failed).items())
        if message.status in ("", "timed_out" if task.timed_out else "failed")
        and message.service in ("", task.service)
        and message.task in ("", task.task)
        and (not message.tag or message.tag in task.tags)
    }
    if not found:
        return Selection({}, f"has no failed task{_describe_conditions(message)}")
    if len(found) > MAX_RETRIED:
        return Selection({}, f"has {len(found):,} such tasks. Name some of them: at most {MAX_RETRIED:,} at once")
    return Selection(found)


def _describe_wrong_task(head: WorkflowHead, task_id: str, position: int | None, survey: Survey) -> str:
    if position is None or position >= head.position:
        return f"has no task {task_id}"
    task = survey.open.get(position)
    if task is not None:
        return f"still waits for task {task_id} ({task.service}.{task.task}): it has not failed"
    return f"has no failed task {task_id}"


def _describe_conditions(message: RetryTasks) -> str:
    parts = {"status": message.status, "service": message.service, "task": message.task, "tag": message.tag}
    given = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    of_ids = f" among {', '.join(message.task_ids)}" if message.task_ids else ""
    return f"{of_ids} with {given}" if given else of_ids


class Undoing(msgspec.Struct, frozen=True):
    """What a probe has found: what came of the failures, and is undone.

    Attributes:
        tasks: positions of the tasks whose failures are undone, ascending.
        cancellations: positions whose cancellations are undone.
        open: those of `cancellations` for which the code waits without them. The result of the
            others had come as well.
        methods: ids of methods whose failures are undone.
        relative: those of `cancellations` that are timers which count from when they are set.
    """

    tasks: Sequence[int]
    cancellations: Sequence[int] = ()
    open: Collection[int] = ()
    methods: Sequence[str] = ()
    relative: Collection[int] = ()


def reopen(
    head: WorkflowHead,
    undoing: Undoing,
    survey: Survey,
    reply_to: ReplyTo | None,
    now: float,
    epoch: int | None = None,
    failing: Activated | None = None,
) -> tuple[WorkflowHead, Reopened, list[Effect]]:
    """Run failed tasks again, and all that their failure has ended.

    Args:
        head: the instance before. It runs, or is closed.
        undoing: what a probe has found.
        survey: of its whole history. It has kept all positions that `undoing` names.
        reply_to: whom to answer.
        now: seconds since the Unix epoch.
        epoch: that of another instance, if what has failed there runs again already: then nothing
            is asked for at the positions of `undoing.tasks`.
        failing: the activation that is to be run again, if it is not about tasks.

    Returns:
        The new head, the event for the history, and what is to be sent.
    """
    failed = survey.failed if epoch is None else survey.failed_remotes
    again = [(failed[each], False) for each in undoing.tasks]
    asked_again = sorted({*undoing.open}.difference(undoing.tasks))
    again += [(survey.kept_tasks[each], True) for each in asked_again if each in survey.kept_tasks]
    again.sort(key=lambda pair: pair[0].position)
    tasks = tuple(
        ReopenedTask(
            task.position,
            task.retry_sequence + (1 if canceled or epoch is None else 0),
            None if task.total_timeout is None else now + task.total_timeout,
            canceled,
        )
        for task, canceled in again
    )
    set_again = tuple(
        ReopenedTimer(each, _choose_due(survey, each, now, relative=each in undoing.relative))
        for each in asked_again
        if each in survey.kept_timers
    )
    requests = {task.position: task.request for task, _ in again}
    remotes = {task.position for task, _ in again if task.remote}
    outbox: list[Effect] = [
        (SendRemote if each.position in remotes else SendTask)(
            each.position, requests[each.position], each.retry_sequence
        )
        for each in tasks
        if each.canceled or epoch is None
    ]
    if reply_to is not None:
        outbox.append(Confirm(reply_to))
    skipped = tuple(sorted({*undoing.cancellations}.difference(asked_again)))
    event = Reopened(now, tasks, set_again, tuple(undoing.methods), skipped, failing.number if failing else 0)
    reopened = _open_again(head, event, requests, survey, epoch)
    if failing is not None:
        first = head.deciding or head.pending or head.sequence + 1
        reopened = replace(reopened, pending=first, skip=0, deciding=0, stalled=None, rerun_at=failing.at)
    outbox += [TellReopened(waiter) for method_id, waiter in head.told if method_id in event.methods]
    if head.closed_at is not None:
        outbox += add_tags(reopened)
    due = timers.find_next_due(reopened.timers)
    if due is not None:
        outbox.append(ArmWake(due))
    return reopened, event, outbox


def _choose_due(survey: Survey, position: int, now: float, *, relative: bool) -> float:
    """Choose when a timer fires that is set again.

    One that the code has set for an instant keeps it. `asyncio.timeout` around a task gives it as
    much time as at first.
    """
    timer = survey.kept_timers[position]
    return now + (timer.due - timer.asked_at) if relative else timer.due


def _open_again(
    head: WorkflowHead, event: Reopened, requests: Mapping[int, int], survey: Survey, epoch: int | None
) -> WorkflowHead:
    again: list[Timer] = []
    if head.closed_at is not None:  # closing has forgotten those that were open
        again += [Timer(timer.due, position, method=timer.method) for position, timer in survey.timers.items()]
    for task in event.tasks:
        if task.timeout_at is not None:
            again.append(Timer(task.timeout_at, task.position, TimerKind.TIMEOUT))
    for each in event.timers:
        again.append(Timer(each.due, each.position, method=survey.kept_timers[each.position].method))
    attempts, delegated = head.retries, head.delegated
    for task in event.tasks:
        index = 0 if task.canceled or epoch is None else epoch
        retry = Retry(task.position, requests[task.position], 0, task.retry_sequence, index, None)
        attempts = retries.put(attempts, retry)
        delegated = delegations.remove(delegated, task.position)
    known = {method.id: method for method in head.methods}
    methods = tuple(
        known.get(method_id) or Method(method_id, method.name)
        if method_id not in event.methods
        else Method(method_id, method.name, tuple(waiter for each, waiter in head.told if each == method_id))
        for method_id, method in list_running(survey, event.methods)
    )
    return replace(
        head,
        methods=methods,
        status=WorkflowStatus.RUNNING,
        open=positions.reopen(head.open, requests),
        timers=timers.add_again(head.timers, again),
        retries=attempts,
        delegated=delegated,
        armed=None if head.closed_at is not None else head.armed,
        closed_at=None,
        epoch=head.epoch + 1,
        undone=(*head.undone, head.sequence + 1),
        probe=None,
        told=tuple(each for each in head.told if each[0] not in event.methods),
    )
