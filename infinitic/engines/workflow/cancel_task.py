"""Cancels one task of an instance, because somebody asks for it by a tag of the task (S25)."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.cancel import cancel_positions
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.tasks import settle
from infinitic.messages import events
from infinitic.messages.task_operations import CancelTask


def cancel_task(head: WorkflowHead, message: CancelTask, now: float) -> InputResult:
    """Close the position of a task, have its executor stopped, and tell the code.

    The id of the input is kept also if the task has ended: a repeat must not cancel it once an
    operator has asked for it again.
    """
    position = message.position
    if message.run != head.run:
        return InputResult(replace(head), deduplication_id=message.request_id)
    # While the position is open: it says what was sent.
    stopped = cancel_positions(head, (position,))
    settled = settle(head, position, events.TaskCanceled(position, now, message.by))
    if settled.head is head:
        return InputResult(replace(head), deduplication_id=message.request_id)
    outbox = () if stopped is None else (stopped,)
    return InputResult(settled.head, settled.events, outbox, deduplication_id=message.request_id)
