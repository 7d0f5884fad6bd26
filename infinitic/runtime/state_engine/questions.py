"""Answers to questions about an instance that takes no inputs, since it is parked or damaged."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.render import make_response
from infinitic.errors import DecodingError, ExceptionDetail, WorkflowCodeError
from infinitic.failures import qualified_name
from infinitic.messages import client, engine as inputs
from infinitic.storage import WorkflowStatus
from infinitic.transport import Delivery, Outgoing


def answer_questions(
    name: str, deliveries: Iterable[Delivery], head: WorkflowHead | None, damage: str | None = None
) -> dict[Delivery, Outgoing]:
    """Answer those of these deliveries that are questions.

    Args:
        name: the workflow.
        deliveries: what waits for the instance.
        head: its head; None if nothing is known of it but that it is damaged.
        damage: what is damaged; None if nothing is.

    Returns:
        The answers, by the deliveries that asked.
    """
    answers: dict[Delivery, Outgoing] = {}
    for delivery in deliveries:
        with suppress(DecodingError):
            message = inputs.decode(delivery.message.body)
            if isinstance(message, inputs.Describe):
                to = message.reply_to
                if head is None:
                    workflow_id = delivery.message.key or ""
                    info = client.WorkflowInfo(workflow_id, name, None, WorkflowStatus.RUNNING, 0.0)
                else:
                    info = describe(head, to).info
                if damage is not None:
                    info = replace(info, stalled=damage)
                answers[delivery] = make_response(to, client.Described(to.request, info))
            elif isinstance(message, inputs.AskQuery | inputs.Asked):
                # What another worker has answered may be old by now.
                to = message.reply_to
                reason = damage or "It takes no requests, because one of its messages could not be handled"
                failure = ExceptionDetail(qualified_name(WorkflowCodeError), f"The workflow cannot be run: {reason}")
                answers[delivery] = make_response(to, client.QueryFailed(to.request, failure))
    return answers
