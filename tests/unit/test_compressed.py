"""The compression wrapper, on the storage in memory."""

from __future__ import annotations

import asyncio
import random
import sys
import tracemalloc
import zlib
from collections.abc import Coroutine
from typing import Any, get_args

import pytest
import zstandard

from infinitic.errors import MissingDriverError
from infinitic.storage import (
    Change,
    DamagedState,
    Published,
    Query,
    Segment,
    StateKey,
    StorageClosed,
    Stored,
    ValueTooLarge,
    Written,
)
from infinitic_storages.compressed import CompressedStorage, Compression
from infinitic_storages.memory import Database, InMemoryStorage

KEY = StateKey("Trip", "1")
LONG = b"the same again, " * 100
NOISE = random.Random(7).randbytes(4000)
SETTINGS: tuple[Compression, ...] = get_args(Compression)
VALUES = [b"", b"\x00", b"\x01", b"\x02", b"\x03x", b"short", LONG, NOISE] + [
    mark + rest for mark in (b"\x00", b"\x01", b"\x02") for rest in (LONG, NOISE, b"\x00\x01")
]


def run(verb: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(verb)


def kept(database: Database) -> tuple[bytes, bytes, bytes | None]:
    """Head, events and outbox as the inner storage has them."""
    (segment,) = database.history(KEY, outbox=True)
    return database.load([KEY])[KEY].head, segment.events, segment.outbox


def start(value: bytes) -> Change:
    return Change(KEY, None, 1, value, 0.0, Segment(1, value, value))


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("reader", SETTINGS)
@pytest.mark.parametrize("writer", SETTINGS)
def test_CMP_1_every_setting_reads_what_any_wrote(writer: Compression, reader: Compression, value: bytes) -> None:
    database = Database()
    writing = CompressedStorage(InMemoryStorage(database), writer, minimum_size=0)
    reading = CompressedStorage(InMemoryStorage(database), reader)
    assert run(writing.states.commit([start(value)])) == [Written(1)]
    assert run(reading.states.load([KEY])) == {KEY: Stored(1, value, 1, False)}
    assert run(reading.states.history(KEY, outbox=True)) == [Segment(1, value, value)]
    assert run(reading.states.history(KEY)) == [Segment(1, value)]
    assert all(len(each or b"") <= len(value) + 1 for each in kept(database))


@pytest.mark.parametrize(("setting", "mark"), [("gzip", b"\x01"), ("zstd", b"\x02"), ("none", b"t")])
def test_each_value_says_how_it_was_written(setting: Compression, mark: bytes) -> None:
    database = Database()
    run(CompressedStorage(InMemoryStorage(database), setting).states.commit([start(LONG)]))
    for value in kept(database):
        assert value is not None
        assert value[:1] == mark
        assert (len(value) < len(LONG) / 10) == (setting != "none")


@pytest.mark.parametrize("setting", ["gzip", "zstd"])
def test_what_does_not_get_smaller_or_is_small_stays_plain(setting: Compression) -> None:
    for value, minimum in ((b"n" + NOISE, 0), (LONG, len(LONG) + 1)):
        database = Database()
        storage = CompressedStorage(InMemoryStorage(database), setting, minimum_size=minimum)
        run(storage.states.commit([start(value)]))
        assert kept(database) == (value, value, value)


@pytest.mark.parametrize("setting", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "changed", "more"])
def test_damage_is_an_error_that_names_the_place(setting: Compression, damage: str) -> None:
    database = Database()
    storage = CompressedStorage(InMemoryStorage(database), setting)
    run(storage.states.commit([start(LONG)]))
    good, _, _ = kept(database)
    bad = {"cut": good[:-3], "changed": good[:-6] + b"XXXXXX", "more": good + b"\x00more"}[damage]
    database.commit(
        [
            Change(KEY, 1, 2, bad, 0.0, Segment(2, bad, good)),
        ]
    )
    damaged = run(storage.states.load([KEY]))[KEY]
    assert (damaged.head, damaged.version) == (b"", 2), "who loads others beside it gets these"
    assert damaged.damage.startswith("it cannot be decompressed: ")
    with pytest.raises(DamagedState, match=r"of Trip 1 is damaged. Segment 2: it cannot be decompressed"):
        run(storage.states.history(KEY))
    assert run(storage.states.history(KEY, sequences=[1])) == [Segment(1, LONG)]


@pytest.mark.parametrize("setting", ["gzip", "zstd"])
@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_small_value_that_becomes_a_huge_one_is_not_decompressed(setting: str, says_its_size: bool) -> None:
    """Refused before the memory is taken."""
    size, limit = 50_000_000, 1_000_000
    zeros = bytes(size // 100)
    if setting == "gzip":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        bomb = b"\x01" + b"".join(packer.compress(zeros) for _ in range(size // len(zeros))) + packer.flush()
    else:
        stream = zstandard.ZstdCompressor(write_content_size=says_its_size).compressobj(
            size=size if says_its_size else -1
        )
        bomb = b"\x02" + b"".join(stream.compress(zeros) for _ in range(size // len(zeros))) + stream.flush()
    database = Database(max_value=limit)
    database.commit([Change(KEY, None, 1, bomb, 0.0, Segment(1, bomb, bomb))])
    storage = CompressedStorage(InMemoryStorage(database), "none")
    tracemalloc.start()
    try:
        assert run(storage.states.load([KEY]))[KEY].damage
        with pytest.raises(DamagedState, match="Segment 1: "):
            run(storage.states.history(KEY))
        assert tracemalloc.get_traced_memory()[1] < 20 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("setting", SETTINGS)
def test_STO_13_the_limit_is_for_plain_values(setting: Compression) -> None:
    storage = CompressedStorage(InMemoryStorage(max_value=1000), setting, minimum_size=0)
    limit = storage.capabilities.max_value
    assert limit == 999
    for byte in (b"\x00", b"x"):
        key = StateKey("Trip", repr(byte))
        fits = Change(key, None, 1, byte * limit, 0.0, Segment(1, byte * limit, byte * limit))
        assert run(storage.states.commit([fits])) == [Written(1)]
        for change in (
            Change(key, 1, 2, byte * 1000, 0.0),
            Change(key, 1, 2, b"", 0.0, Segment(2, byte * 1000)),
            Change(key, 1, 2, b"", 0.0, Segment(2, b"", byte * 1000)),
        ):
            with pytest.raises(ValueTooLarge, match="of 1,000 bytes is above the limit of 999 bytes"):
                run(storage.states.commit([change]))


def test_the_other_verbs_are_those_of_the_inner_storage() -> None:
    async def play() -> None:
        inner = InMemoryStorage(deduplication_window=50.0)
        async with CompressedStorage(inner, "gzip") as storage:
            await storage.prepare()
            assert storage.capabilities.deduplication_window == 50.0
            change = Change(KEY, None, 1, LONG, 0.0, Segment(1, LONG), deduplication_ids=("m",), expires_at=5.0)
            assert await storage.states.commit([change]) == [Written(1)]
            assert await storage.states.commit([Published(KEY, 1)]) == [Written(1)]
            assert (await storage.states.load([KEY]))[KEY].published
            assert (await storage.states.find(Query())).found == []
            assert await storage.states.purge(6.0) == 1
        with pytest.raises(StorageClosed):
            await inner.states.load([KEY])

    run(play())


def test_zstd_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    run(CompressedStorage(InMemoryStorage(database), "zstd").states.commit([start(LONG)]))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDriverError, match=r"Compression 'zstd' needs .*infinitic\[zstd\]"):
        CompressedStorage(InMemoryStorage(), "zstd")
    with pytest.raises(MissingDriverError, match="zstandard cannot be imported"):
        run(CompressedStorage(InMemoryStorage(database)).states.load([KEY]))


def test_another_compression_is_refused() -> None:
    unknown: Any = "lz4"
    with pytest.raises(ValueError, match="none, gzip or zstd, not 'lz4'"):
        CompressedStorage(InMemoryStorage(), unknown)
