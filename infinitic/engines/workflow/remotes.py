"""How an instance takes the answers to what it has asked of other instances.

It waits for a child or a call at a position, as for a task. So an answer is recognised by its
position: once that is closed, a duplicate changes nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines import retries
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import tasks
from infinitic.engines.workflow.cancel import cancel_positions
from infinitic.engines.workflow.input_result import InputResult
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages import events
from infinitic.messages.engine import RemoteSettled
from infinitic.messages.outcomes import RemoteStatus


def remote_settled(head: WorkflowHead, message: RemoteSettled, now: float) -> InputResult:
    """Settle a child or a call.

    A result counts, whichever request it answers, and what was asked for later is cancelled. A
    failure counts only if it answers the request that was sent last: a newer one may still run.
    """
    position = message.position
    if message.run != head.run:
        return InputResult(head)
    last = retries.find(head.retries, position)
    if message.status is RemoteStatus.COMPLETED:
        settled = tasks.settle(head, position, events.RemoteResult(position, message.value, now))
        if last is None or message.retry_sequence >= last.retry_sequence:
            return settled
        stopped = cancel_positions(head, (position,))
        return settled if stopped is None else replace(settled, outbox=(stopped,))
    if message.retry_sequence != (0 if last is None else last.retry_sequence):
        return InputResult(head)
    # For what runs on another instance, the index is the epoch of that instance.
    if last is not None and message.epoch < last.retry_index:
        return InputResult(head)
    event = events.RemoteError(position, message.status, message.failure, message.reason, now)
    return tasks.settle(head, position, event)


def make_refusal(request: tuple[int, int, int], reason: str, now: float) -> RemoteSettled:
    """Make the input that stands for an answer which nobody can decode.

    Args:
        request: what it answers: run, position and retry sequence of the instance that waits.
        reason: what is wrong with it.
        now: seconds since the Unix epoch.
    """
    run, position, retry_sequence = request
    return RemoteSettled(
        made_at=now,
        position=position,
        run=run,
        retry_sequence=retry_sequence,
        status=RemoteStatus.REFUSED,
        reason=fit_text(reason, STALL_REASON),
    )
