"""Lets a closed instance be removed before its retention ends."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.effects import Confirm
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.reopening import DELETED, drop_probe, reject
from infinitic.messages.engine import Delete


def delete(head: WorkflowHead, message: Delete, now: float) -> InputResult:
    """End the retention of an instance now. The next purge of the storage removes it.

    Args:
        head: the instance. One that runs is left alone, and who asked is told so.
        message: the request.
        now: seconds since the Unix epoch.
    """
    if head.closed_at is None:
        why = "has not closed: cancel or terminate it, or wait until it ends"
        return reject(head, message.request_id, message.reply_to, why)
    head, dropped = drop_probe(head, DELETED)
    outbox = dropped if message.reply_to is None else (*dropped, Confirm(message.reply_to))
    return InputResult(replace(head, retention=0.0), outbox=outbox, deduplication_id=message.request_id)
