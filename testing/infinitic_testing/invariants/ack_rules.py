"""Rules about acknowledgements: whoever acknowledges a message has done all that it asks for.

Each rule returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Callable

from infinitic.engines import retries
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.claimed_starts import CLAIMED
from infinitic.engines.workflow.take import WAIT_SECONDS, WAITS
from infinitic.engines.workflow.transition import is_runnable
from infinitic.ids import read_activation, read_attempt, read_request_number, read_settlement, wake_id
from infinitic.messages import engine
from infinitic.messages.client import ReplyTo
from infinitic.messages.executor import Activate
from infinitic.messages.outcomes import RemoteStatus
from infinitic.transport import Message
from infinitic_testing.invariants.instances import ObservedInstance
from infinitic_testing.invariants.publish_rules import find_deduplication_id, names_no_method
from infinitic_testing.invariants.traffic import Copies, Sent

IsTold = Callable[[ReplyTo], bool]
"""Tells whether a request was answered, or its client is gone."""


def check_input_taken(
    asked: engine.Input,
    message: Message,
    instance: ObservedInstance | None,
    copies: Copies,
    sent: Sent,
    is_told: IsTold,
) -> str | None:
    """An input did what it asks for, or changes nothing, or comes again.

    Args:
        asked: the input.
        message: the message with it.
        instance: the instance; None: there has never been one.
        copies: those of this message.
        sent: all that was published for the instance.
        is_told: tells whether a client was told.
    """
    if instance is None:
        waited = message.headers.get(WAITS, "0")
        copies.has_waited |= waited.isdecimal() and int(waited) >= len(WAIT_SECONDS)
    if copies.left > 0:
        return None
    if instance is None:
        return _check_without_instance(asked, message, copies, sent, is_told)
    lost = None if instance.is_over else _find_lost(asked, instance)
    if lost is not None:
        return lost
    return _check_answer(asked, instance, sent, is_told)


def _check_without_instance(
    asked: engine.Input, message: Message, copies: Copies, sent: Sent, is_told: IsTold
) -> str | None:
    if isinstance(asked, engine.Start):
        if sent.claims and CLAIMED in message.headers:
            # It has come late, and the tag engine is asked whether it is to be taken still.
            return None
        return "a start is acknowledged, and there is no instance"
    can_wait = engine.Signal | engine.CallMethod | engine.Cancel | engine.Wait | engine.Describe
    can_wait |= engine.AskQuery | engine.Terminate | engine.CompleteTimers
    if isinstance(asked, engine.Wait) and asked.stop:
        return None
    # The acknowledgement of an earlier copy may take longer than all the waits that follow.
    if isinstance(asked, can_wait) and not copies.has_waited:
        return f"an input that came before its start is acknowledged, and no copy of it waits: {asked}"
    reply_to: ReplyTo | None = getattr(asked, "reply_to", None)
    if reply_to is not None and not is_told(reply_to):
        return f"nobody was told that there is no such instance: {asked}"
    return None


def _find_lost(asked: engine.Input, instance: ObservedInstance) -> str | None:
    """What a running instance lost by this acknowledgement; None if nothing."""
    head, history = instance.head, instance.history
    deduplication_id = find_deduplication_id(asked)
    if deduplication_id is not None:
        if names_no_method(asked, instance):
            return None
        if deduplication_id not in instance.taken:
            return f"an input is acknowledged, and it is not in the storage: {asked}"
        return None
    match asked:
        case engine.TaskCompleted(position=position, run=run):
            # One that was sent before the task was asked for again may have been dropped.
            if run == head.run and position in history.open_tasks and position not in history.sequences:
                return f"the result of task {position} is acknowledged, and the task is open"
        case engine.RemoteSettled(position=position, run=run):
            lost = run == head.run and position in history.open_tasks and position not in history.sequences
            if lost and is_newest_settlement(asked, head):
                return f"the end of a child or call at position {position} is acknowledged, and it is open"
        case engine.TaskFailed() | engine.AttemptFailed():
            # Once the function of a delegated task has returned, that attempt cannot fail any more.
            is_over = asked.position in history.delegated and asked.retry_index is not None
            if asked.position in history.open_tasks and not is_over and _is_newest(asked, head):
                return f"the failure of an attempt is acknowledged, and it was not counted: {asked}"
        case engine.Decision(activation=activation, epoch=epoch):
            waits = head.deciding != 0 and head.stalled is None and activation == head.activation
            if waits and (epoch is None or epoch == head.epoch):
                return f"the decision for activation {activation} is acknowledged, and it is waited for"
        case engine.Probed(request_id=request_id):
            if head.probe is not None and head.probe.request_id == request_id and not head.parked:
                return f"the answer of the probe for {request_id} is acknowledged, and it is waited for"
        case _:
            pass
    return None


def is_newest_settlement(settled: engine.RemoteSettled, head: WorkflowHead) -> bool:
    """True if this answer counts: it is a result, or answers the newest request."""
    if settled.status is RemoteStatus.COMPLETED:
        return True
    last = next((retry for retry in head.retries if retry.position == settled.position), None)
    if last is not None and settled.epoch < last.retry_index:
        return False
    return settled.retry_sequence == (0 if last is None else last.retry_sequence)


def _is_newest(report: engine.TaskFailed | engine.AttemptFailed, head: WorkflowHead) -> bool:
    """True if this attempt was sent last, and runs."""
    if report.run != head.run:
        return False
    last = retries.find(head.retries, report.position)
    if last is None:
        return report.retry_sequence == 0 and not report.retry_index
    if last.due is not None or report.retry_sequence != last.retry_sequence:
        return False
    return report.retry_index is None or report.retry_index == last.retry_index


def _check_answer(asked: engine.Input, instance: ObservedInstance, sent: Sent, is_told: IsTold) -> str | None:
    """Who asked was answered, or waits in the head for the end of a method."""
    reply_to: ReplyTo | None = getattr(asked, "reply_to", None)
    if reply_to is None or is_told(reply_to):
        return None
    if isinstance(asked, engine.AskQuery) and reply_to in sent.asked:
        return None
    if ("answer", reply_to.client, reply_to.request) in instance.unpublished:
        # A later step has answered, and its messages are on their way.
        return None
    probe = instance.head.probe
    retry = asked if isinstance(asked, engine.RetryTasks | engine.RetryWorkflowTask) else None
    if retry is not None and probe is not None and probe.request_id == retry.request_id:
        # It is answered when another worker has found out whether the tasks can run again.
        return None
    if retry is not None and instance.head.unique and retry.request_id in instance.taken:
        # It is answered when it comes back from the tag engine, which claims the custom id.
        return None
    if isinstance(asked, engine.Start | engine.CallMethod | engine.Wait):
        # A newer request of the same client may stand for this one.
        if reply_to.workflow:
            # An instance has one request for each position, and no newer one stands for it.
            if any(reply_to in method.waiters for method in instance.head.methods) or instance.is_over:
                return None
            return f"an instance waits for what is acknowledged, and will not be answered: {asked}"
        waiting = {waiter.client for method in instance.head.methods for waiter in method.waiters}
        newest = sent.answered.get(reply_to.client, -1)
        if reply_to.client in waiting or newest >= read_request_number(reply_to.request):
            return None
        if reply_to.client in sent.leavers:
            return None
        if isinstance(asked, engine.Start) and instance.is_over:
            return None
    return f"a request is acknowledged, and nobody was answered: {asked}"


def check_outbox_published(asked: engine.Input, instance: ObservedInstance) -> str | None:
    """The outbox of the step that took this input is published."""
    if not instance.unpublished or instance.head.parked:
        return None
    if find_version(asked, instance) == instance.written:
        return f"{asked} is acknowledged, and of its outbox was not published: {list(instance.unpublished)}"
    return None


def find_version(asked: engine.Input, instance: ObservedInstance) -> int | None:
    """The version that took an input; None if that is not known."""
    deduplication_id = find_deduplication_id(asked)
    if deduplication_id is not None:
        return instance.taken.get(deduplication_id)
    if getattr(asked, "run", instance.history.run) != instance.history.run:
        # Positions are those of another run.
        return None
    match asked:
        case engine.Start():
            return instance.created
        case engine.TaskCompleted(position=position):
            # It does not tell how often an operator had asked for the task.
            return None if position in instance.history.sequences else instance.settled.get((position, 0))
        case engine.RemoteSettled(position=position):
            return None if position in instance.history.sequences else instance.settled.get((position, 0))
        case engine.TaskFailed(position=position, retry_sequence=sequence):
            return instance.settled.get((position, sequence))
        case engine.AttemptFailed(position=position, retry_sequence=sequence, retry_index=index):
            return instance.counted.get((position, sequence, index))
        case engine.Wake(due=due):
            return instance.woken.get(due)
        case engine.Decision(activation=activation, epoch=epoch):
            return instance.decided.get((activation, epoch or 0))
        case _:
            return None


def find_untold(message: Message, instance: ObservedInstance, sent: Sent) -> str | None:
    """Say what a running instance waits for that became a dead letter; None if it does not wait.

    Args:
        message: it cannot be decoded, but its id says what it was.
        instance: the instance.
        sent: all that was published for the instance.
    """
    head = instance.head
    attempt = read_attempt(message.id)
    if attempt is not None and attempt[0] == head.id:
        _, position, run, sequence, index = attempt
        newest = retries.find(head.retries, position)
        expected = (0, 0) if newest is None else (newest.retry_sequence, newest.retry_index)
        waits = newest is None or newest.due is None
        is_open = position in instance.history.open_tasks and position not in instance.history.delegated
        if is_open and waits and run == head.run and (sequence, index) == expected:
            return f"the report of task {position} became a dead letter, and the task is open"
    settled = read_settlement(message.id, head.id)
    if settled is not None and settled[0] == head.run and settled[1] in instance.history.open_tasks:
        newest = next((retry for retry in head.retries if retry.position == settled[1]), None)
        if settled[2] == (0 if newest is None else newest.retry_sequence):
            return f"the end of request {settled[1]} became a dead letter, and it is open"
    if read_activation(message.id, head.id) == (head.activation, head.epoch) and head.deciding and not head.stalled:
        return f"the decision for activation {head.activation} became a dead letter, and it is waited for"
    if message.id == wake_id(head.id) and head.armed is not None:
        copies = sent.wakes.get(head.armed)
        if copies is None or copies.left <= 0:
            return f"the wake for {head.armed!r} became a dead letter, and no other one is left"
    return None


def check_wake_kept(asked: engine.Wake, instance: ObservedInstance | None, copies: Copies, sent: Sent) -> str | None:
    """The armed wake did its work, or comes again. So does the one that hands over what is left."""
    if instance is None or instance.is_over or instance.head.parked or copies.left > 0:
        return None
    head = instance.head
    if head.armed == asked.due:
        return f"the wake for {asked.due!r} is acknowledged, it is armed still, and no copy of it is left"
    if is_runnable(head) and not any(each.left > 0 for each in sent.wakes.values()):
        if any(each[0] == "wake" for each in instance.unpublished):
            # Another worker has just written that step, and sends its outbox.
            return None
        return f"a wake is acknowledged, stimuli wait from segment {head.pending} on, and no other wake is left"
    return None


def check_attempt_kept(attempt: tuple[int, int, int, int], copies: Copies, sent: Sent) -> str | None:
    """The report of an attempt is published, its task is cancelled, or another copy of it is left.

    Args:
        attempt: position, run, retry sequence, retry index.
        copies: those of the message of this attempt.
        sent: all that was published for the instance.
    """
    position, run, sequence, index = attempt
    if sent.cancelled.get((position, run), -1) >= sequence:
        return None
    if copies.left > 0 or attempt in sent.reported or (position, run, 0, None) in sent.reported:
        return None
    return f"attempt {index} of task {position} is acknowledged, its report is not published, and no copy is left"


def check_activation_kept(
    message: Activate, instance: ObservedInstance | None, copies: Copies, sent: Sent
) -> str | None:
    """The decision of an activation is published, or not waited for, or another copy is left."""
    if message.probe is not None:
        return _check_probe_kept(message.probe.request_id, instance, copies, sent)
    if instance is None or instance.is_over or instance.head.parked or copies.left > 0:
        return None
    head = instance.head
    if not head.deciding or (message.activation, message.epoch) != (head.activation, head.epoch):
        return None
    if (message.activation, message.epoch) in sent.decided or (message.activation, None) in sent.decided:
        return None
    return f"activation {message.activation} is acknowledged, its decision is not published, and no copy is left"


def _check_probe_kept(request_id: str, instance: ObservedInstance | None, copies: Copies, sent: Sent) -> str | None:
    if instance is None or instance.purged or instance.head.parked or copies.left > 0:
        return None
    probe = instance.head.probe
    if probe is None or probe.request_id != request_id or request_id in sent.probed:
        return None
    return f"a probe for {request_id} is acknowledged, its answer is not published, and no copy is left"
