"""Writing that an instance is stalled or parked, and nothing else. An outbox that waits is kept."""

from __future__ import annotations

from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.storage import Change, Entry, Flag, WorkflowStatus


def make_flag_change(
    instance: CachedInstance, head: WorkflowHead, flag: Flag, next_wake: float | None, now: float
) -> Change:
    """Make the change that lists a running instance with a flag.

    Args:
        instance: the instance as it is stored.
        head: its head, in which it is stalled or parked.
        flag: the same, for lists.
        next_wake: when its earliest timer is due, in seconds since the Unix epoch; None: never.
        now: seconds since the Unix epoch.
    """
    version = int(now * 1e6) if instance.version is None else max(instance.version + 1, int(now * 1e6))
    entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version, None, next_wake, flag)
    return Change(
        instance.key, instance.version, version, state.encode(head), now, published=instance.sent, entry=entry
    )
