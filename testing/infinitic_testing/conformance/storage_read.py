"""Rules of what is read: STO-6, STO-13, STO-14, CMP-1, HISTORY."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib

import pytest

from infinitic.storage import Change, Lost, Refused, Segment, StateKey, Stored, ValueTooLarge, Written
from infinitic_testing.conformance.storage_bench import (
    KEY,
    V0,
    StorageBench,
    StorageSuite,
    in_bench,
    make_change,
    make_key,
    make_start,
    name_kinds,
)

TEXTS: tuple[str, ...] = (
    *("é", "e\u0301", "E", "e", "e ", "e  ", " e", "e\t", "e\0", "e\0\0", "\0", "😀", "ß", "ss", "SS", "ﬁ", "fi"),
    *("İ", "i", "I", "\u0131", "%", "_", "\\", "'", '"', ":", "{e}", "e:e", "x" * 255, "é" * 127, ""),
)
"""Texts that a database is tempted to take for one another, or for something of its own."""


class ReadRules(StorageSuite):
    @in_bench
    async def test_sto_6_load_sees_what_another_connection_wrote(self, bench: StorageBench) -> None:
        assert await bench.load() is None
        await bench.within(bench.other.commit([make_start()]))
        assert await bench.load() == Stored(V0, b"head", 1, False)
        for number in range(1, 20):
            writer, reader = (bench.states, bench.other) if number % 2 else (bench.other, bench.states)
            each = make_change(KEY, V0 + number - 1, V0 + number, b"%d" % number, segment=Segment(number + 1, b"e"))
            assert await bench.within(writer.commit([each])) == [Written(V0 + number)]
            for states in (reader, writer):
                loaded = await bench.within(states.load([KEY]))
                assert loaded == {KEY: Stored(V0 + number, b"%d" % number, number + 1, False)}
            assert (await bench.within(reader.history(KEY)))[-1].sequence == number + 1

    @in_bench
    async def test_sto_6_load_gives_those_that_exist(self, bench: StorageBench) -> None:
        keys = [make_key(number) for number in range(150)]
        await bench.commit(*(make_start(key, head=key.id.encode()) for key in keys[::2]))
        loaded = await bench.within(bench.states.load([*keys, keys[2]]))
        assert loaded == {key: Stored(V0, key.id.encode(), 1, False) for key in keys[::2]}

    @in_bench
    async def test_sto_6_history_reaches_exactly_the_head(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        done = False

        async def write() -> None:
            nonlocal done
            for number in range(1, 40):
                segment = Segment(number + 1, b"%d" % (number + 1))
                await bench.within(
                    bench.other.commit([make_change(KEY, V0 + number - 1, V0 + number, segment=segment)])
                )
                await asyncio.sleep(0)
            done = True

        writing = asyncio.ensure_future(write())
        while not done:
            before = await bench.load()
            sequences = [each.sequence for each in await bench.history()]
            after = await bench.load()
            assert before is not None
            assert after is not None
            assert sequences == list(range(1, len(sequences) + 1))
            assert before.sequence <= len(sequences) <= after.sequence
            await asyncio.sleep(0)
        await writing
        assert await bench.load() == Stored(V0 + 39, b"head", 40, False)
        assert [each.sequence for each in await bench.history()] == list(range(1, 41))

    @in_bench
    async def test_sto_6_segments_leave_no_gap(self, bench: StorageBench) -> None:
        assert name_kinds(await bench.commit(make_start(segment=Segment(2, b"")))) == ["Refused"]
        assert name_kinds(await bench.commit(make_start(segment=Segment(0, b"")))) == ["Refused"]
        assert await bench.commit(make_start(segment=None)) == [Written(V0)]
        assert await bench.load() == Stored(V0, b"head", 0, False)
        assert name_kinds(await bench.commit(make_change(KEY, V0, V0 + 1, segment=Segment(2, b"")))) == ["Refused"]
        assert await bench.commit(make_change(KEY, V0, V0 + 1, segment=Segment(1, b""))) == [Written(V0 + 1)]
        assert name_kinds(await bench.commit(make_change(KEY, V0 + 1, V0 + 2, segment=Segment(1, b"again")))) == [
            "Refused"
        ]
        assert await bench.history() == [Segment(1, b"")]

    @in_bench
    async def test_history_ranges_and_sequences(self, bench: StorageBench) -> None:
        await bench.commit(make_start(), make_start(make_key(1)))
        for number in range(2, 13):
            segment = Segment(number, b"e%d" % number, b"o%d" % number if number % 2 else None)
            await bench.commit(make_change(KEY, V0 + number - 2, V0 + number - 1, segment=segment))
        await bench.commit(make_change(KEY, V0 + 11, V0 + 12))  # without events
        assert [each.sequence for each in await bench.history()] == list(range(1, 13))
        assert [each.sequence for each in await bench.history(after=2, limit=3)] == [3, 4, 5]
        assert [each.sequence for each in await bench.history(after=11, limit=1)] == [12]
        assert await bench.history(after=12) == await bench.history(make_key(5)) == []
        chosen = await bench.history(sequences=[12, 99, 2, 12, 0, -1, 3], limit=1)
        assert chosen == [Segment(2, b"e2"), Segment(3, b"e3"), Segment(12, b"e12")]
        assert await bench.history(sequences=[]) == []
        outboxes = await bench.history(sequences=[2, 3], outbox=True)
        assert outboxes == [Segment(2, b"e2"), Segment(3, b"e3", b"o3")]
        assert await bench.history(limit=1) == [Segment(1, b"first")], "an outbox comes only if asked for"
        assert await bench.history(limit=1, outbox=True) == [Segment(1, b"first", b"out")]

    @in_bench
    async def test_sto_6_the_first_segments_go_with_the_change_that_says_so(self, bench: StorageBench) -> None:
        other = make_key(1)
        await bench.commit(make_start(), make_start(other))
        for number in range(2, 10):
            segment = Segment(number, b"e%d" % number, b"o")
            changes = [make_change(key, V0 + number - 2, V0 + number - 1, segment=segment) for key in (KEY, other)]
            await bench.commit(*changes)
        lost = make_change(KEY, V0, V0 + 20, segment=Segment(10, b"lost"), first=9)
        assert isinstance((await bench.commit(lost))[0], Lost)
        assert [each.sequence for each in await bench.history()] == list(range(1, 10)), "what is lost removes nothing"
        await bench.commit(make_change(KEY, V0 + 8, V0 + 9, segment=Segment(10, b"e10", b"o10"), first=4))
        assert [each.sequence for each in await bench.history()] == list(range(4, 11))
        await bench.commit(make_change(KEY, V0 + 9, V0 + 10, first=10))  # without events
        assert await bench.history(outbox=True) == [Segment(10, b"e10", b"o10")]
        assert await bench.history(after=9) == await bench.history(limit=1) == [Segment(10, b"e10")]
        assert await bench.history(sequences=[1, 9, 10]) == [Segment(10, b"e10")]
        await bench.commit(make_change(KEY, V0 + 10, V0 + 11, segment=Segment(11, b"e11"), first=4))
        assert [each.sequence for each in await bench.history()] == [10, 11], "what is gone stays so"
        stored = await bench.load()
        assert stored is not None
        assert stored.sequence == 11
        assert [each.sequence for each in await bench.history(other)] == list(range(1, 10)), "others keep theirs"

    @in_bench
    async def test_sto_13_bytes_are_exact(self, bench: StorageBench) -> None:
        noise = random.Random(13).randbytes(1 << 20)
        for number, value in enumerate((b"", b"\0", b"\0\0a\0", b"\xff\xfe", b"'\\\r\n", bytes(range(256)), noise)):
            key = make_key(number)
            assert await bench.commit(make_change(key, None, V0, value, segment=Segment(1, value, value))) == [
                Written(V0)
            ]
            assert await bench.within(bench.other.load([key])) == {key: Stored(V0, value, 1, False)}
            assert await bench.history(key, outbox=True) == [Segment(1, value, value)]

    @in_bench
    async def test_sto_13_a_value_as_large_as_the_limit_is_written(self, bench: StorageBench) -> None:
        limit = bench.capabilities.max_value
        if limit > self.largest_value:
            pytest.skip(f"values of {limit:,} bytes are above `largest_value` of this suite")
        assert await bench.commit(make_change(KEY, None, V0, bytes(limit))) == [Written(V0)]
        stored = await bench.load()
        assert stored is not None
        assert len(stored.head) == limit

    @in_bench
    async def test_sto_13_above_the_limit_nothing_is_written(self, bench: StorageBench) -> None:
        limit = bench.capabilities.max_value
        if limit > self.largest_value:
            pytest.skip(f"values of {limit:,} bytes are above `largest_value` of this suite")
        large = bytes(limit + 1)
        for bad in (
            make_change(KEY, None, V0, large, deduplication_ids=("m",)),
            make_change(KEY, None, V0, segment=Segment(1, large), deduplication_ids=("m",)),
            make_change(KEY, None, V0, segment=Segment(1, b"", large), deduplication_ids=("m",)),
        ):
            batch: list[Change] = [make_start(make_key(1)), bad, make_start(make_key(2))]
            with pytest.raises(ValueTooLarge) as caught:
                await bench.commit(*batch)
            assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
            assert await bench.within(bench.states.load([each.key for each in batch])) == {}
            assert await bench.history(make_key(1)) == []
            assert await bench.find_all() == []
        assert await bench.commit(make_start(deduplication_ids=("m",))) == [Written(V0)]

    @in_bench
    async def test_sto_14_keys_are_compared_exactly(self, bench: StorageBench) -> None:
        keys = [StateKey(text, "1") for text in TEXTS] + [StateKey("Trip", text) for text in TEXTS]
        keys += [StateKey("a", "bc"), StateKey("ab", "c"), StateKey("a:b", "c"), StateKey("a", "b:c")]
        for first in range(0, len(keys), 10):
            batch = keys[first : first + 10]
            outcomes = await bench.commit(*(make_start(key, head=repr(key).encode()) for key in batch))
            assert outcomes == [Written(V0)] * len(batch)
        loaded = await bench.within(bench.other.load(keys))
        assert loaded == {key: Stored(V0, repr(key).encode(), 1, False) for key in keys}
        assert {each.key for each in await bench.find_all(limit=7)} == set(keys)
        for text in TEXTS:
            assert {each.key for each in await bench.find_all(name=text)} == {key for key in keys if key.name == text}
        assert await bench.load(StateKey("Trip", "absent ")) is None

    @in_bench
    async def test_sto_14_deduplication_ids_are_compared_exactly(self, bench: StorageBench) -> None:
        deduplication_ids = tuple(text for text in TEXTS if text)
        await bench.commit(make_start(deduplication_ids=deduplication_ids[::2]))
        for number, id_ in enumerate(deduplication_ids):
            outcomes = await bench.commit(make_change(KEY, V0, V0, deduplication_ids=(id_,)))  # its version is none
            assert name_kinds(outcomes) == ["Refused" if number % 2 else "Duplicate"], id_

    @in_bench
    async def test_sto_14_a_key_that_is_too_long_is_refused(self, bench: StorageBench) -> None:
        for text in ("x" * 256, "é" * 128, "😀" * 64, "\ud800"):
            for key in (StateKey(text, "1"), StateKey("Trip", text)):
                refused, written = await bench.commit(
                    make_start(key), make_start(make_key(ord(text[0]) + len(key.name)))
                )
                assert isinstance(refused, Refused)
                assert written == Written(V0)
                assert await bench.load(key) is None
                assert await bench.history(key) == []

    @in_bench
    async def test_cmp_1_values_that_look_compressed_are_values(self, bench: StorageBench) -> None:
        text = b"compress me " * 4096
        frames = (zlib.compress(text), gzip.compress(text), b"\x28\xb5\x2f\xfd\x00", b"\x01", b"\x00" + text, text)
        for number, value in enumerate(frames):
            key = make_key(number)
            await bench.commit(make_change(key, None, V0, value, segment=Segment(1, value, value)))
            assert await bench.load(key) == Stored(V0, value, 1, False)
            assert await bench.history(key, outbox=True) == [Segment(1, value, value)]
