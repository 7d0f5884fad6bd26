"""Records what took effect in a run, so that a test can change it and have it checked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from msgspec.structs import replace as replace_struct

from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec, spec_of
from infinitic.engines import effects, state
from infinitic.engines.effects import Effect
from infinitic.engines.state import WorkflowHead
from infinitic.messages import events
from infinitic.messages.events import Event
from infinitic.storage import (
    Change,
    Claim,
    Entry,
    Found,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    Stored,
    TagChange,
    Written,
)
from infinitic.storage.integrity import check_head, check_segment
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.invariants import Invariants, InvariantViolated, LogWatch
from infinitic_testing.loop import run
from infinitic_testing.observing import Observer
from infinitic_transports.memory import Broker
from tests.simulation.cases import Case, by_name
from tests.simulation.observed import SOMEBODY, ObservedBroker, ObservedDatabase
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors


@dataclass(frozen=True)
class Note:
    """One effect.

    Attributes:
        at: when, in seconds since the Unix epoch.
        who: the process.
        topic: of messages and deliveries.
        message: what was published.
        delivery: what was acknowledged.
        change: what was written.
        tag: a change of a tag that the storage took.
        claim: what became of a claim; None: `tag` was no claim.
        purged: True: what had expired was purged.
        ended: how the process ended.
    """

    at: float
    who: str = SOMEBODY
    topic: Topic | None = None
    message: Message | None = None
    delivery: Delivery | None = None
    change: Change | Published | None = None
    tag: TagChange | None = None
    claim: Claim | None = None
    purged: bool = False
    ended: str = ""


Tape = list[Note]


class _Recorder(Observer):
    def __init__(self, world: World, tape: Tape) -> None:
        self._now = world.clock.now
        self._tape = tape

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        self._tape += [Note(self._now(), who, topic, message) for message in messages]

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self._tape += [Note(self._now(), who, topic, delivery=delivery) for delivery in deliveries]

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        for change, outcome in zip(changes, outcomes, strict=True):
            assert isinstance(outcome, Written), outcome
            self._tape.append(Note(self._now(), who, change=change))

    def tagged(self, who: str, changes: Sequence[TagChange]) -> None:
        self._tape += [Note(self._now(), who, tag=change) for change in changes]

    def claimed(self, who: str, asked: TagChange, claim: Claim) -> None:
        self._tape.append(Note(self._now(), who, tag=asked, claim=claim))


def record(case: Case, *hostings: Hosting) -> Tape:
    """Run a case without faults, and return what took effect."""
    tape: Tape = []

    async def main() -> None:
        broker, database = ObservedBroker(), ObservedDatabase()
        world = World(broker, database, is_watched=False)
        broker.observer = database.observer = _Recorder(world, tape)
        async with world.open():
            world.host(case, *(hostings or (host_all,)))
            await world.run_until_idle()
            await case.scenario(world.client)
            await world.run_until_idle()
            broker.observer = database.observer = None

    run(main())
    return tape


class TapeDatabase(Database):
    """A database that writes whatever it is told to write."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: dict[StateKey, Stored] = {}
        self.segments: dict[StateKey, list[Segment]] = {}
        self.entries: dict[StateKey, Entry] = {}
        self.kept = 0

    def write(self, change: Change) -> None:
        segments = self.segments.setdefault(change.key, [])
        if change.segment is not None:
            segments.append(change.segment)
        self.heads[change.key] = Stored(change.version, change.head, len(segments), change.published)
        if change.entry is not None:
            self.entries[change.key] = change.entry

    def size(self) -> int:
        return self.kept

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return {key: self.heads[key] for key in keys if key in self.heads}

    def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        return self.segments.get(key, [])[after : after + limit]

    def find(self, query: Query) -> Page:
        found = [Found(key, entry) for key, entry in self.entries.items() if query.status in (None, entry.status)]
        return Page(found, None)


class Player(Clock):
    """Has a tape checked. It is the clock, and has a broker and a database.

    Args:
        specs: the code of the workflows, by name.
        on_violation: see `Invariants`.
        broker: what it has for a broker. None: one that keeps all promises.
    """

    def __init__(
        self,
        specs: Mapping[str, WorkflowSpec],
        on_violation: Callable[[InvariantViolated], None] | None = None,
        broker: Broker | None = None,
    ) -> None:
        self.time = 0.0
        self.broker = broker or Broker()
        self.database = TapeDatabase()
        self.invariants = Invariants(
            self.database,
            self.broker,
            clock=self,
            specs=lambda name: {specs[name].version: specs[name]} if name in specs else {},
            on_violation=on_violation,
        )

    def now(self) -> float:
        return self.time

    def play(self, tape: Iterable[Note]) -> None:
        """Have all effects checked, in this order.

        Raises:
            InvariantViolated: a rule does not hold.
        """
        for note in tape:
            self.time = max(self.time, note.at)
            if note.topic is not None and self.broker.find_record(note.topic) is None:
                # This makes the topics of clients, too.
                self.broker.attach(Topic(note.topic.name, note.topic.ordering, None), "main", 1, lambda: None)
            self._play(note)

    def _play(self, note: Note) -> None:
        invariants = self.invariants
        if note.topic is not None and note.message is not None:
            invariants.published(note.who, note.topic, [note.message])
        elif note.topic is not None and note.delivery is not None:
            invariants.acknowledged(note.who, note.topic, [note.delivery])
        elif note.change is not None:
            if isinstance(note.change, Change):
                self.database.write(note.change)
            invariants.committed(note.who, [note.change], [Written(note.change.version)])
        elif note.tag is not None and note.claim is not None:
            self.database.tags.claim(note.tag.key, note.tag.id, note.tag.version, note.tag.at)
            invariants.claimed(note.who, note.tag, note.claim)
        elif note.tag is not None:
            self.database.tags.update([note.tag])
            invariants.tagged(note.who, [note.tag])
        elif note.purged:
            count = len(self.database.heads)
            self.database.heads.clear()
            self.database.entries.clear()
            invariants.purged(note.who, self.time, count)
        elif note.ended:
            invariants.ended(note.who, note.ended)

    def check_healed(self, *, log: LogWatch | None = None, held: Mapping[str, int] | None = None) -> None:
        """Check the rules that must hold when all is done.

        Raises:
            InvariantViolated: a rule does not hold.
        """

        class Holder:
            name = "worker"

            def count_held(self) -> Mapping[str, int]:
                return held or {}

        storage = InMemoryStorage(self.database)
        run(self.invariants.check_healed(storage, workers=[Holder()], log=log))


def find_violation(case: Case, tape: Iterable[Note], specs: Mapping[str, WorkflowSpec] | None = None) -> str | None:
    """Return the name of the first rule that does not hold for a tape; None if all hold."""
    player = Player(specs or {spec.name: spec for spec in map(spec_of, case.workflows)})
    try:
        player.play(tape)
    except InvariantViolated as violation:
        return violation.rule
    return None


# Finding and changing effects.

Matches = Callable[[Note], bool]


def is_published(kind: str, text: bytes = b"") -> Matches:
    """Match a message to a kind of topic, with a text in its body."""
    return lambda note: note.message is not None and _is_kind(note, kind) and text in note.message.body


def is_acknowledged(kind: str, text: bytes = b"") -> Matches:
    """Match an acknowledgement of a message from a kind of topic, with a text in its body."""
    return lambda note: note.delivery is not None and _is_kind(note, kind) and text in note.delivery.message.body


def _is_kind(note: Note, kind: str) -> bool:
    return note.topic is not None and note.topic.name.partition(":")[0] == kind


def has_event(kind: type[Event]) -> Matches:
    """Match a change whose segment has an event of this type."""
    return lambda note: any(isinstance(event, kind) for event in read_events(note))


def find(tape: Tape, matches: Matches, number: int = 0) -> int:
    """The index of an effect in the tape.

    Args:
        tape: where to look.
        matches: what to look for.
        number: how many of them are passed over.
    """
    return [index for index, note in enumerate(tape) if matches(note)][number]


def move(tape: Tape, old: int, new: int) -> Tape:
    """Let one effect happen at another place of the tape, before the one that is there."""
    moved = replace(tape[old], at=tape[new].at)
    rest = [note for index, note in enumerate(tape) if index != old]
    place = new if new < old else new - 1
    return [*rest[:place], moved, *rest[place:]]


@cache
def record_once(name: str, *, split: bool = False) -> tuple[Note, ...]:
    """Record a case. The tape is the same for all tests: they make others of it."""
    return tuple(record(by_name(name), *((host_engines, host_executors) if split else ())))


def read_events(note: Note) -> list[Event]:
    change = note.change
    if not isinstance(change, Change) or change.segment is None:
        return []
    return events.decode(check_segment(change.key, change.segment).events)


def read_head(note: Note) -> WorkflowHead:
    change = note.change
    assert isinstance(change, Change)
    return state.decode(check_head(change.key, Stored(change.version, change.head, 0, False)).head)


def rewrite(
    tape: Tape,
    index: int,
    *,
    head: Callable[[WorkflowHead], WorkflowHead] = lambda head: head,
    happened: Callable[[list[Event]], list[Event]] = lambda happened: happened,
    outbox: Callable[[list[Effect]], list[Effect]] = lambda outbox: outbox,
    sequence: int = 0,
    **fields: Any,
) -> Tape:
    """Let another change be written. Nothing else of the tape changes.

    Args:
        tape: the tape.
        index: of the change.
        head: makes the other head.
        happened: makes the other events.
        outbox: makes the other outbox.
        sequence: is added to the sequence of the segment.
        fields: other fields of the change.
    """
    change = tape[index].change
    assert isinstance(change, Change)
    segment = change.segment
    if segment is not None:
        checked = check_segment(change.key, segment)
        kept: list[Effect] = []
        if checked.outbox is not None:
            kept = list(effects.decode(checked.outbox).effects)
        kept = outbox(kept)
        encoded = effects.encode(change.at, kept) if kept else None
        segment = Segment(segment.sequence + sequence, events.encode(happened(events.decode(checked.events))), encoded)
    other = replace_struct(change, head=state.encode(head(read_head(tape[index]))), segment=segment, **fields)
    return [*tape[:index], replace(tape[index], change=other), *tape[index + 1 :]]


def changes(tape: Tape) -> Iterator[tuple[int, Change]]:
    """All changes of the tape, with their places."""
    for index, note in enumerate(tape):
        if isinstance(note.change, Change):
            yield index, note.change
