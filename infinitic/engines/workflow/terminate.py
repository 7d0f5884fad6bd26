"""Terminates an instance: it closes at once, in any state, and none of its code runs (S35)."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.definitions.workflows import DEFAULT_RETENTION
from infinitic.engines.effects import Answer, Confirm, Effect
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.cancel import cancel_all
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.reopening import TERMINATED, drop_probe
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages import engine as inputs, events
from infinitic.messages.outcomes import WorkflowStatus


def terminate(head: WorkflowHead, message: inputs.Terminate, now: float) -> InputResult:
    """Close an instance, tell all who wait, and stop what it has sent.

    The head that this returns is closed. So what comes behind it in the same batch finds a
    tombstone. A decision that is still to come is of an older epoch. Why the instance was stalled,
    if it was, stays in the head: its code does not repeat its history.
    """
    sequence = head.sequence + 1
    head, dropped = drop_probe(head, TERMINATED)
    outbox: list[Effect] = [*dropped]
    stopped = cancel_all(head)
    if stopped is not None:
        outbox.append(stopped)
    main = head.methods[0]
    for method in head.methods:
        if not method.ended:
            outbox += [Answer(waiter, method.id, sequence) for waiter in method.waiters]
    if not main.ended:
        main = replace(main, waiters=(), status=WorkflowStatus.TERMINATED, ended=sequence)
    if message.reply_to is not None:
        outbox.append(Confirm(message.reply_to))
    closed = replace(
        head,
        methods=(main,),
        status=WorkflowStatus.TERMINATED,
        open=(),
        timers=(),
        retries=(),
        delegated=(),
        armed=None,
        pending=0,
        deciding=0,
        skip=0,
        parked=False,
        # Its class says how long to keep it. That is not known before the code has run once.
        retention=DEFAULT_RETENTION if head.version is None else head.retention,
        closed_at=now,
        epoch=head.epoch + 1,
    )
    reason = fit_text(message.reason, STALL_REASON)
    event = events.Abandoned(reason, bool(head.deciding), now, message.by)
    return InputResult(closed, (event,), tuple(outbox), deduplication_id=message.request_id)
