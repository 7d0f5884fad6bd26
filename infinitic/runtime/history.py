"""Reads what is stored back into memory: heads, events, and the live instance by a replay.

Nothing is computed from damaged state. That is a history with a gap, or a value that is not what
was written. `CheckedStorage` compares the checksums. This module checks what only a reader of the
values can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NoReturn, Protocol

import msgspec

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.errors import DecodingError
from infinitic.messages import events
from infinitic.messages.commands import CallRemote, RecordInline, ScheduleTask, SignalRemote, StartChild, StartTimer
from infinitic.messages.events import Activated, Event, Reopened, RunStarted, Stimulus
from infinitic.replay.history import Replay, cut_to_run
from infinitic.replay.instance import Instance
from infinitic.replay.undone import Undone
from infinitic.storage import DamagedState, Segment, StateKey, StateStorage, Stored

FIRST_PAGE = 50
"""Segments that are read first. How many follow depends on their size."""

LONGEST_PAGE = 500
PAGE_BYTES = 8 * 1024 * 1024
"""About how many bytes of a history are in memory at once."""

_REQUESTS = (ScheduleTask, StartTimer, RecordInline, StartChild, CallRemote, SignalRemote)


class HistoryCheck:
    """Checks that a history has no gaps: activations count from 1, and positions from 0.

    Attributes:
        activation: the last activation that it has seen.
        position: the next position that it expects.
        bytes: how many bytes of events it has seen.
    """

    __slots__ = ("_key", "activation", "bytes", "position")

    def __init__(self, key: StateKey) -> None:
        self._key = key
        self.activation = 0
        self.position = 0
        self.bytes = 0

    def follow(self, segment: Segment, happened: Sequence[Event]) -> None:
        """Check the next segment.

        Args:
            segment: the segment.
            happened: its events, decoded.

        Raises:
            DamagedState: a number is not the one that comes next.
        """
        self.bytes += len(segment.events)
        for event in happened:
            if isinstance(event, RunStarted):
                self.activation = self.position = 0
            elif isinstance(event, Activated):
                self.activation += 1
                if event.number != self.activation:
                    self._refuse(segment, "activation", self.activation, event.number)
            elif isinstance(event, _REQUESTS):
                if event.position != self.position:
                    self._refuse(segment, "position", self.position, event.position)
                self.position += 1

    def _refuse(self, segment: Segment, what: str, expected: int, found: int) -> NoReturn:
        where = f"Segment {segment.sequence}"
        raise DamagedState(self._key, where, f"it holds {what} {found}, where {expected} comes next")

    def finish(self, head: WorkflowHead) -> None:
        """Check that the history, which is at its end, leads to this head.

        Raises:
            DamagedState: it does not.
        """
        for what, found, expected in (
            ("activations", self.activation, head.activation),
            ("positions", self.position, head.position),
        ):
            if found != expected:
                raise DamagedState(self._key, "The history", f"it holds {found} {what}, and the head knows {expected}")


def decode_head(key: StateKey, stored: Stored) -> WorkflowHead:
    """Decode the head of an instance.

    Raises:
        DamagedState: it is not what was written.
        NewerSchema: a newer release has written it.
    """
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
    """Decode the events of a segment.

    Raises:
        DamagedState: they cannot be decoded.
    """
    try:
        return events.decode(segment.events)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedState(key, f"Segment {segment.sequence}", f"it cannot be decoded: {error}") from error


class HistoryReader(Protocol):
    """Takes the events of a history, segment by segment: a `Replay`, or a `RunReader`."""

    def feed(self, events: Sequence[Event], /) -> None:
        """Take the events of the next segment."""
        ...


async def feed_history(
    reader: HistoryReader, key: StateKey, until: int, states: StateStorage, base: int
) -> HistoryCheck:
    """Feed the history of an instance to a reader, page by page. Other tasks run between the pages.

    Args:
        reader: takes the events. A `Replay` runs the code again.
        key: the instance.
        until: the sequence of the last segment.
        states: where the history is read.
        base: the segment with which the run begins; 0: the first one.

    Raises:
        DamagedState: a segment is missing, or is not what was written.
    """
    check = HistoryCheck(key)
    after, limit = max(base - 1, 0), FIRST_PAGE
    while after < until:
        page = await states.history(key, after=after, limit=min(limit, until - after))
        if not page:
            raise DamagedState(key, f"Segment {after + 1}", "it is missing")
        for segment in page:
            after += 1
            if segment.sequence != after:
                raise DamagedState(key, f"Segment {after}", "it is missing")
            happened: Sequence[Event] = decode_events(key, segment)
            if after == base:
                happened = cut_to_run(happened)
            check.follow(segment, happened)
            reader.feed(happened)
        if after < until:
            size = max(1, sum(len(segment.events) for segment in page) // len(page))
            limit = min(LONGEST_PAGE, max(1, PAGE_BYTES // size))
            del page
            await asyncio.sleep(0)
    return check


async def replay_history(
    key: StateKey, head: WorkflowHead, spec: WorkflowSpec, states: StateStorage
) -> tuple[Instance, list[Stimulus], int]:
    """Run the code of an instance again from its history.

    If that fails, nothing live is left behind.

    Args:
        key: the instance.
        head: its head, as it is stored.
        spec: the code.
        states: where the history is read.

    Returns:
        The live instance, the stimuli that it was not handed yet, and how many bytes of history it
        was fed.

    Raises:
        DamagedState: the history is damaged.
        NonDeterminismError: the code does not repeat its history.
        WorkflowCodeError: the code cannot be run.
    """
    instance = Instance(spec, head.id, head.meta, head.run)
    try:
        undone = Undone(await read_reopenings(key, head.undone, states)) if head.undone else None
        replay = Replay(instance, undone)
        check = await feed_history(replay, key, head.sequence, states, head.base)
        check.finish(head)
        replay.finish(unanswered=head.deciding != 0)
    except BaseException:
        instance.close()
        raise
    instance.rerun = replay.rerun
    return instance, replay.pending, check.bytes


async def read_reopenings(key: StateKey, sequences: Sequence[int], states: StateStorage) -> list[Reopened]:
    """Read all re-openings of an instance, in order.

    Args:
        key: the instance.
        sequences: the segments that hold them, as its head knows them.
        states: where they are read.

    Raises:
        DamagedState: a segment is missing, or is not what was written.
    """
    segments = await read_segments(key, sequences, states) if sequences else {}
    return [event for each in sorted(segments) for event in segments[each] if isinstance(event, Reopened)]


async def read_segments(key: StateKey, sequences: Iterable[int], states: StateStorage) -> dict[int, list[Event]]:
    """Read the events of exactly these segments.

    Args:
        key: the instance.
        sequences: which segments.
        states: where they are read.

    Returns:
        The events by the sequence of their segment.

    Raises:
        DamagedState: one is missing, or is not what was written.
    """
    wanted = sorted(sequences)
    found = {each.sequence: decode_events(key, each) for each in await states.history(key, sequences=wanted)}
    lost = next((each for each in wanted if each not in found), None)
    if lost is not None:
        raise DamagedState(key, f"Segment {lost}", "it is missing")
    return found
