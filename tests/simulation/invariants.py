"""What must be true of every workflow, whatever was cut, lost, repeated or reordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.messages import commands, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.runtime.history import feed_history
from infinitic.storage import Query, Segment, StateKey
from infinitic.storage.integrity import check_head, check_segment
from infinitic_storages.memory import Database
from tests.simulation.world import World

Kept = dict[StateKey, tuple[bytes, tuple[Segment, ...]]]

_SETTLED = (events.TaskResult, events.TaskError, events.TaskTimeout)
_ENDED = (commands.CompleteMethod, commands.FailMethod, commands.CancelMethod)
_ASKED = (commands.ScheduleTask, commands.StartTimer, commands.RecordInline)


def read_instances(database: Database) -> Kept:
    """Read head and history of all instances, as bytes, without checksums."""
    found: Kept = {}
    cursor: str | None = None
    while True:
        page = database.find(Query(limit=100, cursor=cursor))
        for each in page.found:
            stored = check_head(each.key, database.load([each.key])[each.key])
            segments = database.history(each.key, limit=100_000, outbox=True)
            found[each.key] = (stored.head, tuple(check_segment(each.key, segment) for segment in segments))
        cursor = page.cursor
        if cursor is None:
            return found


def decode_history(segments: Sequence[Segment]) -> list[Event]:
    """Decode the events of a history, in order."""
    return [event for segment in segments for event in events.decode(segment.events)]


def check_history(key: StateKey, head: WorkflowHead, segments: Sequence[Segment]) -> None:
    """Check a history: no gaps, and nothing is asked for, settled or ended twice."""
    sequences = [segment.sequence for segment in segments]
    assert sequences == list(range(1, head.sequence + 1)), f"{key}: segments {sequences}, the head has {head.sequence}"
    history = decode_history(segments)
    asked = Counter(event.position for event in history if isinstance(event, _ASKED))
    settled = Counter(event.position for event in history if isinstance(event, _SETTLED))
    fired = Counter(event.position for event in history if isinstance(event, events.TimerFired))
    started = Counter(event.method_id for event in history if isinstance(event, events.MethodStarted))
    ended = Counter(event.method_id for event in history if isinstance(event, _ENDED))
    for what, counted in (
        ("asked for", asked),
        ("settled", settled),
        ("fired", fired),
        ("started", started),
        ("ended", ended),
    ):
        twice = [each for each, count in counted.items() if count > 1]
        assert not twice, f"{key}: {what} twice: {twice}"
    assert sorted(asked) == list(range(head.position)), (
        f"{key}: positions {sorted(asked)}, the head has {head.position}"
    )
    assert set(settled) | set(fired) <= set(asked), f"{key}: settled, but never asked for"
    assert set(ended) <= set(started), f"{key}: ended, but never started"
    numbers = [event.number for event in history if isinstance(event, events.Activated)]
    assert numbers == list(range(1, head.activation + 1)), (
        f"{key}: activations {numbers}, the head has {head.activation}"
    )
    times = [event.at for event in history if isinstance(event, events.Activated)]
    assert times == sorted(times), f"{key}: time went back: {times}"


def check_closed(key: StateKey, head: WorkflowHead, history: Sequence[Event]) -> None:
    """Check that an instance is closed, and that nothing of it is open."""
    assert head.closed, f"{key} is not closed: {head}"
    assert head.status is not WorkflowStatus.RUNNING, f"{key}: {head}"
    left = (head.open, head.timers, head.retries, head.armed, head.pending, head.deciding, head.stalled)
    assert left == ((), (), (), None, 0, 0, None), f"{key} is closed, and has left: {head}"
    assert not head.parked, f"{key} is parked"
    assert [method.id for method in head.methods] == [key.id], f"{key}: methods {head.methods}"
    assert not head.methods[0].waiters, f"{key}: somebody waits still: {head.methods}"
    started = {event.method_id for event in history if isinstance(event, events.MethodStarted)}
    ended = {event.method_id for event in history if isinstance(event, _ENDED)}
    assert started == ended, f"{key}: methods {started - ended} never ended"


async def check_replays(world: World, key: StateKey, head: WorkflowHead, spec: WorkflowSpec) -> None:
    """Check that the code gives the same commands again when its history is replayed."""
    instance = Instance(spec, head.id, head.meta, head.run)
    try:
        replay = Replay(instance)
        await feed_history(replay, key, head.sequence, world.storage.states)
        replay.finish(unanswered=False)
    finally:
        instance.close()


async def check_ended(world: World, specs: dict[str, WorkflowSpec]) -> None:
    """Check that each instance has ended exactly once and replays, and that no message waits.

    Stale wakes may still be delayed in the broker, and tasks that nobody waits for may still run.
    """
    for key, (encoded, segments) in read_instances(world.database).items():
        head = state.decode(encoded)
        check_history(key, head, segments)
        check_closed(key, head, decode_history(segments))
        await check_replays(world, key, head, specs[key.name])
    waiting = {topic: left for topic, left in world.backlog().items() if left[0]}
    assert not waiting, f"messages wait: {waiting}"


def check_nothing_changed(before: Kept, after: Kept) -> None:
    """Check that instances, heads and histories are the same, byte for byte."""
    changed = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    assert not changed, f"this changed: {changed}"
