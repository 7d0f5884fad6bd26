"""Writing that an instance is stalled or parked, and nothing else: what was not published yet will be."""

from __future__ import annotations

from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.storage import Change, Entry, Flag, WorkflowStatus


def make_flag_change(
    instance: CachedInstance, head: WorkflowHead, flag: Flag, next_wake: float | None, now: float
) -> Change:
    """The change that makes `head` the head of a running instance, listed with this flag. Instants are in seconds."""
    version = int(now * 1e6) if instance.version is None else max(instance.version + 1, int(now * 1e6))
    entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version, None, next_wake, flag)
    return Change(
        instance.key, instance.version, version, state.encode(head), now, published=instance.sent, entry=entry
    )
