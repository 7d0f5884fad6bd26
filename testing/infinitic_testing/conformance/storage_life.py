"""Rules of purging and of the life of a database: STO-5, STO-12, OUT-1, OUT-4, MIG-1, CLOSE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from infinitic.storage import (
    Claim,
    Duplicate,
    Entry,
    Lost,
    Published,
    Query,
    Segment,
    Storage,
    StorageClosed,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Stored,
    WorkflowStatus,
    Written,
)
from infinitic_testing.conformance.storage_bench import (
    KEY,
    T0,
    V0,
    StorageBench,
    StorageSuite,
    in_bench,
    in_unprepared_bench,
    make_change,
    make_key,
    make_start,
    require_crashes,
)
from infinitic_testing.conformance.storage_tags import CUSTOM_ID, TAG, list_members, make_add, make_removal

VERBS: tuple[Callable[[Storage, int], Coroutine[Any, Any, object]], ...] = (
    lambda storage, number: storage.states.load([KEY, make_key(number)]),
    lambda storage, _: storage.states.history(KEY, outbox=True),
    lambda storage, number: storage.states.commit([make_start(make_key(number))]),
    lambda storage, _: storage.states.commit([Published(KEY, V0)]),
    lambda storage, _: storage.states.find(Query(limit=3)),
    lambda storage, _: storage.states.purge(T0 - 1e9),
    lambda storage, number: storage.tags.update([make_add(f"{number}"), make_removal(f"{number + 1}")]),
    lambda storage, number: storage.tags.members(TAG, after=f"{number}", limit=3),
    lambda storage, _: storage.tags.count(TAG),
    lambda storage, number: storage.tags.claim(CUSTOM_ID, f"{number}", 0, T0),
    lambda storage, _: storage.tags.purge(T0 - 1e9),
)


class LifeRules(StorageSuite):
    @in_bench
    async def test_sto_5_what_is_written_outlives_its_connection(self, bench: StorageBench) -> None:
        storage = await bench.connect()
        entry = Entry(WorkflowStatus.RUNNING, T0)
        assert await storage.states.commit([make_start(deduplication_ids=("m",), entry=entry)]) == [Written(V0)]
        whole = (Stored(V0, b"head", 1, False), [Segment(1, b"first", b"out")], [entry])
        await bench.within(storage.close())
        assert await bench.read() == whole
        bench.states = (await bench.connect()).states
        assert await bench.read() == whole
        assert await bench.commit(make_change(KEY, V0, V0 + 1, deduplication_ids=("m",))) == [Duplicate(("m",))]

    @in_bench
    async def test_sto_5_what_is_written_outlives_the_server(self, bench: StorageBench) -> None:
        if not bench.capabilities.durable:
            pytest.skip("this storage says that it is not durable")
        backend = require_crashes(bench)
        await bench.commit(
            make_start(deduplication_ids=("m",)), *(make_start(make_key(number)) for number in range(20))
        )
        await bench.commit(Published(KEY, V0))
        before = await bench.read()
        await backend.crash()
        await backend.restart()
        bench.states = (await bench.connect()).states
        assert await bench.read() == before
        assert len(await bench.find_all()) == 21
        assert await bench.commit(make_change(KEY, V0, V0 + 1, deduplication_ids=("m",))) == [Duplicate(("m",))]

    @in_bench
    async def test_sto_5_tags_outlive_their_connection_and_the_server(self, bench: StorageBench) -> None:
        storage = await bench.connect()
        await storage.tags.update([make_add("a"), make_add("b"), make_removal("b")])
        assert (await storage.tags.claim(CUSTOM_ID, "c", 0, T0)).granted
        await bench.within(storage.close())
        if bench.backend.can_crash and bench.capabilities.durable:
            await bench.backend.crash()
            await bench.backend.restart()
        bench.tags = bench.other_tags = (await bench.connect()).tags
        await bench.within(bench.tags.update([make_add("b", 1)]))
        assert await list_members(bench) == ["a"]
        assert await bench.within(bench.tags.claim(CUSTOM_ID, "d", 0, T0)) == Claim("c", False)

    @in_bench
    async def test_out_1_an_outage_is_said_and_ends(self, bench: StorageBench) -> None:
        backend = require_crashes(bench)
        await bench.commit(make_start())
        await backend.crash()
        for number, verb in enumerate(VERBS):
            with pytest.raises((StorageUnavailable, StorageOutcomeUnknown)):
                await bench.within(verb(bench.storage, number))
        await backend.restart()
        for number, verb in enumerate(VERBS):
            await bench.within(verb(bench.storage, number))

    @in_bench
    async def test_out_4_cancelled_verbs_leak_nothing(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        for turn in range(20):
            tasks = [asyncio.ensure_future(verb(bench.storage, turn)) for verb in VERBS * 2]
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            if turn >= 5:
                await asyncio.sleep(0.0005 * (turn % 8))
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError, StorageOutcomeUnknown):
                    await bench.within(task)
        await bench.within(asyncio.gather(*(verb(bench.storage, 100 + n) for n in range(4) for verb in VERBS)))
        for number, verb in enumerate(VERBS):
            await bench.within(verb(bench.storage, 200 + number))

    @in_unprepared_bench
    async def test_mig_1_ten_prepare_at_once(self, bench: StorageBench) -> None:
        storages = [bench.connect_unprepared() for _ in range(10)]
        await bench.within(asyncio.gather(*(each.prepare() for each in storages)))
        await bench.within(storages[3].prepare())
        bench.states = storages[0].states
        assert await bench.commit(make_start()) == [Written(V0)]
        await bench.within(storages[1].prepare())
        await bench.within(storages[2].tags.update([make_add("a")]))
        for each in storages:
            assert await bench.within(each.states.load([KEY])) == {KEY: Stored(V0, b"head", 1, False)}
            assert await bench.within(each.tags.members(TAG)) == ["a"]

    @in_bench
    async def test_close_is_idempotent_and_ends_every_verb(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        storage = await bench.connect()
        await bench.within(storage.states.load([KEY]))
        await bench.within(storage.close())
        await bench.within(storage.close())
        with pytest.raises(StorageClosed):
            await bench.within(storage.prepare())
        for number, verb in enumerate(VERBS):
            with pytest.raises(StorageClosed):
                await bench.within(verb(storage, number))
        async with bench.connect_unprepared() as another:
            await bench.within(another.prepare())
        with pytest.raises(StorageClosed):
            await bench.within(another.states.load([KEY]))
        unused = bench.connect_unprepared()
        await bench.within(unused.close())
        assert await bench.load() is not None, "another connection was closed"

    @in_bench
    async def test_sto_12_an_instance_goes_at_its_expiry_and_leaves_a_remnant(self, bench: StorageBench) -> None:
        await bench.commit(make_start(expires_at=T0 + 10), make_start(make_key(1)))
        assert await bench.purge(T0 + 9.75) == 0
        assert await bench.purge(T0 + 10) == 1
        assert await bench.read() == (None, [], [])
        assert await bench.load(make_key(1)) is not None
        for expected in (None, V0, V0 - 1):
            assert await bench.commit(make_change(KEY, expected, V0 + 9)) == [Lost(V0)], "a late start made it again"
        assert await bench.commit(Published(KEY, V0)) == [Lost(V0)]
        assert await bench.purge_all(T0 + 9.75 + bench.deduplication_window) == 0
        assert await bench.commit(make_change(KEY, None, V0 + 9)) == [Lost(V0)]
        await bench.purge(T0 + 10 + bench.deduplication_window)
        assert await bench.commit(make_change(KEY, V0, V0 + 9)) == [Lost(None)]
        again = make_start(version=V0 + 9, segment=Segment(1, b"again"), entry=None)
        assert await bench.commit(again) == [Written(V0 + 9)]
        assert await bench.read() == (Stored(V0 + 9, b"head", 1, False), [Segment(1, b"again")], [])

    @in_bench
    async def test_sto_12_purge_checks_expiry_again(self, bench: StorageBench) -> None:
        await bench.commit(*(make_start(make_key(number), expires_at=T0 + 10) for number in range(4)))
        await bench.commit(
            make_change(make_key(0), V0, V0 + 1, expires_at=T0 + 20),  # later
            make_change(make_key(1), V0, V0 + 1),  # never
            make_change(make_key(2), V0, V0 + 1, expires_at=T0 + 15),
        )
        await bench.commit(make_change(make_key(2), V0 + 1, V0 + 2, expires_at=T0 + 10))  # and back
        assert await bench.purge(T0 + 10) == 2
        assert set(await bench.within(bench.states.load([make_key(n) for n in range(4)]))) == {make_key(0), make_key(1)}
        assert await bench.purge(T0 + 19.75) == 0
        assert await bench.purge(T0 + 20) == 1
        assert await bench.purge_all(T0 + 30) == 0
        assert await bench.find_ids() == ["0001"]

    @in_bench
    async def test_sto_12_deduplication_ids_go_a_deduplication_window_after_they_were_made(
        self, bench: StorageBench
    ) -> None:
        deduplication_window = bench.deduplication_window
        await bench.commit(make_start(deduplication_ids=("old",), at=T0 + 50))
        await bench.commit(make_change(KEY, V0, V0 + 1, deduplication_ids=("older",), at=T0 + 20))
        assert await bench.purge(T0 + 19.5 + deduplication_window) == 0
        assert await bench.purge(T0 + 20.5 + deduplication_window) == 1
        assert await bench.commit(make_change(KEY, V0 + 1, V0 + 2, deduplication_ids=("old", "older"))) == [
            Duplicate(("old",))
        ]
        assert await bench.purge(T0 + 50.5 + deduplication_window) == 1
        assert await bench.commit(make_change(KEY, V0 + 1, V0 + 2, deduplication_ids=("old", "older"))) == [
            Written(V0 + 2)
        ]

    @in_bench
    async def test_sto_12_deduplication_ids_may_outlive_the_remnant(self, bench: StorageBench) -> None:
        deduplication_window = bench.deduplication_window
        await bench.commit(make_start(deduplication_ids=("m",), at=T0 + 500, expires_at=T0 + 10))
        assert await bench.purge(T0 + 10) == 1
        assert await bench.purge(T0 + 20 + deduplication_window) == 0
        assert await bench.commit(make_change(KEY, None, V0 + 1, deduplication_ids=("m",))) == [Duplicate(("m",))]
        assert await bench.commit(make_change(KEY, V0, V0 + 1)) == [Lost(None)]
        assert await bench.commit(make_change(KEY, None, V0 + 1)) == [Written(V0 + 1)]
        assert await bench.purge(T0 + 501 + deduplication_window) == 1
        assert await bench.load() == Stored(V0 + 1, b"head", 0, False)

    @in_bench
    async def test_sto_12_purge_goes_in_bounded_chunks_and_misses_nothing(self, bench: StorageBench) -> None:
        keys = [make_key(number) for number in range(25)]
        deduplication_ids = ("m", "n", "o")
        at = T0 - bench.deduplication_window
        await bench.commit(
            *(
                make_start(key, at=at, deduplication_ids=deduplication_ids, expires_at=T0 + n / 8)
                for n, key in enumerate(keys)
            )
        )
        gone = [await bench.purge(T0 + 10, limit=10) for _ in range(12)]
        assert gone == [10] * 10 + [0] * 2
        assert await bench.within(bench.states.load(keys)) == {}
        assert await bench.find_all() == []
        # Remnants are not counted, but it tells that more of them are due.
        window = bench.deduplication_window
        assert [await bench.purge(T0 + 10 + window, limit=10) for _ in range(3)] == [10, 10, 0]
        outcomes = await bench.commit(*(make_change(key, None, 5, deduplication_ids=deduplication_ids) for key in keys))
        assert outcomes == [Written(5)] * 25
        assert await bench.history(keys[0]) == []

    @in_bench
    async def test_sto_12_concurrent_purges_count_each_once(self, bench: StorageBench) -> None:
        await bench.commit(*(make_start(make_key(number), expires_at=T0) for number in range(40)))
        purges = [each.purge(T0, limit=25) for each in (bench.states, bench.other) * 2]
        gone = sum(await bench.within(asyncio.gather(*purges)))
        assert gone + await bench.purge_all(T0) == 40
