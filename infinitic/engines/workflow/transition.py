"""The end of a transition: is the instance closed, must a wake be armed, what can be searched."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from infinitic.engines import positions, retries
from infinitic.engines.effects import ArmWake, Effect, SendTask, Tag
from infinitic.engines.state import Method, WorkflowHead
from infinitic.engines.workflow.due import find_next_due
from infinitic.engines.workflow.runs import forget_segments
from infinitic.engines.workflow.tags import remove_tags
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Entry, Flag

LONGEST_WAKE_SECONDS = 86_400.0
"""Brokers need not keep a message longer than this. A later timer takes several wakes."""


class Transition(msgspec.Struct, frozen=True, gc=False):
    """What is to be committed. Made by `conclude`.

    Attributes:
        head: the new head.
        events: those of its segment.
        outbox: the effects of its segment.
        entry: the facts by which the instance is found; None if they stay as they are.
        expires_at: when the closed instance may be removed, in seconds since the Unix epoch; None
            while it runs.
    """

    head: WorkflowHead
    events: Sequence[Event]
    outbox: Sequence[Effect]
    entry: Entry | None
    expires_at: float | None


def is_runnable(head: WorkflowHead) -> bool:
    """Whether stimuli wait that the code can be handed now."""
    if head.pending == 0 or head.deciding or head.stalled is not None:
        return False
    return head.closed_at is None and head.probe is None


def choose_flag(head: WorkflowHead) -> Flag | None:
    """Choose the flag that tells why to look at this instance; None if nobody has to."""
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
    """Close a transition.

    The instance closes when every method has returned, and every task, child and call is settled.
    Once cancelled, it waits for none of them (S28). Of the wakes in the outbox, the earliest stays
    if it is before the one that is armed.

    Args:
        before: the head before; None if the instance is new.
        head: the head after inputs and commands.
        events: what goes to the segment of this transition.
        outbox: the effects of inputs and commands.
        now: seconds since the Unix epoch.
    """
    # Whatever comes for a tombstone changes nothing, not even its times (F1).
    was_closed = before is not None and before.closed_at is not None
    if was_closed and head.closed_at is not None:
        as_before = head.closed_at + head.retention
        if outbox:
            # Of a tombstone it is written only what an operator was told, and when it expires.
            head = replace(head, sequence=head.sequence + 1)
        return Transition(head, events, outbox, None, as_before)
    entry, expires_at = None, None
    outbox, due = _prune(head, outbox)
    if head.closed_at is None and (head.canceling or not head.open) and _has_ended(head):
        status = head.methods[0].status
        if head.open:
            # Only a cancelled instance leaves something open. What fails is not tried again.
            outbox = [each for each in outbox if type(each) is not SendTask or not each.retry_index]
        head = replace(head, status=status, closed_at=now, armed=None, open=(), timers=(), retries=(), delegated=())
    if head.closed_at is not None:
        if head.tagged or head.unique:
            ending = make_closing_effects(head)
            outbox = [*ending, *(each for each in outbox if type(each) is not Tag)]
        expires_at = now + head.retention
        entry = Entry(head.status, head.started_at, head.version, now)
    else:
        if head.armed is None and before is not None and before.armed is not None:
            # The wake is used up, or lost.
            due = find_next_due(head)
        if due is not None:
            target = min(due, now + LONGEST_WAKE_SECONDS)
            if head.armed is None or target < head.armed:
                head = replace(head, armed=target)
                outbox = [*outbox, ArmWake(target)]
    if head.pending and is_runnable(head):
        # Some of what waited was left to the next activation: nothing else would bring that about.
        outbox = [*outbox, ArmWake(now)]
    sequence = 0 if before is None else before.sequence
    if events or outbox:
        sequence += 1
        if before is not None and before.base:
            head = forget_segments(before, head)
    # `decide` has set it already, so most transitions need no further copy of the head.
    if head.sequence != sequence:
        head = replace(head, sequence=sequence)
    if entry is None:
        raised = head.parked or head.stalled is not None
        if before is not None and not raised:
            raised = before.parked or before.stalled is not None  # an older release set no flag
        if raised or was_closed or before is None or before.version != head.version or before.armed != head.armed:
            entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version, None, head.armed, choose_flag(head))
    return Transition(head, events, outbox, entry, expires_at)


def make_closing_effects(head: WorkflowHead) -> Sequence[Effect]:
    """Make the effects of the end of an instance; none if it has not ended, or leaves no trace.

    They come first in its outbox. So who has an answer finds the custom id freed.
    """
    if not (head.tagged or head.unique) or not (head.closed_at is not None or _has_ended(head)):
        return ()
    return remove_tags(head)


def _prune(head: WorkflowHead, outbox: Sequence[Effect]) -> tuple[Sequence[Effect], float | None]:
    """Leave out what need not be sent.

    These are attempts of tasks that were settled in the same transition, and all but the newest
    attempt of a task. First attempts are not looked at: what is asked for and cancelled in one
    activation is not sent anyway. All wakes are left out.

    Returns:
        The outbox, and the time of the earliest wake in it; None if there was none.
    """
    due: float | None = None
    again = False
    for each in outbox:
        if type(each) is SendTask:
            if each.retry_index or each.retry_sequence:
                again = True
        elif type(each) is ArmWake and (due is None or each.due < due):
            due = each.due
    if again:
        outbox = [each for each in outbox if type(each) is not SendTask or _is_newest(head, each)]
    if due is not None:
        outbox = [each for each in outbox if type(each) is not ArmWake]
    return outbox, due


def _is_newest(head: WorkflowHead, attempt: SendTask) -> bool:
    if positions.find_request(head.open, attempt.position) is None:
        return False
    last = retries.find(head.retries, attempt.position)
    if last is None:
        return not attempt.retry_sequence and not attempt.retry_index
    return (last.retry_sequence, last.retry_index, last.due) == (attempt.retry_sequence, attempt.retry_index, None)


def _has_ended(head: WorkflowHead) -> bool:
    if head.pending or head.deciding or (head.open and not head.canceling):
        return False
    return has_returned(head.methods)


def has_returned(methods: Sequence[Method]) -> bool:
    """Whether none of these methods runs."""
    for method in methods:  # noqa: SIM110 (a generator takes ten times as long)
        if method.status is WorkflowStatus.RUNNING:
            return False
    return True
