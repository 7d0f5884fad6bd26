"""The in-memory storage. Rule ids are those of the storage contract."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from infinitic.errors import UsageError
from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Found,
    Lost,
    Outcome,
    Published,
    Query,
    Refused,
    Segment,
    StateKey,
    StorageClosed,
    Stored,
    ValueTooLarge,
    WorkflowStatus,
    Written,
)
from infinitic_storages.memory import DEFAULT_DEDUPLICATION_WINDOW, Database, InMemoryStorage

_T = TypeVar("_T")

KEY = StateKey("Trip", "1")
FOURTEEN_DAYS = 14 * 86_400.0


def at_once(verb: Coroutine[Any, Any, _T]) -> _T:
    """The result of a verb, none of which may suspend."""
    try:
        verb.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("the verb suspended")


class World:
    """A storage whose verbs are called without an event loop."""

    def __init__(self, storage: InMemoryStorage | None = None) -> None:
        self.storage = storage or InMemoryStorage()
        self.states = self.storage.states

    def commit(self, *changes: Change | Published) -> list[Outcome]:
        return at_once(self.states.commit(changes))

    def start(self, key: StateKey = KEY, **fields: Any) -> None:
        """Write version 1 of a new instance, with one segment."""
        fields = {"segment": Segment(1, b"first", b"out"), **fields}
        assert self.commit(change(key, None, 1, **fields)) == [Written(1)]

    def load(self, key: StateKey = KEY) -> Stored | None:
        return at_once(self.states.load([key])).get(key)

    def history(self, key: StateKey = KEY, **options: Any) -> list[Segment]:
        return at_once(self.states.history(key, **options))

    def purge(self, now: float, limit: int = 1000) -> int:
        return at_once(self.states.purge(now, limit))

    def find(self, **query: Any) -> list[str]:
        """The ids that a query finds, of all pages."""
        found: list[Found] = []
        cursor: str | None = None
        while True:
            page = at_once(self.states.find(Query(cursor=cursor, **query)))
            assert len(page.found) <= query.get("limit", 100)
            found += page.found
            cursor = page.cursor
            if cursor is None:
                return [each.key.id for each in found]


def change(
    key: StateKey, expected: int | None, version: int, head: bytes = b"head", at: float = 1000.0, **fields: Any
) -> Change:
    return Change(key, expected, version, head, at, **fields)


# ── Changes ───────────────────────────────────────────────────────────────────────────────────────


def test_STO_1_a_change_is_written_as_a_whole() -> None:
    world = World()
    entry = Entry(WorkflowStatus.RUNNING, 5.0, next_wake=9.0)
    segment = Segment(1, b"events", b"outbox")
    assert world.commit(change(KEY, None, 7, segment=segment, deduplication_ids=("m",), entry=entry)) == [Written(7)]
    assert world.load() == Stored(7, b"head", 1, False)
    assert world.history(outbox=True) == [segment]
    assert at_once(world.states.find(Query())).found == [Found(KEY, entry)]
    assert world.commit(change(KEY, 7, 8, deduplication_ids=("m",))) == [Duplicate(("m",))]


@pytest.mark.parametrize(
    ("refused", "outcome"),
    [
        (
            change(
                KEY, 4, 9, segment=Segment(2, b"x"), deduplication_ids=("n",), entry=Entry(WorkflowStatus.FAILED, 6.0)
            ),
            Lost(1),
        ),
        (
            change(
                KEY,
                None,
                9,
                segment=Segment(2, b"x"),
                deduplication_ids=("n",),
                entry=Entry(WorkflowStatus.FAILED, 6.0),
            ),
            Lost(1),
        ),
        (
            change(
                KEY,
                1,
                9,
                segment=Segment(2, b"x"),
                deduplication_ids=("n", "m"),
                entry=Entry(WorkflowStatus.FAILED, 6.0),
            ),
            Duplicate(("m",)),
        ),
    ],
    ids=["another version", "not absent", "a known mark"],
)
def test_STO_1_or_nothing_of_it_is(refused: Change, outcome: Outcome) -> None:
    world = World()
    entry = Entry(WorkflowStatus.RUNNING, 5.0)
    world.start(deduplication_ids=("m",), entry=entry)
    assert world.commit(refused) == [outcome]
    assert world.load() == Stored(1, b"head", 1, False)
    assert world.history() == [Segment(1, b"first")]
    assert at_once(world.states.find(Query())).found == [Found(KEY, entry)]
    assert world.commit(change(KEY, 1, 2, deduplication_ids=("n",))) == [
        Written(2)
    ]  # its other deduplication id was not taken


def test_STO_2_of_changes_with_one_expected_version_one_is_written() -> None:
    world = World()
    world.start()
    assert world.commit(change(KEY, 1, 5)) == [Written(5)]
    assert world.commit(change(KEY, 1, 6)) == [Lost(5)]
    assert world.commit(change(KEY, None, 6)) == [Lost(5)]


def test_STO_2_an_absent_instance_equals_no_version() -> None:
    world = World()
    assert world.commit(change(KEY, 0, 1)) == [Lost(None)]
    assert world.commit(change(KEY, 5, 6)) == [Lost(None)]
    assert world.load() is None


def test_STO_3_outcomes_are_per_key_and_undo_no_winner() -> None:
    world = World()
    keys = [StateKey("Trip", str(number)) for number in range(5)]
    world.start(keys[1], deduplication_ids=("m",))
    outcomes = world.commit(
        change(keys[0], None, 3),
        change(keys[1], 1, 4, deduplication_ids=("m",)),
        change(keys[2], 8, 9),
        change(keys[3], None, 3, segment=Segment(2, b"")),
        change(keys[4], None, 6),
    )
    assert outcomes == [Written(3), Duplicate(("m",)), Lost(None), Refused("segment 2 does not follow 0"), Written(6)]
    assert list(at_once(world.states.load(keys))) == [keys[0], keys[1], keys[4]]


def test_STO_4_a_key_that_comes_twice_is_an_error_and_nothing_is_written() -> None:
    world = World()
    with pytest.raises(ValueError, match="distinct"):
        world.commit(change(KEY, None, 1), Published(StateKey("Trip", "1"), 1))
    assert world.load() is None
    assert world.commit(change(KEY, None, 1), change(StateKey("Other", "1"), None, 1)) == [Written(1)] * 2


def test_STO_6_another_connection_sees_what_was_written() -> None:
    database = Database()
    one, other = World(InMemoryStorage(database)), World(InMemoryStorage(database))
    one.start()
    assert other.load() == one.load()
    at_once(one.storage.close())
    assert other.commit(change(KEY, 1, 2)) == [Written(2)]


def test_connections_of_one_name_meet() -> None:
    World(InMemoryStorage.named("meeting")).start()
    assert World(InMemoryStorage.named("meeting")).load() is not None
    assert World(InMemoryStorage.named("another")).load() is None


def test_versions_grow() -> None:
    world = World()
    world.start()
    assert world.commit(change(KEY, 1, 1)) == [Refused("version 1 does not come after 1")]
    assert world.load() == Stored(1, b"head", 1, False)


def test_STO_9_marks_of_a_key_are_all_remembered() -> None:
    world = World()
    world.start(deduplication_ids=("0",))
    for number in range(1, 30):
        assert world.commit(change(KEY, number, number + 1, deduplication_ids=(str(number),))) == [Written(number + 1)]
    for number in range(30):
        assert world.commit(change(KEY, 30, 31, deduplication_ids=("new", str(number)))) == [Duplicate((str(number),))]
    assert world.commit(change(StateKey("Trip", "2"), None, 1, deduplication_ids=("0", "1"))) == [Written(1)]


def test_STO_10_published_changes_no_version() -> None:
    world = World()
    world.start()
    assert world.commit(Published(KEY, 1)) == [Written(1)]
    assert world.load() == Stored(1, b"head", 1, True)
    assert world.commit(change(KEY, 1, 2)) == [Written(2)]
    assert world.load() == Stored(2, b"head", 1, False)
    assert world.commit(Published(KEY, 1)) == [Lost(2)]
    assert world.load() == Stored(2, b"head", 1, False)
    assert world.commit(Published(StateKey("Trip", "none"), 1)) == [Lost(None)]
    assert world.commit(change(KEY, 2, 3, published=True)) == [Written(3)]
    assert world.load() == Stored(3, b"head", 1, True)


# ── History ───────────────────────────────────────────────────────────────────────────────────────


def test_STO_6_history_reaches_exactly_the_head() -> None:
    world = World()
    world.start()
    for sequence in range(2, 8):
        world.commit(change(KEY, sequence - 1, sequence, segment=Segment(sequence, b"e%d" % sequence, b"o")))
    world.commit(change(KEY, 7, 8))  # without events
    assert world.load() == Stored(8, b"head", 7, False)
    assert [each.sequence for each in world.history()] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.sequence for each in world.history(after=2, limit=3)] == [3, 4, 5]
    assert world.history(sequences=[6, 99, 2, 6, 0, -1]) == [Segment(2, b"e2"), Segment(6, b"e6")]
    assert world.history(after=7) == world.history(StateKey("Trip", "none")) == []


def test_outboxes_come_if_asked_for() -> None:
    world = World()
    world.start()
    assert world.history() == world.history(sequences=[1]) == [Segment(1, b"first")]
    assert world.history(outbox=True) == world.history(sequences=[1], outbox=True) == [Segment(1, b"first", b"out")]


def test_what_is_read_cannot_change_what_is_kept() -> None:
    world = World()
    world.start()
    world.history(outbox=True).clear()
    assert len(world.history()) == 1


# ── Find ──────────────────────────────────────────────────────────────────────────────────────────


def test_find_filters_by_every_fact_newest_first() -> None:
    world = World()
    world.start(StateKey("Trip", "a"), entry=Entry(WorkflowStatus.RUNNING, 10.0, next_wake=50.0))
    world.start(StateKey("Trip", "b"), entry=Entry(WorkflowStatus.RUNNING, 30.0))
    world.start(StateKey("Trip", "c"), entry=Entry(WorkflowStatus.COMPLETED, 20.0, next_wake=40.0))
    world.start(StateKey("Order", "d"), entry=Entry(WorkflowStatus.RUNNING, 40.0, next_wake=60.0))
    world.start(StateKey("Order", "without an entry"))
    assert world.find() == ["d", "b", "c", "a"]
    assert world.find(name="Trip") == ["b", "c", "a"]
    assert world.find(name="None") == []
    assert world.find(status=WorkflowStatus.RUNNING) == ["d", "b", "a"]
    assert world.find(started_after=10.0, started_before=40.0) == ["b", "c"]
    assert world.find(overdue_at=60.0) == ["a"]
    assert world.find(overdue_at=60.5, name="Order") == ["d"]


def test_an_entry_stays_until_it_is_written_again() -> None:
    world = World()
    world.start(entry=Entry(WorkflowStatus.RUNNING, 10.0))
    world.commit(change(KEY, 1, 2))
    assert world.find(status=WorkflowStatus.RUNNING) == ["1"]
    world.commit(change(KEY, 2, 3, entry=Entry(WorkflowStatus.CANCELED, 10.0, closed_at=12.0)))
    assert (world.find(status=WorkflowStatus.RUNNING), world.find(status=WorkflowStatus.CANCELED)) == ([], ["1"])


def test_STO_11_pages_skip_and_repeat_nothing_that_stayed() -> None:
    world = World()
    for number in range(50):  # many with one start, and ids that need escaping
        world.start(StateKey("Trip", f'"é{number:02}'), entry=Entry(WorkflowStatus.RUNNING, float(number // 20)))
    first = at_once(world.states.find(Query(limit=7)))
    assert first.cursor is not None
    world.start(StateKey("Trip", "new"), entry=Entry(WorkflowStatus.RUNNING, 99.0))
    gone = StateKey("Trip", '"é30')
    world.commit(change(gone, 1, 2, expires_at=0.0))
    world.purge(0.0)
    rest: list[Found] = []
    cursor: str | None = first.cursor
    while cursor is not None:
        page = at_once(world.states.find(Query(limit=7, cursor=cursor)))
        rest += page.found
        cursor = page.cursor
    expected = sorted(range(50), key=lambda number: (number // 20, number), reverse=True)
    assert [int(each.key.id[2:]) for each in first.found + rest] == [each for each in expected if each != 30]
    assert at_once(world.states.find(Query(limit=50))).cursor is None


def test_a_bad_query_says_so() -> None:
    world = World()
    with pytest.raises(ValueError, match="cursor"):
        at_once(world.states.find(Query(cursor="x")))
    with pytest.raises(ValueError, match="from 1 to"):
        world.find(limit=0)


# ── Purge ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_expired_instance_goes_and_leaves_a_remnant_until_the_deduplication_window_ends() -> None:
    world = World()
    world.start(entry=Entry(WorkflowStatus.COMPLETED, 5.0), expires_at=2000.0)
    assert world.purge(1999.9) == 0
    assert world.purge(2000.0) == 1
    assert (world.load(), world.history(outbox=True), world.find()) == (None, [], [])
    assert world.commit(change(KEY, None, 9)) == [Lost(1)]
    assert world.commit(change(KEY, 1, 9)) == [Lost(1)]
    assert world.commit(Published(KEY, 1)) == [Lost(1)]
    assert world.purge(2000.0 + FOURTEEN_DAYS - 1) == 0
    assert world.commit(change(KEY, None, 9)) == [Lost(1)]
    world.purge(2000.0 + FOURTEEN_DAYS)
    assert world.commit(change(KEY, None, 9, segment=Segment(1, b"again"))) == [Written(9)]
    assert world.history() == [Segment(1, b"again")]


def test_STO_12_purge_checks_expiry_again() -> None:
    world = World(InMemoryStorage(deduplication_window=0.0))
    keys = [StateKey("Trip", name) for name in ("later", "never", "twice")]
    for key in keys:
        world.start(key, expires_at=2000.0)
    world.commit(change(keys[0], 1, 2, expires_at=3000.0), change(keys[1], 1, 2))
    world.commit(change(keys[2], 1, 2, expires_at=2500.0))
    world.commit(change(keys[2], 2, 3, expires_at=2000.0))
    assert world.purge(2000.0) == 1
    assert list(at_once(world.states.load(keys))) == keys[:2]
    assert world.purge(3000.0) == 1
    assert world.purge(9e9) == 0
    assert world.load(keys[1]) is not None


def test_deduplication_ids_go_a_deduplication_window_after_they_were_made() -> None:
    world = World(InMemoryStorage(deduplication_window=100.0))
    world.start(deduplication_ids=("old",), at=50.0)
    world.commit(change(KEY, 1, 2, deduplication_ids=("older",), at=20.0))
    assert world.purge(119.9) == 0
    assert world.purge(120.0) == 1
    assert world.commit(change(KEY, 2, 3, deduplication_ids=("old", "older"))) == [Duplicate(("old",))]
    assert world.purge(150.0) == 1
    assert world.commit(change(KEY, 2, 3, deduplication_ids=("old", "older"))) == [Written(3)]


def test_marks_outlive_the_remnant_if_they_are_younger() -> None:
    world = World(InMemoryStorage(deduplication_window=100.0))
    world.start(deduplication_ids=("m",), at=500.0, expires_at=10.0)
    world.purge(10.0)
    world.purge(110.0)
    assert world.commit(change(KEY, None, 2, deduplication_ids=("m",))) == [Duplicate(("m",))]
    assert world.commit(change(KEY, 1, 2)) == [Lost(None)]
    assert world.commit(change(KEY, None, 2)) == [Written(2)]
    assert world.purge(600.0) == 1
    assert world.load() == Stored(2, b"head", 0, False)


def test_purge_goes_in_bounded_chunks_and_misses_nothing() -> None:
    database = Database()
    world = World(InMemoryStorage(database))
    order = random.Random(7)
    keys = [StateKey("Trip", str(number)) for number in range(25)]
    for key in keys:
        world.start(
            key, expires_at=1000.0 + order.random(), at=1000.0 - FOURTEEN_DAYS, deduplication_ids=("m", "n", "o")
        )
    assert [world.purge(1001.0, limit=10) for _ in range(12)] == [10] * 10 + [0] * 2
    assert at_once(world.states.load(keys)) == {}
    deduplication_window = 1001.0 + FOURTEEN_DAYS
    assert database.size() == 25
    # Remnants are not counted, but it tells that more of them are due.
    assert [world.purge(deduplication_window, limit=10) for _ in range(3)] == [10, 10, 0]
    assert database.size() == 0
    outcomes = world.commit(*(change(key, None, 5, deduplication_ids=("m", "n", "o")) for key in keys))
    assert outcomes == [Written(5)] * 25


def test_many_marks_of_one_change_go_in_bites_too() -> None:
    world = World()
    deduplication_ids = tuple(str(number) for number in range(20))
    world.start(deduplication_ids=deduplication_ids, at=0.0)
    assert world.purge(FOURTEEN_DAYS, limit=15) == 15
    assert world.commit(change(KEY, 1, 2, deduplication_ids=deduplication_ids)) == [Duplicate(deduplication_ids[15:])]
    assert world.purge(FOURTEEN_DAYS, limit=15) == 5
    assert world.commit(change(KEY, 1, 2, deduplication_ids=deduplication_ids)) == [Written(2)]


# ── Values, keys, life ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value", [b"", b"\0", b"\xff\xfe", bytes(range(256)) * 4096], ids=["empty", "NUL", "ff", "1MiB"]
)
def test_STO_13_bytes_are_exact(value: bytes) -> None:
    world = World()
    world.commit(change(KEY, None, 1, head=value, segment=Segment(1, value, value)))
    assert world.load() == Stored(1, value, 1, False)
    assert world.history(outbox=True) == [Segment(1, value, value)]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"head": b"12345"}, "A head"),
        ({"segment": Segment(1, b"12345")}, "A segment"),
        ({"segment": Segment(1, b"", b"12345")}, "An outbox"),
    ],
)
def test_STO_13_above_the_limit_nothing_is_written(fields: dict[str, Any], what: str) -> None:
    world = World(InMemoryStorage(max_value=4))
    other = StateKey("Trip", "other")
    with pytest.raises(ValueTooLarge) as caught:
        world.commit(change(other, None, 1), change(KEY, None, 1, **fields))
    assert (caught.value.size, caught.value.limit, caught.value.what) == (5, 4, what)
    assert (world.load(), world.load(other)) == (None, None)
    assert world.commit(change(KEY, None, 1, head=b"1234", segment=Segment(1, b"1234", b"1234"))) == [Written(1)]


def test_STO_14_keys_are_compared_exactly() -> None:
    texts = ["é", "e\u0301", "E", "e", "e ", "e\0", "e\0\0", "\U0001f600", "x" * 255, "é" * 127, ""]
    keys = [StateKey(name, id) for name in texts for id in texts]
    world = World()
    world.commit(*(change(key, None, number, head=b"%d" % number) for number, key in enumerate(keys)))
    loaded = at_once(world.states.load(keys))
    assert [int(loaded[key].head) for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize("text", ["x" * 256, "é" * 128, "\ud800"], ids=["ascii", "unicode", "surrogate"])
def test_STO_14_a_key_that_is_too_long_or_no_unicode_is_refused(text: str) -> None:
    world = World()
    for key in (StateKey(text, "1"), StateKey("Trip", text)):
        (outcome,) = world.commit(change(key, None, 1))
        assert isinstance(outcome, Refused)
        assert world.load(key) is None


def test_capabilities_say_what_it_was_made_with() -> None:
    assert InMemoryStorage().capabilities.deduplication_window == DEFAULT_DEDUPLICATION_WINDOW == FOURTEEN_DAYS
    assert not InMemoryStorage().capabilities.durable
    database = Database(deduplication_window=5.0, max_value=6)
    capabilities = InMemoryStorage(database).capabilities
    assert (capabilities.deduplication_window, capabilities.max_value) == (5.0, 6)
    with pytest.raises(UsageError):
        InMemoryStorage(database, deduplication_window=5.0)


def test_after_close_every_verb_raises() -> None:
    world = World()
    at_once(world.storage.prepare())
    at_once(world.storage.prepare())
    world.start()
    at_once(world.storage.close())
    at_once(world.storage.close())
    verbs: Sequence[Coroutine[Any, Any, object]] = [
        world.storage.prepare(),
        world.states.load([]),
        world.states.history(KEY),
        world.states.commit([]),
        world.states.find(Query()),
        world.states.purge(0.0),
    ]
    for verb in verbs:
        with pytest.raises(StorageClosed):
            at_once(verb)


def test_a_mark_that_a_change_names_twice_is_one() -> None:
    world = World(InMemoryStorage(deduplication_window=5.0))
    world.start(deduplication_ids=("m", "m"), at=1.0, expires_at=2.0)
    assert world.commit(Change(KEY, 1, 2, b"", 2.0, deduplication_ids=("m", "m"))) == [Duplicate(("m",))]
    assert [world.purge(10.0, 1) for _ in range(3)] == [1, 1, 0]
    world.start(at=20.0)
    assert world.purge(10.0, 1) == 0
    assert world.load() is not None
