"""From storage back into memory: the live instance by replay, and the outbox of a predecessor.

Nothing is computed from what is damaged: a hole in a history, a value that is not what was written. `CheckedStorage`
compares the checksums; here is checked what only somebody sees who can read the values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.errors import DecodingError
from infinitic.messages import events
from infinitic.messages.commands import RecordInline, ScheduleTask, StartTimer
from infinitic.messages.events import Activated, Event, Stimulus
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.storage import DamagedState, Segment, StateKey, StateStorage, Stored

FIRST_PAGE = 50
"""Segments that are read first. How many follow depends on their size."""

LONGEST_PAGE = 500
PAGE_BYTES = 8 * 1024 * 1024
"""About how many bytes of a history are in memory at once."""


class HistoryCheck:
    """Follows a history in order: activations count from 1, positions from 0, both without a gap."""

    __slots__ = ("_key", "activation", "bytes", "position")

    def __init__(self, key: StateKey) -> None:
        self._key = key
        self.activation = 0
        self.position = 0
        self.bytes = 0
        """How many bytes of events it has seen."""

    def follow(self, segment: Segment, happened: Sequence[Event]) -> None:
        """The events of the next segment. Raises `DamagedState`."""
        self.bytes += len(segment.events)
        for event in happened:
            if isinstance(event, Activated):
                self.activation += 1
                self._expect(segment, "activation", self.activation, event.number)
            elif isinstance(event, ScheduleTask | StartTimer | RecordInline):
                self._expect(segment, "position", self.position, event.position)
                self.position += 1

    def _expect(self, segment: Segment, what: str, expected: int, found: int) -> None:
        if found != expected:
            where = f"Segment {segment.sequence}"
            raise DamagedState(self._key, where, f"it holds {what} {found}, where {expected} comes next")

    def finish(self, head: WorkflowHead) -> None:
        """The history is at its end: it leads to this head. Raises `DamagedState`."""
        for what, found, expected in (
            ("activations", self.activation, head.activation),
            ("positions", self.position, head.position),
        ):
            if found != expected:
                raise DamagedState(self._key, "The history", f"it holds {found} {what}, and the head knows {expected}")


def decode_head(key: StateKey, stored: Stored) -> WorkflowHead:
    """The head of an instance. Raises `DamagedState`, and `NewerSchema` for one of a newer release."""
    if stored.damage:
        raise DamagedState(key, "The head", stored.damage)
    try:
        head = state.decode(stored.head)
    except state.NewerSchema:
        raise
    except DecodingError as error:
        raise DamagedState(key, "The head", str(error)) from error
    if (head.name, head.id) != (key.name, key.id):
        raise DamagedState(key, "The head", f"it is that of {head.name} {head.id}")
    if head.sequence != stored.sequence:
        why = f"it knows {head.sequence} segments, and {stored.sequence} were written"
        raise DamagedState(key, "The head", why)
    return head


def decode_events(key: StateKey, segment: Segment) -> list[Event]:
    """The events of a segment. Raises `DamagedState`."""
    try:
        return events.decode(segment.events)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedState(key, f"Segment {segment.sequence}", f"it cannot be decoded: {error}") from error


async def feed_history(replay: Replay, key: StateKey, until: int, states: StateStorage) -> HistoryCheck:
    """Feed the history of an instance up to a sequence, page by page; the outer loop has its turn between pages.

    Raises `DamagedState` if a segment is missing or is not what was written.
    """
    check = HistoryCheck(key)
    after, limit = 0, FIRST_PAGE
    while after < until:
        page = await states.history(key, after=after, limit=min(limit, until - after))
        if not page:
            raise DamagedState(key, f"Segment {after + 1}", "it is missing")
        for segment in page:
            after += 1
            if segment.sequence != after:
                raise DamagedState(key, f"Segment {after}", "it is missing")
            happened = decode_events(key, segment)
            check.follow(segment, happened)
            replay.feed(happened)
        if after < until:
            size = max(1, sum(len(segment.events) for segment in page) // len(page))
            limit = min(LONGEST_PAGE, max(1, PAGE_BYTES // size))
            del page
            await asyncio.sleep(0)
    return check


async def replay_history(
    key: StateKey, head: WorkflowHead, spec: WorkflowSpec, states: StateStorage
) -> tuple[Instance, list[Stimulus], int]:
    """The live instance as its history left it, the stimuli that it was not handed yet, and the bytes of its history.

    Nothing live is left behind if that fails. Raises as `Instance.activate` does, and `DamagedState`.
    """
    instance = Instance(spec, head.id, head.meta, head.run)
    replay = Replay(instance)
    try:
        check = await feed_history(replay, key, head.sequence, states)
        check.finish(head)
        replay.finish(unanswered=head.deciding != 0)
    except BaseException:
        instance.close()
        raise
    return instance, replay.pending, check.bytes


async def read_segments(key: StateKey, sequences: Iterable[int], states: StateStorage) -> dict[int, list[Event]]:
    """The events of exactly these segments. Raises `DamagedState` if one is missing or is not what was written."""
    wanted = sorted(sequences)
    found = {each.sequence: decode_events(key, each) for each in await states.history(key, sequences=wanted)}
    lost = next((each for each in wanted if each not in found), None)
    if lost is not None:
        raise DamagedState(key, f"Segment {lost}", "it is missing")
    return found
