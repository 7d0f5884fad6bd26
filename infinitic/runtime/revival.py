"""From storage back into memory: the live instance by replay, and the outbox of a predecessor."""

from __future__ import annotations

import asyncio

from infinitic.engines import effects
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.render import Outgoing, needed, render
from infinitic.messages import events
from infinitic.messages.events import Stimulus
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.replay.spec import WorkflowSpec
from infinitic.runtime.cache import Held
from infinitic.storage import StateKey, StateStorage

PAGE = 200


async def feed_history(replay: Replay, key: StateKey, until: int, states: StateStorage) -> None:
    """Feed the history of an instance up to a sequence, page by page; the outer loop has its turn between pages."""
    after = 0
    while after < until:
        page = await states.history(key, after=after, limit=min(PAGE, until - after))
        if not page:
            break
        for segment in page:
            replay.feed(events.decode(segment.events))
        after = page[-1].sequence
        if after < until:
            await asyncio.sleep(0)


async def replayed(
    key: StateKey, head: WorkflowHead, spec: WorkflowSpec, states: StateStorage
) -> tuple[Instance, list[Stimulus]]:
    """The live instance as its history left it, and the stimuli that it was not handed yet.

    Nothing live is left behind if that fails. Raises as `Instance.activate` does.
    """
    instance = Instance(spec, head.id, head.meta, head.run)
    replay = Replay(instance)
    try:
        await feed_history(replay, key, head.sequence, states)
        replay.finish(unanswered=head.deciding != 0)
    except BaseException:
        instance.close()
        raise
    return instance, replay.pending


async def revive(held: Held, spec: WorkflowSpec, states: StateStorage) -> None:
    """Make the instance live again."""
    assert held.head is not None
    held.live, held.pending = await replayed(held.key, held.head, spec, states)


async def outbox_of(held: Held, head: WorkflowHead, states: StateStorage, now: float) -> list[Outgoing]:
    """The messages of the last transition: its predecessor may not have got to publish them."""
    last = await states.history(held.key, sequences=[head.sequence], outbox=True)
    if not last or not last[0].outbox:
        return []
    stored = effects.decode(last[0].outbox)
    outbox = stored.effects
    segments = {head.sequence: events.decode(last[0].events)}
    missing = needed(outbox, head.sequence - 1)
    if missing:
        for segment in await states.history(held.key, sequences=sorted(missing)):
            segments[segment.sequence] = events.decode(segment.events)
    return render(outbox, head, segments, now if stored.at is None else stored.at)
