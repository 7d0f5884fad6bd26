"""Queries: what clients ask of the code of an instance, and what it has answered elsewhere.

Nothing of this changes the instance.
"""

from __future__ import annotations

from infinitic.engines.effects import Respond
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.errors import ExceptionDetail, WorkflowCodeError
from infinitic.failures import qualified_name
from infinitic.messages import client, engine as inputs


def ask_query(head: WorkflowHead, message: inputs.AskQuery, now: float) -> InputResult:
    """Have the code asked, once it has seen all inputs before."""
    return InputResult(head, question=message)


def forward_answer(head: WorkflowHead, message: inputs.Asked, now: float) -> InputResult:
    """Forward the answer of the code, if it has seen what the history holds.

    An answer with a digest comes from a live object. It counts if the decision of that object was
    the last one that was taken.
    """
    to = message.reply_to
    response: client.Queried | client.QueryFailed | client.AskAgain
    if message.failure is None and not bytes(message.value):
        response = client.AskAgain(to.request, 0.0)
        if head.stalled is not None:
            response = client.QueryFailed(to.request, describe_stall(head.stalled))
    elif message.digest is not None and not _is_last_decision(head, message, message.digest):
        response = client.AskAgain(to.request, 0.0)
    elif message.failure is not None:
        response = client.QueryFailed(to.request, message.failure)
    else:
        response = client.Queried(to.request, message.value, message.activation, message.run)
    return InputResult(head, replies=(Respond(to, response),))


def _is_last_decision(head: WorkflowHead, message: inputs.Asked, digest: str) -> bool:
    decided = head.activation - 1 if head.deciding else head.activation
    return (message.activation, digest, message.epoch) == (decided, head.digest, head.epoch)


def describe_stall(reason: str) -> ExceptionDetail:
    """Describe why a stalled instance has no answer."""
    return ExceptionDetail(qualified_name(WorkflowCodeError), f"The workflow is stalled: {reason}")
