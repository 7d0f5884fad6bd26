"""Taking an instance over from the storage, as another worker or an earlier process has left it.

A worker may have died between its commit and its publish. So whoever loads an instance publishes
the last outbox again, unless the storage knows that this was done. A message that was published
already comes twice then, with the same id and time, and its receiver recognises it.
"""

from __future__ import annotations

import msgspec

from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import effects
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.render import find_referenced_segments, render
from infinitic.limits import compute_body_limit
from infinitic.runtime.history import decode_events, decode_head, read_segments, replay_history
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.storage import DamagedState, StateKey, StateStorage, Stored
from infinitic.transport import Outgoing


class Takeover:
    """Makes instances in memory of what is stored.

    Args:
        states: where histories are read.
        publisher: publishes last outboxes.
        clock: the time of day.
    """

    def __init__(self, states: StateStorage, publisher: Publisher, clock: Clock) -> None:
        self._states = states
        self._publisher = publisher
        self._clock = clock

    @staticmethod
    def decode(key: StateKey, stored: Stored | None) -> CachedInstance:
        """Make an instance of its stored state; None: of one that does not exist yet.

        Raises:
            DamagedState: the head cannot be read.
            NewerSchema: a newer release has written it.
        """
        if stored is None:
            return CachedInstance(key, None, None, published=True)
        return CachedInstance(key, decode_head(key, stored), stored.version, published=stored.published)

    async def publish_last(self, instance: CachedInstance, *, unparks: bool = False) -> None:
        """Publish the last outbox of an instance, unless that is known to be done.

        Args:
            instance: as it was loaded. A parked one sends nothing.
            unparks: whether it is parked no more from now on.

        Raises:
            DamagedState: it is not known any more what was to be published.
            TransportError: the broker refuses it.
        """
        head = instance.head
        if head is None or instance.published or not head.sequence or (head.parked and not unparks):
            return
        longest = compute_body_limit(self._publisher.transport.capabilities.max_payload)
        outgoing = await read_outbox(instance.key, head, self._states, self._clock.now(), longest)
        await self._publisher.publish(outgoing)
        instance.sent = True


async def revive(instance: CachedInstance, spec: WorkflowSpec, states: StateStorage) -> None:
    """Make an instance live again, by a replay of its history.

    Raises:
        NonDeterminismError: the code does not repeat its history.
        WorkflowCodeError: the code cannot be run.
        DamagedState: the history is damaged.
    """
    assert instance.head is not None
    instance.live, instance.pending, instance.bytes = await replay_history(instance.key, instance.head, spec, states)


async def read_outbox(
    key: StateKey, head: WorkflowHead, states: StateStorage, now: float, longest: int
) -> list[Outgoing]:
    """Read the outbox of the last step, and make messages of it.

    Args:
        key: the instance.
        head: its head, as it is stored.
        states: where the history is read.
        now: the time that messages of release 0.1 get, in seconds since the Unix epoch. Later
            releases keep the time in the outbox.
        longest: how many bytes the body of a message may have.

    Raises:
        DamagedState: the outbox is lost. What was not published must not be passed over.
    """
    what = f"The outbox of segment {head.sequence}"
    last = await states.history(key, sequences=[head.sequence], outbox=True)
    if not last:
        raise DamagedState(key, f"Segment {head.sequence}", "it is missing")
    if not last[0].outbox:
        raise DamagedState(key, what, "it is missing, and was not published yet")
    try:
        kept = effects.decode(last[0].outbox)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedState(key, what, f"it cannot be decoded: {error}") from error
    segments = {head.sequence: decode_events(key, last[0])}
    missing = find_referenced_segments(kept.effects, head.sequence - 1)
    if missing:
        segments |= await read_segments(key, missing, states)
    try:
        return render(kept.effects, head, segments, now if kept.at is None else kept.at, longest)
    except (LookupError, StopIteration, AssertionError) as error:
        raise DamagedState(key, what, "it names what the history does not hold") from error
