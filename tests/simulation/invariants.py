"""Reads what is in a database, and checks it by the rules of `infinitic_testing.invariants`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.messages import events
from infinitic.messages.events import Event
from infinitic.storage import Segment, StateKey
from infinitic.storage.integrity import check_head, check_segment
from infinitic_storages.memory import Database
from infinitic_testing.invariants import FindSpecs, check_stored
from tests.simulation.world import World

Kept = dict[StateKey, tuple[bytes, tuple[Segment, ...]]]


def read_instances(database: Database) -> Kept:
    """Read head and history of all instances, as bytes, without checksums."""
    found: Kept = {}
    for key in database.list_keys():
        stored = check_head(key, database.load([key])[key])
        segments = database.history(key, limit=100_000, outbox=True)
        found[key] = (stored.head, tuple(check_segment(key, segment) for segment in segments))
    return found


def decode_history(segments: Sequence[Segment]) -> list[Event]:
    """Decode the events of a history, in order."""
    return [event for segment in segments for event in events.decode(segment.events)]


async def check_stored_instances(world: World, specs: FindSpecs) -> None:
    """Check that each instance has ended, and that its history is sound and replays."""
    violations = await check_stored(world.storage, specs=specs)
    if violations:
        raise violations[0]


async def check_ended(world: World, specs: Mapping[str, WorkflowSpec]) -> None:
    """Check that each instance has ended exactly once and replays, and that no message waits.

    Stale wakes may still be delayed in the broker, and tasks that nobody waits for may still run.
    """
    await check_stored_instances(world, lambda name: {specs[name].version: specs[name]})
    check_nothing_waits(world)


def check_nothing_waits(world: World) -> None:
    """Check that no message waits to be received."""
    waiting = {topic: left for topic, left in world.backlog().items() if left[0]}
    assert not waiting, f"messages wait: {waiting}"


def check_nothing_changed(before: Kept, after: Kept) -> None:
    """Check that instances, heads and histories are the same, byte for byte."""
    changed = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    assert not changed, f"this changed: {changed}"
