"""What those are told who ask about an instance that takes nothing now: it is parked, or damaged."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.render import Outgoing, make_response
from infinitic.errors import DecodingError
from infinitic.messages import client, engine as inputs
from infinitic.storage import WorkflowStatus
from infinitic.transport import Delivery


def answer_questions(
    name: str, deliveries: Iterable[Delivery], head: WorkflowHead | None, damage: str | None = None
) -> dict[Delivery, Outgoing]:
    """The answers to those of these deliveries that are questions.

    Args:
        name: the workflow.
        head: of the instance; None if nobody knows more of it than that it is damaged.
        damage: what is damaged, if something is.
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
    return answers
