"""The end of a transition: is the instance closed, must a wake be armed, what can be searched."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import ArmWake, Effect, SendTask
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.describe import next_due
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Entry, Flag

LONGEST_WAKE_SECONDS = 86_400.0


class Transition(msgspec.Struct, frozen=True, gc=False):
    """What is to be committed: new head, events and outbox of its segment, the searchable facts if they change."""

    head: WorkflowHead
    events: Sequence[Event]
    outbox: Sequence[Effect]
    entry: Entry | None
    expires_at: float | None


def runnable(head: WorkflowHead) -> bool:
    """True if stimuli wait that the code can be handed now."""
    return head.pending != 0 and not head.deciding and head.stalled is None and head.closed_at is None


def flag_of(head: WorkflowHead) -> Flag | None:
    """Why somebody should look at this instance, None if nobody has to."""
    if head.parked:
        return Flag.PARKED
    return None if head.stalled is None else Flag.STALLED


def conclude(
    before: WorkflowHead | None,
    head: WorkflowHead,
    events: Sequence[Event],
    outbox: Sequence[Effect],
    now: float,
) -> Transition:
    """Close a transition that led from `before` (None: the instance is new) to `head`.

    The instance closes when every method has returned and every task is settled; cancelled, it waits for no task (S28).
    """
    if (
        before is not None and before.closed_at is not None
    ):  # a tombstone: whatever comes changes nothing, not even its times (F1)
        return Transition(head, events, outbox, None, None)
    entry, expires_at = None, None
    outbox = _pruned(head, outbox)
    if _ended(head):
        status = head.methods[0].status
        head = replace(head, status=status, closed_at=now, armed=None, open=(), timers=(), retries=())
        expires_at = now + head.retention
        entry = Entry(status, head.started_at, head.version, now)
    elif head.timers or head.retries:
        due = next_due(head)
        if due is not None:
            target = min(due, now + LONGEST_WAKE_SECONDS)
            if head.armed is None or target < head.armed:
                head = replace(head, armed=target)
                outbox = [*outbox, ArmWake(target)]
    if head.pending and runnable(head):
        # Some of what waited was left to the next activation: nothing else would bring that about.
        outbox = [*outbox, ArmWake(now)]
    sequence = 0 if before is None else before.sequence
    if events or outbox:
        sequence += 1
    # `decide` has set it already, so most transitions need no further copy of the head.
    if head.sequence != sequence:
        head = replace(head, sequence=sequence)
    if entry is None:
        raised = head.parked or head.stalled is not None
        if before is not None and not raised:
            raised = before.parked or before.stalled is not None  # an older release set no flag
        if raised or before is None or before.version != head.version or before.armed != head.armed:
            entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version, None, head.armed, flag_of(head))
    return Transition(head, events, outbox, entry, expires_at)


def _pruned(head: WorkflowHead, outbox: Sequence[Effect]) -> Sequence[Effect]:
    """The outbox without attempts of tasks that were settled in the same transition, and of each task the newest one.

    First attempts are not looked at: what is asked for and cancelled in one activation is never sent.
    """
    for each in outbox:
        if type(each) is SendTask and (each.retry_index or each.retry_sequence):
            break
    else:
        return outbox
    last = {retry.position: (retry.retry_sequence, retry.retry_index, retry.due) for retry in head.retries}
    return [
        each
        for each in outbox
        if type(each) is not SendTask
        or (
            positions.request_of(head.open, each.position) is not None
            and last.get(each.position, (0, 0, None)) == (each.retry_sequence, each.retry_index, None)
        )
    ]


def _ended(head: WorkflowHead) -> bool:
    if head.pending or head.deciding or (head.open and not head.canceling):
        return False
    for method in head.methods:  # noqa: SIM110 (a generator takes ten times as long)
        if method.status is WorkflowStatus.RUNNING:
            return False
    return True
