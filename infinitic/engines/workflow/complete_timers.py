"""Completes timers before their time, because somebody asks for it (S36)."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines import timers
from infinitic.engines.effects import Confirm
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.refusals import is_running, refuse
from infinitic.messages import engine as inputs, events


def complete_timers(head: WorkflowHead, message: inputs.CompleteTimers, now: float) -> InputResult:
    """Fire the timers that code waits for, those of one method or all.

    A limit of time is no such timer: `asyncio.timeout` and total timeouts go on. The id of the
    input is kept also if there is no timer: a repeat must not fire a later one. The wake that is
    armed may come too early then, and finds nothing due.
    """
    to = message.reply_to
    wanted = message.method_id
    if wanted and not is_running(head, wanted):
        return refuse(head, message, again=True)
    # The timers of the first method do not name it.
    method = None if not wanted else "" if wanted == head.methods[0].id else wanted
    left, fired = timers.take_completable(head.timers, method)
    return InputResult(
        replace(head, timers=left, pending=head.pending or (head.sequence + 1 if fired else 0)),
        tuple(events.TimerFired(timer.position, completed=True) for timer in fired),
        (Confirm(to),) if to is not None else (),
        deduplication_id=message.request_id,
    )
