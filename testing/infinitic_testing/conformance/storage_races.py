"""Rules of what happens at once, and of what is cancelled: STO-2, STO-7, STO-8."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Lost,
    Outcome,
    Published,
    Segment,
    StateKey,
    StateStorage,
    StorageOutcomeUnknown,
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
    name_kinds,
)

MOMENTS = (*((turns, 0.0) for turns in range(8)), *((0, ms / 1000) for ms in (0.3, 0.7, 1, 1.5, 2, 3, 4, 6, 10)))
"""When commits are cancelled: after turns of the loop, or after seconds.

The first has not begun then.
"""


class RaceRules(StorageSuite):
    @in_bench
    async def test_sto_2_of_concurrent_changes_exactly_one_is_written(self, bench: StorageBench) -> None:
        connections = [bench.states, bench.other, *[(await bench.connect()).states for _ in range(2)]]
        expected: int | None = None
        for turn in range(6):
            base = V0 + 100 * turn
            changes = [
                make_change(KEY, expected, base + n, b"%d" % n, segment=Segment(turn + 1, b"%d" % n)) for n in range(12)
            ]
            racers = [connections[n % 4].commit([each]) for n, each in enumerate(changes)]
            outcomes = [each for (each,) in await bench.within(asyncio.gather(*racers))]
            winners = [n for n, each in enumerate(outcomes) if isinstance(each, Written)]
            assert len(winners) == 1, outcomes
            expected = base + winners[0]
            assert [each for each in outcomes if each != Written(expected)] == [Lost(expected)] * 11
            head = b"%d" % winners[0]
            assert await bench.load() == Stored(expected, head, turn + 1, False)
            assert (await bench.history())[-1] == Segment(turn + 1, head)

    @in_bench
    async def test_sto_7_a_cancelled_commit_is_whole_or_absent(self, bench: StorageBench) -> None:
        for number, (turns, seconds) in enumerate(MOMENTS):
            entry = Entry(WorkflowStatus.RUNNING, T0 + number)
            segment = Segment(1, b"events", b"outbox")
            changes = [
                make_change(key, None, V0, segment=segment, deduplication_ids=("m",), entry=entry)
                for key in (StateKey("Trip", f"{number}-{part}") for part in range(3))
            ]
            task = asyncio.ensure_future(bench.states.commit(changes))
            for _ in range(turns):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
            task.cancel()
            with suppress(asyncio.CancelledError, StorageOutcomeUnknown):
                await task
            for each in changes:
                await _check_whole(bench, each)

    @in_bench
    async def test_sto_8_overlapping_batches_all_end(self, bench: StorageBench) -> None:
        connections = [bench.states, bench.other, *[(await bench.connect()).states for _ in range(2)]]
        versions: dict[StateKey, int | None] = {make_key(number): None for number in range(12)}
        for turn in range(6):
            versions = await _contend(bench, connections, versions, V0 + turn * 100)


async def _check_whole(bench: StorageBench, each: Change) -> None:
    """A change of unknown outcome is whole or absent, and writing it again says which."""
    (stored, history, entries) = await bench.read(each.key)
    whole = (Stored(V0, b"head", 1, False), [each.segment], [each.entry])
    if stored is not None:  # what is absent may land while it is looked at
        assert (stored, history, entries) == whole
    (outcome,) = await bench.commit(each)
    assert outcome in (Written(V0), Lost(V0))
    assert await bench.read(each.key) == whole
    assert await bench.commit(make_change(each.key, V0, V0 + 1, deduplication_ids=("m",))) == [Duplicate(("m",))]


async def _contend(
    bench: StorageBench, connections: list[StateStorage], versions: dict[StateKey, int | None], base: int
) -> dict[StateKey, int | None]:
    """Batches of every key, in opposite orders, all at once; the versions of the winners."""
    keys = list(versions)
    batches: list[list[Change | Published]] = []
    for number in range(8):
        order = keys[number:] + keys[:number]
        order = order[::-1] if number % 2 else order
        batches.append([make_change(key, versions[key], base + number, b"%d" % number) for key in order])
    racers = [connections[number // 2 % len(connections)].commit(batch) for number, batch in enumerate(batches)]
    answers = await bench.within(asyncio.gather(*racers))
    outcomes: dict[StateKey, list[Outcome]] = {key: [] for key in keys}
    for batch, answer in zip(batches, answers, strict=True):
        for each, outcome in zip(batch, answer, strict=True):
            outcomes[each.key].append(outcome)
    loaded = await bench.within(bench.states.load(keys))
    for key in keys:
        version = loaded[key].version
        assert loaded[key].head == b"%d" % (version - base)
        assert sorted(name_kinds(outcomes[key])) == ["Lost"] * 7 + ["Written"]
        assert {each for each in outcomes[key] if isinstance(each, Written)} == {Written(version)}
        assert {each for each in outcomes[key] if isinstance(each, Lost)} == {Lost(version)}
    return {key: loaded[key].version for key in keys}
