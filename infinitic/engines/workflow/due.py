"""When an instance has something to do by itself."""

from __future__ import annotations

from infinitic.engines import retries, timers
from infinitic.engines.state import WorkflowHead


def find_next_due(head: WorkflowHead) -> float | None:
    """Find when the earliest timer or retry is due: seconds since the Unix epoch; None: no such.

    This looks at all that waits. So a step asks only if the wake before is used up.
    """
    timer, retry = timers.find_next_due(head.timers), retries.find_next_due(head.retries)
    if timer is None or retry is None:
        return retry if timer is None else timer
    return min(timer, retry)
