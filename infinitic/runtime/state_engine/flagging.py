"""Writing that an instance is stalled or parked, and nothing else: what was not published yet will be."""

from __future__ import annotations

from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.runtime.state_engine.cache import Held
from infinitic.storage import Change, Entry, Flag, WorkflowStatus


def flag_change(held: Held, head: WorkflowHead, flag: Flag, next_wake: float | None, now: float) -> Change:
    """The change that makes `head` the head of a running instance, listed with this flag. Instants are in seconds."""
    version = int(now * 1e6) if held.version is None else max(held.version + 1, int(now * 1e6))
    entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version, None, next_wake, flag)
    return Change(held.key, held.version, version, state.encode(head), now, published=held.sent, entry=entry)
