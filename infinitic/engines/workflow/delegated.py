"""What becomes of delegated tasks, which somebody outside completes or fails (S8).

Each input is recognised by its deduplication id, and the position tells whether it comes first:
whoever ends the task first wins, and whatever comes later changes nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines import delegations, positions, retries
from infinitic.engines.effects import CancelSent, Confirm, Effect, Reject
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.tasks import settle
from infinitic.messages import events
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated

_OTHER_RUN = "the task belongs to a run that is over"
_ENDED = "the task has ended already: it was completed, it failed or timed out, or nobody waits for it"
_NOT_DELEGATED = "the task does not wait for anybody outside"
_ASKED_AGAIN = "an operator has asked for the task again since: the next attempt has another token"


def task_delegated(head: WorkflowHead, message: TaskDelegated, now: float) -> InputResult:
    """Note that a task waits for somebody outside. The code is not told."""
    position = message.position
    if message.run != head.run or positions.find_request(head.open, position) is None:
        return InputResult(head)
    last = retries.find(head.retries, position)
    sent = (last.retry_sequence, last.retry_index) if last else (0, 0)
    waits = last is not None and last.due is not None
    if (message.retry_sequence, message.retry_index) != sent or waits:
        return InputResult(head)
    if delegations.contains(head.delegated, position):
        return InputResult(head)
    event = events.TaskHandedOver(position, message.execution, now)
    return InputResult(replace(head, delegated=delegations.add(head.delegated, position)), (event,))


def complete_task(head: WorkflowHead, message: CompleteTask, now: float) -> InputResult:
    """Settle a delegated task with its result, whichever attempt made the token."""
    if message.run != head.run:
        return _refuse(head, message, _OTHER_RUN)
    position = message.position
    if message.delegated and not delegations.contains(head.delegated, position):
        return _refuse(head, message, _NOT_DELEGATED)
    event = events.TaskResult(position, message.value, by=message.by)
    settled = settle(head, position, event)
    return _answer(head, message, settled, _remove_tags(head, position))


def fail_task(head: WorkflowHead, message: FailTask, now: float) -> InputResult:
    """Settle a delegated task as failed, also while an attempt of it runs."""
    if message.run != head.run:
        return _refuse(head, message, _OTHER_RUN)
    last = retries.find(head.retries, message.position)
    is_open = positions.find_request(head.open, message.position) is not None
    if message.delegated:
        if not delegations.contains(head.delegated, message.position):
            return _refuse(head, message, _NOT_DELEGATED)
    elif is_open and message.retry_sequence != (last.retry_sequence if last else 0):
        return _refuse(head, message, _ASKED_AGAIN)
    return _answer(head, message, settle(head, message.position, events.TaskError(message.position, message.failure)))


def _remove_tags(head: WorkflowHead, position: int) -> tuple[Effect, ...]:
    """Make the effect that takes the tags off a task that has completed. No executor does it."""
    request = positions.find_request(head.open, position) if head.tags_tasks else None
    if request is None:
        return ()
    last = retries.find(head.retries, position)
    repeated = ((position, last.retry_sequence),) if last is not None and last.retry_sequence else ()
    return (CancelSent((), repeated, waiting=(positions.open_block(request, [position]),)),)


def _answer(
    head: WorkflowHead, message: CompleteTask | FailTask, settled: InputResult, more: tuple[Effect, ...] = ()
) -> InputResult:
    if settled.head is head:
        return _refuse(head, message, _ENDED)
    confirm: tuple[Effect, ...] = (Confirm(message.reply_to),) if message.reply_to is not None else ()
    return InputResult(settled.head, settled.events, (*more, *confirm), deduplication_id=message.request_id)


def _refuse(head: WorkflowHead, message: CompleteTask | FailTask, reason: str) -> InputResult:
    """Change nothing, and tell whoever waits for an answer.

    The id is kept all the same: a repeat must not end the task once an operator has asked for it
    again.
    """
    told: tuple[Effect, ...] = (Reject(message.reply_to, reason),) if message.reply_to is not None else ()
    return InputResult(replace(head), outbox=told, deduplication_id=message.request_id)
