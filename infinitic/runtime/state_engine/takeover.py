"""Taking an instance over from storage: its live object by replay, and the outbox of the worker that had it before.

Nothing is sent from what is damaged: what was not published must not be passed over.
"""

from __future__ import annotations

import msgspec

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import effects
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.render import Outgoing, needed, render
from infinitic.runtime.history import events_of, read_segments, replay_history
from infinitic.runtime.state_engine.cache import Held
from infinitic.storage import DamagedState, StateStorage


async def revive(held: Held, spec: WorkflowSpec, states: StateStorage) -> None:
    """Make the instance live again."""
    assert held.head is not None
    held.live, held.pending, held.bytes = await replay_history(held.key, held.head, spec, states)


async def outbox_of(held: Held, head: WorkflowHead, states: StateStorage, now: float, longest: int) -> list[Outgoing]:
    """The messages of the last transition: its predecessor may not have got to publish them.

    `longest` is how many bytes the body of a message may have.
    Raises `DamagedState` if that is not known any more: what was not published must not be passed over.
    """
    key, what = held.key, f"The outbox of segment {head.sequence}"
    last = await states.history(key, sequences=[head.sequence], outbox=True)
    if not last:
        raise DamagedState(key, f"Segment {head.sequence}", "it is missing")
    if not last[0].outbox:
        raise DamagedState(key, what, "it is missing, and was not published yet")
    try:
        kept = effects.decode(last[0].outbox)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedState(key, what, f"it cannot be decoded: {error}") from error
    segments = {head.sequence: events_of(key, last[0])}
    outbox = kept.effects
    missing = needed(outbox, head.sequence - 1)
    if missing:
        segments |= await read_segments(key, missing, states)
    try:
        return render(outbox, head, segments, now if kept.at is None else kept.at, longest)
    except (LookupError, StopIteration, AssertionError) as error:
        raise DamagedState(key, what, "it names what the history does not hold") from error
