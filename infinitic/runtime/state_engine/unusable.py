"""What an instance gets in place of a message that cannot be used and goes to the dead letters.

If it waits for that message, it would wait for ever. The id of the message says what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from infinitic import ids
from infinitic.engines.effects import Effect
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import stall, take
from infinitic.engines.workflow.remotes import make_refusal
from infinitic.engines.workflow.reopening import give_up_probe
from infinitic.errors import InfiniticError
from infinitic.messages.events import Event
from infinitic.runtime.undecodable import make_task_failure
from infinitic.storage import StateKey


def replace_unusable(
    head: WorkflowHead, key: StateKey, message_id: str, why: InfiniticError, now: float, window: float
) -> tuple[WorkflowHead, Sequence[Event], Sequence[Effect]]:
    """Do what the instance needs in place of the message.

    Nothing changes if it does not wait for it.

    The id may be forged. Whoever can do that could have sent a valid message as well.

    Args:
        head: the instance.
        key: its key.
        message_id: the id of the message.
        why: what is wrong with the message.
        now: seconds since the Unix epoch.
        window: the deduplication window, in seconds.

    Returns:
        The head after that, the events for its history, and what is to be sent.
    """
    if head.probe is not None and ids.read_activation(message_id, head.id) == (head.activation, head.epoch):
        given_up = give_up_probe(head, head.probe, str(why))
        return given_up.head or head, (), given_up.outbox
    if head.closed_at is not None:
        # A tombstone waits for nothing. It must not be written again: its expiry would be lost.
        return head, (), ()
    if message_id == ids.wake_id(head.id):
        # No wake is on its way any more: the end of this step sends another one.
        return replace(head, armed=None), (), ()
    if ids.read_activation(message_id, head.id) == (head.activation, head.epoch):
        return _miss_decision(head, why), (), ()
    request = ids.read_settlement(message_id, head.id)
    if request is not None:
        # A parent would wait for ever for what a child had to say.
        refusal = make_refusal(request, f"The answer to this request went to the dead letters: {why}", now)
        refused = take(head, key, refusal, now, window)
        return refused.head or head, refused.events, ()
    attempt = ids.read_attempt(message_id)
    if attempt is None or attempt[0] != head.id:
        return head, (), ()
    # It counts only if this attempt was sent last, as any report of a failure.
    report = make_task_failure(attempt, "The report of this task", why, "", now)
    result = take(head, key, report, now, window)
    return result.head or head, result.events, ()


def _miss_decision(head: WorkflowHead, why: InfiniticError) -> WorkflowHead:
    """Stall if a decision is waited for.

    If the id was forged, the decision still comes, and ends the stall.
    """
    if not head.deciding or head.stalled is not None:
        return head
    return stall(head, f"The decision for activation {head.activation} went to the dead letters: {why}")
