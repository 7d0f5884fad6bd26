"""Rules about attempts: when they are sent."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.engines.state import Retry
from infinitic.messages import commands, events
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.traffic import Sent

ROUNDING = 1e-6
"""Seconds by which sums of times may differ."""


def check_retry_not_early(step: WrittenStep, sent: Sent) -> str | None:
    """An attempt is sent only when its delay is over, and the delay is the one that was asked."""
    before: Sequence[Retry] = () if step.instance is None else step.instance.head.retries
    # A step with local tasks is written some time after its inputs were taken.
    at = min([step.change.at, *(event.at for event in step.events if isinstance(event, events.Activated))])
    known = {(retry.position, retry.retry_sequence, retry.retry_index): retry.due for retry in before}
    local = {event.position: event for event in step.events if isinstance(event, events.AttemptError) and event.local}
    for retry in step.head.retries:
        which = (retry.position, retry.retry_sequence, retry.retry_index)
        if step.instance is not None and retry.position < len(step.instance.history.requests):
            asked = step.instance.history.requests[retry.position]
            if isinstance(asked, commands.StartChild | commands.CallRemote):
                # It has no attempts here: the index is the epoch of the other instance.
                continue
        if retry.retry_index == 0 and which not in known:
            if not any(isinstance(event, events.Reopened) for event in step.events):
                return f"task {retry.position} is asked for again, and nobody has re-opened it"
        elif which not in known and retry.position in local:
            wanted = local[retry.position].next_at
            if (wanted if retry.due is None else retry.due) < wanted - ROUNDING:
                return f"attempt {retry.retry_index} of task {retry.position} is due at {retry.due!r}, not {wanted!r}"
        elif which not in known:
            delays = sent.delays.get((retry.position, retry.retry_sequence, retry.retry_index - 1), ())
            if not any(_is_due(retry.due, at, delay) for delay in delays):
                return f"attempt {retry.retry_index} of task {retry.position} is due at {retry.due!r}, asked: {delays}"
        elif (due := known[which]) is not None and retry.due is None and due > at:
            return f"attempt {retry.retry_index} of task {retry.position} is sent {due - at:.6f} s early"
    return None


def _is_due(due: float | None, at: float, delay: float) -> bool:
    return delay <= ROUNDING if due is None else due >= at + delay - ROUNDING
