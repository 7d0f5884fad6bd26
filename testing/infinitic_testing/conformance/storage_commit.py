"""Rules of `commit`: STO-1 to STO-4, STO-9, STO-10."""

from __future__ import annotations

import pytest

from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Found,
    Lost,
    Published,
    Segment,
    StateKey,
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
    make_change,
    make_key,
    make_start,
    name_kinds,
)


class CommitRules(StorageSuite):
    @in_bench
    async def test_sto_1_a_change_is_written_whole(self, bench: StorageBench) -> None:
        entry = Entry(WorkflowStatus.RUNNING, T0 + 0.25, version=3, next_wake=T0 + 9.5)
        segment = Segment(1, b"events", b"outbox")
        assert await bench.commit(
            make_change(KEY, None, V0, segment=segment, deduplication_ids=("m", "n"), entry=entry)
        ) == [Written(V0)]
        assert await bench.load() == Stored(V0, b"head", 1, False)
        assert await bench.history(outbox=True) == [segment]
        assert await bench.find_all() == [Found(KEY, entry)]
        assert await bench.commit(make_change(KEY, V0, V0 + 1, deduplication_ids=("new", "n", "m"))) in (
            [Duplicate(("n", "m"))],
            [Duplicate(("m", "n"))],
        )
        closed = Entry(WorkflowStatus.FAILED, T0 + 0.25, version=3, closed_at=T0 + 50.5)
        last = make_change(KEY, V0, V0 + 1, b"", segment=Segment(2, b"more"), published=True, entry=closed)
        assert await bench.commit(last) == [Written(V0 + 1)]
        assert await bench.read() == (Stored(V0 + 1, b"", 2, True), [segment, Segment(2, b"more")], [closed])

    @in_bench
    async def test_sto_1_a_loser_writes_nothing(self, bench: StorageBench) -> None:
        await bench.commit(make_start(deduplication_ids=("m",)))
        before = await bench.read()
        for expected, version, sequence, deduplication_ids, outcome in (
            (V0 - 1, V0 + 5, 2, ("n",), "Lost"),
            (V0 + 5, V0 + 6, 2, ("n",), "Lost"),
            (None, V0 + 5, 1, ("n",), "Lost"),
            (V0, V0 + 5, 2, ("n", "m"), "Duplicate"),
            (V0, V0, 2, ("n",), "Refused"),
            (V0, V0 - 1, 2, ("n",), "Refused"),
            (V0, V0 + 5, 3, ("n",), "Refused"),
            (V0, V0 + 5, 1, ("n",), "Refused"),
        ):
            entry = Entry(WorkflowStatus.COMPLETED, T0 + 1)
            segment = Segment(sequence, b"x", b"y")
            loser = make_change(
                KEY,
                expected,
                version,
                b"x",
                segment=segment,
                deduplication_ids=deduplication_ids,
                entry=entry,
                expires_at=T0,
            )
            assert name_kinds(await bench.commit(loser)) == [outcome]
            assert await bench.read() == before
        assert await bench.purge(T0) == 0, "the expiry of a loser was kept"
        assert await bench.commit(make_change(KEY, V0, V0 + 1, deduplication_ids=("n",))) == [Written(V0 + 1)], (
            "its mark was kept"
        )

    @in_bench
    async def test_sto_2_only_the_expected_version_is_changed(self, bench: StorageBench) -> None:
        assert await bench.commit(make_change(KEY, 0, V0)) == [Lost(None)], "absent equals no number"
        assert await bench.commit(make_change(KEY, V0, V0 + 1)) == [Lost(None)]
        assert await bench.load() is None
        assert await bench.commit(make_start()) == [Written(V0)]
        assert await bench.commit(make_change(KEY, V0, V0 + 3)) == [Written(V0 + 3)]
        for expected in (V0, V0 + 2, V0 + 4, 0, None):
            assert await bench.commit(make_change(KEY, expected, V0 + 9)) == [Lost(V0 + 3)]
        assert await bench.load() == Stored(V0 + 3, b"head", 1, False)

    @in_bench
    async def test_sto_2_versions_only_grow(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        assert name_kinds(await bench.commit(make_change(KEY, V0, V0), make_change(make_key(1), None, 1))) == [
            "Refused",
            "Written",
        ]
        assert name_kinds(await bench.commit(make_change(KEY, V0, 9))) == ["Refused"]
        assert await bench.load() == Stored(V0, b"head", 1, False)

    @in_bench
    async def test_sto_3_outcomes_are_per_key_and_undo_no_winner(self, bench: StorageBench) -> None:
        keys = [make_key(number) for number in range(10)]
        await bench.commit(*(make_start(key, deduplication_ids=("m",)) for key in keys[:7]))
        batch: list[Change | Published] = [
            make_change(keys[0], V0, V0 + 1, b"new", deduplication_ids=("n",), segment=Segment(2, b"e")),
            make_change(keys[1], V0, V0 + 1, b"new", deduplication_ids=("m", "n"), segment=Segment(2, b"e")),
            make_change(keys[2], 8, 9, b"new"),
            make_change(keys[3], V0, V0 + 1, b"new", segment=Segment(5, b"e")),
            Published(keys[4], V0),
            Published(keys[5], 8),
            make_change(keys[6], V0, V0 + 2, b"new"),
            make_change(keys[7], 1, 2, b"new"),
            make_change(keys[8], None, 3, b"new", segment=Segment(2, b"e")),
            make_start(keys[9], 4, head=b"new"),
        ]
        outcomes = await bench.commit(*batch)
        for index, outcome in {
            0: Written(V0 + 1),
            1: Duplicate(("m",)),
            2: Lost(V0),
            4: Written(V0),
            5: Lost(V0),
            6: Written(V0 + 2),
            7: Lost(None),
            9: Written(4),
        }.items():
            assert outcomes[index] == outcome, f"change {index} of the batch"
        assert name_kinds([outcomes[3], outcomes[8]]) == ["Refused"] * 2
        loaded = await bench.within(bench.other.load(keys))
        assert [number for number, key in enumerate(keys) if key in loaded] == [0, 1, 2, 3, 4, 5, 6, 9]
        assert [loaded[key].head == b"new" for key in loaded] == [key in (keys[0], keys[6], keys[9]) for key in loaded]
        assert [key for key in keys if key in loaded and loaded[key].published] == [keys[4]]
        assert [len(await bench.history(key)) for key in keys] == [2, 1, 1, 1, 1, 1, 1, 0, 0, 1]

    @in_bench
    async def test_sto_3_nothing_to_write_is_no_error(self, bench: StorageBench) -> None:
        assert await bench.commit() == []
        assert await bench.within(bench.states.load([])) == {}

    @in_bench
    async def test_sto_4_a_key_that_comes_twice_is_an_error(self, bench: StorageBench) -> None:
        await bench.commit(make_start(make_key(1)))
        before = await bench.read(make_key(1))
        again = StateKey("Trip", "0001")
        for second in (make_change(again, V0, V0 + 2), Published(again, V0), Published(again, V0 + 1)):
            with pytest.raises(ValueError):  # noqa: PT011 (what it says is free)
                await bench.commit(make_start(), make_change(make_key(1), V0, V0 + 1), second)
            assert await bench.load() is None
            assert await bench.read(make_key(1)) == before
        assert name_kinds(await bench.commit(make_start(), make_start(StateKey("Other", "1")))) == ["Written"] * 2

    @in_bench
    async def test_sto_9_many_deduplication_ids_are_all_remembered(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        version = V0
        for batch in range(6):
            deduplication_ids = tuple(f"mark-{batch}-{number}" for number in range(500))
            assert await bench.commit(make_change(KEY, version, version + 1, deduplication_ids=deduplication_ids)) == [
                Written(version + 1)
            ]
            version += 1
        for known in ("mark-0-0", "mark-0-499", "mark-3-250", "mark-5-499"):
            assert await bench.commit(make_change(KEY, version, version + 1, deduplication_ids=("new", known))) == [
                Duplicate((known,))
            ]
        every = tuple(f"mark-{batch}-{number}" for batch in range(6) for number in range(500))
        (outcome,) = await bench.commit(make_change(KEY, version, version + 1, deduplication_ids=("new", *every)))
        assert isinstance(outcome, Duplicate)
        assert sorted(outcome.deduplication_ids) == sorted(every)
        assert await bench.commit(make_change(make_key(2), None, 1, deduplication_ids=every[:9])) == [Written(1)], (
            "marks are of one key"
        )
        assert await bench.commit(make_change(KEY, version, version + 1, deduplication_ids=("new",))) == [
            Written(version + 1)
        ]

    @in_bench
    async def test_sto_10_published_changes_no_version(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        assert await bench.commit(Published(KEY, V0)) == [Written(V0)]
        assert await bench.commit(Published(KEY, V0)) == [Written(V0)]
        assert await bench.load() == Stored(V0, b"head", 1, True)
        assert await bench.commit(make_change(KEY, V0, V0 + 1)) == [Written(V0 + 1)]
        assert await bench.load() == Stored(V0 + 1, b"head", 1, False), "a new transition has its own outbox"
        assert await bench.commit(Published(KEY, V0)) == [Lost(V0 + 1)]
        assert await bench.load() == Stored(V0 + 1, b"head", 1, False)
        assert await bench.commit(Published(make_key(9), 1)) == [Lost(None)]
        assert await bench.load(make_key(9)) is None
        assert await bench.commit(make_change(KEY, V0 + 1, V0 + 2, published=True)) == [Written(V0 + 2)]
        assert await bench.load() == Stored(V0 + 2, b"head", 1, True)
