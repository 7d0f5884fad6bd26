"""Checksums: whatever is done to a value, it is not taken for what was written."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any

import msgspec
import pytest

from infinitic.engines import effects, state
from infinitic.messages import events
from infinitic.runtime.history import decode_events, decode_head
from infinitic.storage import Change, DamagedState, Segment, StateKey, Stored, Written
from infinitic.storage.integrity import (
    OVERHEAD,
    CheckedStorage,
    add_checksums,
    check_head,
    check_segment,
    ensure_checked,
)
from infinitic_storages.memory import Database, InMemoryStorage
from tests.golden import samples

KEY = StateKey("Trip", "w")
HEAD = state.encode(samples.HEAD)
EVENTS = events.encode(samples.EVENTS)
OUTBOX = effects.encode(1.0, samples.EFFECTS)
CHANGE = Change(KEY, None, 7, HEAD, 1.0, Segment(3, EVENTS, OUTBOX))


def stored(change: Change) -> Stored:
    return Stored(change.version, change.head, 3, False)


def segment_of(change: Change) -> Segment:
    assert change.segment is not None
    return change.segment


SEALED = add_checksums(CHANGE)
SEGMENT = segment_of(SEALED)


def flipped(value: bytes) -> list[bytes]:
    """The value with each of its bits flipped in turn."""
    found: list[bytes] = []
    for place in range(len(value) * 8):
        changed = bytearray(value)
        changed[place // 8] ^= 1 << place % 8
        found.append(bytes(changed))
    return found


def test_what_was_written_is_read_at_a_small_cost() -> None:
    assert check_head(KEY, stored(SEALED)) == stored(CHANGE)
    assert check_segment(KEY, SEGMENT) == CHANGE.segment
    outbox = SEGMENT.outbox
    assert outbox is not None
    grown = (len(SEALED.head) - len(HEAD), len(SEGMENT.events) - len(EVENTS), len(outbox) - len(OUTBOX))
    assert grown == (7, 11, 5)
    assert max(grown) <= OVERHEAD


@pytest.mark.parametrize(
    "body", [b"[]", b"[1]", b"[{}]", b"[{", b"", b"x", b"{}", b"[", b"]", b'["x"]', b"\xc1", EVENTS]
)
def test_values_of_any_kind_are_given_back(body: bytes) -> None:
    sealed = segment_of(add_checksums(Change(KEY, None, 7, body, 1.0, Segment(3, body, body))))
    assert check_segment(KEY, sealed) == Segment(3, body, body)


def test_a_history_stays_json_and_a_head_msgpack() -> None:
    checksum, *found = json.loads(SEGMENT.events)
    assert (len(checksum), found) == (8, json.loads(EVENTS))
    schema, _, head = msgspec.msgpack.decode(SEALED.head)
    assert (schema, head) == (2, msgspec.msgpack.decode(HEAD))


def test_S41_release_0_1_leaves_an_instance_alone_that_has_checksums() -> None:
    known = 1
    assert msgspec.msgpack.decode(SEALED.head)[0] > known


def test_what_release_0_1_wrote_is_read_as_it_is() -> None:
    assert check_head(KEY, stored(CHANGE)) == stored(CHANGE)
    assert check_segment(KEY, segment_of(CHANGE)) == CHANGE.segment


def test_each_flipped_bit_of_a_head_is_found() -> None:
    for value in flipped(SEALED.head):
        with pytest.raises(DamagedState, match="The head: "):
            decode_head(KEY, check_head(KEY, Stored(7, value, 3, False)))


def test_each_flipped_bit_of_a_segment_is_found() -> None:
    for value in flipped(SEGMENT.events):
        with pytest.raises(DamagedState, match="Segment 3: "):
            decode_events(KEY, check_segment(KEY, Segment(3, value)))


def test_each_flipped_bit_of_an_outbox_is_found() -> None:
    assert SEGMENT.outbox is not None
    for value in flipped(SEGMENT.outbox):
        with pytest.raises((DamagedState, msgspec.MsgspecError, ValueError)):
            effects.decode(check_segment(KEY, Segment(3, SEGMENT.events, value)).outbox or b"")


@pytest.mark.parametrize("place", ["key", "name", "number"])
def test_a_value_in_another_place_is_found(place: str) -> None:
    key = {"key": StateKey("Trip", "v"), "name": StateKey("Tri", "pw"), "number": KEY}[place]
    number = 4 if place == "number" else 3
    with pytest.raises(DamagedState):
        check_segment(key, Segment(number, SEGMENT.events))
    with pytest.raises(DamagedState):
        check_segment(key, Segment(number, EVENTS, SEGMENT.outbox))
    assert check_head(key, Stored(8 if place == "number" else 7, SEALED.head, 3, False)).damage


def test_events_and_outbox_of_a_segment_are_not_taken_for_each_other() -> None:
    sealed = segment_of(add_checksums(Change(KEY, None, 7, HEAD, 1.0, Segment(3, b"x", b"x"))))
    assert sealed.outbox is not None
    with pytest.raises(DamagedState):
        check_segment(KEY, Segment(3, sealed.outbox))
    with pytest.raises(DamagedState):
        check_segment(KEY, Segment(3, sealed.events, sealed.events))


@pytest.mark.parametrize("length", [0, 1, 3, 5, 11, 12, -1])
def test_a_value_that_was_cut_is_found(length: int) -> None:
    with pytest.raises(DamagedState):
        decode_head(KEY, check_head(KEY, Stored(7, SEALED.head[:length], 3, False)))
    with pytest.raises(DamagedState):
        decode_events(KEY, check_segment(KEY, Segment(3, SEGMENT.events[:length])))


def test_a_head_of_a_newer_envelope_that_is_sound_is_left_to_others() -> None:
    """As release 0.1 does with what this one writes."""
    with pytest.raises(state.NewerSchema):
        decode_head(KEY, Stored(7, msgspec.msgpack.encode([9, *msgspec.msgpack.decode(HEAD)[1:]]), 3, False))


def test_a_head_must_be_of_its_instance_and_of_its_history() -> None:
    key = StateKey(samples.HEAD.name, samples.HEAD.id)
    assert decode_head(key, Stored(7, HEAD, samples.HEAD.sequence, False)) == samples.HEAD
    with pytest.raises(DamagedState, match="it knows 3 segments, and 4 were written"):
        decode_head(key, Stored(7, HEAD, 4, False))
    with pytest.raises(DamagedState, match="it is that of Trip w"):
        decode_head(StateKey("Trip", "v"), Stored(7, HEAD, 3, False))


def test_the_error_pickles_and_names_instance_place_and_reason() -> None:
    error: DamagedState = pickle.loads(pickle.dumps(DamagedState(KEY, "Segment 3", "it is missing")))
    assert str(error) == "What is stored of Trip w is damaged. Segment 3: it is missing"


def run_on(database: Database, *changes: Change) -> CheckedStorage:
    storage = ensure_checked(InMemoryStorage(database))
    assert ensure_checked(storage) is storage
    for change in changes:
        assert isinstance(asyncio.run(storage.states.commit([change]))[0], Written)
    return storage


def test_a_missing_segment_is_found_wherever_it_is() -> None:
    database = Database()
    changes = [
        Change(KEY, number - 1 or None, number, b"", 1.0, Segment(number, b"[]", b"o")) for number in range(1, 6)
    ]
    states = run_on(database, *changes).states
    assert [each.sequence for each in asyncio.run(states.history(KEY))] == [1, 2, 3, 4, 5]
    assert [each.sequence for each in asyncio.run(states.history(KEY, after=3))] == [4, 5]
    assert [each.sequence for each in asyncio.run(states.history(KEY, sequences=[4, 2, 4, 0]))] == [2, 4]
    row = database._rows["Trip"]["w"]  # pyright: ignore[reportPrivateUsage]  # no verb damages
    assert row.segments is not None
    del row.segments[1]
    for question in (
        states.history(KEY),
        states.history(KEY, after=1),
        states.history(KEY, sequences=[2, 3]),
        states.history(KEY, sequences=[5]),
    ):
        with pytest.raises(DamagedState, match="it is missing"):
            asyncio.run(question)


class Watched(Database):
    """Notes which segments were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[int]] = []

    def history(self, key: StateKey, **options: Any) -> list[Segment]:
        found = super().history(key, **options)
        self.read.append([each.sequence for each in found])
        return found


def with_bare_segments(*numbers: int) -> tuple[CheckedStorage, Watched]:
    """A history of six segments, of which these have no checksum."""
    database = Watched()
    changes = [Change(KEY, number - 1 or None, number, b"", 1.0, Segment(number, b"[]")) for number in range(1, 7)]
    storage = run_on(database, *changes)
    row = database._rows["Trip"]["w"]  # pyright: ignore[reportPrivateUsage]  # no verb damages
    assert row.segments is not None
    row.segments = [check_segment(KEY, each) if each.sequence in numbers else each for each in row.segments]
    return storage, database


@pytest.mark.parametrize("page", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("bare", [(2,), (4,), (6,), (4, 5, 6), (1, 2, 5)])
def test_a_checksum_that_is_missing_behind_another_is_found_in_any_pages(page: int, bare: tuple[int, ...]) -> None:
    storage, _ = with_bare_segments(*bare)
    first = next(number for number in bare if number - 1 not in (0, *bare))

    async def read() -> None:
        for after in range(0, 6, page):
            await storage.states.history(KEY, after=after, limit=page)

    with pytest.raises(DamagedState, match=f"Segment {first}: its checksum is missing"):
        asyncio.run(read())
    with pytest.raises(DamagedState, match=f"Segment {first}: its checksum is missing"):
        asyncio.run(storage.states.history(KEY, sequences=[first]))


@pytest.mark.parametrize("bare", [0, 1, 3, 4, 6])
def test_a_history_that_release_0_1_began_is_read_in_any_pages(bare: int) -> None:
    """Of what has no checksum, the one before the page is read as well; of others nothing is."""
    storage, database = with_bare_segments(*range(1, bare + 1))
    for page in (1, 2, 3, 4, 6):
        for after in range(0, 6, page):
            found = asyncio.run(storage.states.history(KEY, after=after, limit=page))
            numbers = [*range(after + 1, min(after + page, 6) + 1)]
            assert [each.sequence for each in found] == numbers
            assert database.read == ([numbers, [after]] if 0 < after < bare else [numbers])
            database.read.clear()
    assert len(asyncio.run(storage.states.history(KEY, sequences=[2, 4, 6]))) == 3


def test_an_outbox_without_a_checksum_beside_events_that_have_one_is_found() -> None:
    with pytest.raises(DamagedState, match="The outbox of segment 3: its checksum is missing"):
        check_segment(KEY, Segment(3, SEGMENT.events, OUTBOX))
    assert check_segment(KEY, Segment(3, SEGMENT.events, b"")).outbox == b"", "whoever needs it says that it is gone"


def test_a_segment_that_is_missing_before_a_page_without_checksums_is_found() -> None:
    storage, database = with_bare_segments(1, 2, 3, 4)
    states = storage.states
    row = database._rows["Trip"]["w"]  # pyright: ignore[reportPrivateUsage]  # no verb damages
    assert row.segments is not None
    row.segments[1] = row.segments[2]
    with pytest.raises(DamagedState, match="Segment 2: it is missing"):
        asyncio.run(states.history(KEY, after=2, limit=1))


def test_the_limit_leaves_room_for_checksums() -> None:
    storage = run_on(Database(max_value=1000))
    limit = storage.capabilities.max_value
    whole = b"[" + b"1" * (limit - 2) + b"]"
    change = Change(KEY, None, 1, bytes(limit), 1.0, Segment(1, whole, bytes(limit)))
    assert asyncio.run(storage.states.commit([change])) == [Written(1)]
    assert asyncio.run(storage.states.history(KEY, outbox=True)) == [change.segment]
