"""`continue_as_new`: the first method asks for the next run, which begins when all is settled.

The next run is the same instance, with the same id, tags and waiting clients. Its positions and
activations count from 0 again, and its history begins with a segment of its own. Messages of the
run before name that run, or its epoch, and change nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from infinitic.engines.effects import ArmWake, CancelSent, Effect, SendRemote
from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Carry, Event, MethodStarted, RunStarted, Started, Stimulus
from infinitic.messages.outcomes import WorkflowStatus

FORGOTTEN = 200
"""How many segments of earlier runs go with one transition."""


def begin_run(
    head: WorkflowHead, carry: Carry | None, happened: Sequence[Event], outbox: Sequence[Effect], now: float
) -> tuple[WorkflowHead, Sequence[Event], Sequence[Effect]]:
    """Begin the next run, if the first method has asked for it and nothing else is to be done.

    Args:
        head: the instance, after an activation. It counts the segment of this transition already.
        carry: what the code hands over; None if it has asked for no run.
        happened: the events of this transition so far.
        outbox: its effects.
        now: seconds since the Unix epoch.

    Returns:
        The head, the events and the effects, with the next run if it begins.
    """
    if carry is None or not is_settled(head, carry):
        return head, happened, outbox
    main = replace(head.methods[0], name=carry.method)
    started: list[Event] = [RunStarted(head.run + 1)]
    if carry.tags or carry.custom_id:
        started.append(Started(head.started_at, carry.tags, carry.custom_id))
    started.append(MethodStarted(head.id, carry.method, carry.arguments, now))
    started += carry.signals
    started += carry.calls
    begun = replace(
        head,
        methods=(main, *head.methods[1:]),
        version=None,
        run=head.run + 1,
        timers=(),
        pending=head.sequence,
        activation=0,
        digest="",
        position=0,
        epoch=head.epoch + 1,
        # What came before in this segment was for the run before.
        skip=sum(isinstance(event, Stimulus) for event in happened),
        failures=(),
        undone=(),
        base=head.sequence,
        continuing=False,
        # Methods of the run before cannot run again.
        told=(),
        delegated=(),
        by_message=0,
    )
    # No timer of the run before is left. `conclude` arms the wake that hands all this over.
    return begun, [*happened, *started], [_keep_run(each, head.run) for each in outbox if type(each) is not ArmWake]


def _keep_run(effect: Effect, run: int) -> Effect:
    """Keep the run in effects that name it when they are sent: the head names the next one."""
    return replace(effect, run=run) if isinstance(effect, CancelSent | SendRemote) else effect


def is_settled(head: WorkflowHead, carry: Carry) -> bool:
    """Whether nothing of this run is left to be done.

    Its methods have returned, but for those that have not begun, and its tasks have ended.
    """
    if not head.continuing or head.pending or head.deciding or head.open:
        return False
    waiting = {call.method_id for call in carry.calls}
    return all(method.status is not WorkflowStatus.RUNNING or method.id in waiting for method in head.methods[1:])


def forget_segments(before: WorkflowHead, head: WorkflowHead) -> WorkflowHead:
    """Let some more segments of earlier runs go with this transition.

    Args:
        before: the head before. The outbox that goes with it may need what is before its own run.
        head: the head after.
    """
    first = max(before.first, 1)
    if first >= before.base:
        return head
    return replace(head, first=min(before.base, first + FORGOTTEN))
