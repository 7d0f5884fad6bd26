"""Refuses requests: who asked is told that there is no such instance, or no such method.

What is refused once stays refused. A request may come again after its instance was re-opened, or
after the method began that it names. It must not be obeyed then: who sent it was told otherwise. So
its deduplication id is stored with the refusal.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.effects import Refuse, Reply
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.messages import engine as inputs
from infinitic.messages.delegated import CompleteTask, FailTask

Deduplicated = (
    inputs.CallMethod
    | inputs.Signal
    | inputs.Cancel
    | inputs.RetryWorkflowTask
    | inputs.Unpark
    | inputs.Terminate
    | inputs.CompleteTimers
    | inputs.RetryTasks
    | inputs.ChildReopened
    | inputs.CancelTask
    | inputs.Delete
    | CompleteTask
    | FailTask
)
"""Inputs that are recognised by their deduplication id, which is kept for the deduplication window.

Older ones are refused. Their id may be gone, so a duplicate would be obeyed a second time.
"""


def read_deduplication_id(message: Deduplicated) -> str:
    """Read the id by which an input is recognised when it comes again."""
    if isinstance(message, inputs.CallMethod):
        return message.method_id
    if isinstance(message, inputs.Signal):
        return message.signal_id
    return message.request_id


def refuse(head: WorkflowHead, message: Deduplicated, others: tuple[Reply, ...] = (), *, again: bool) -> InputResult:
    """Refuse a request.

    Args:
        head: the instance.
        message: the request.
        others: what else is told.
        again: whether the request could be obeyed if it came again later. If not, nothing is
            stored.
    """
    reply_to = None if isinstance(message, inputs.ChildReopened | inputs.CancelTask) else message.reply_to
    told = () if reply_to is None else (Refuse(reply_to),)
    if not again:
        return InputResult(head, replies=(*others, *told))
    # A copy: otherwise nothing would be written.
    return InputResult(replace(head), outbox=told, replies=others, deduplication_id=read_deduplication_id(message))


def is_running(head: WorkflowHead, method_id: str) -> bool:
    """Whether this method of an instance runs."""
    return any(method.id == method_id and not method.ended for method in head.methods)
