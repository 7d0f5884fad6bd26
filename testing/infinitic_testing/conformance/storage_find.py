"""Rules of `find`: STO-11, FIND."""

from __future__ import annotations

import pytest

from infinitic.storage import Entry, Found, Query, StateKey, WorkflowStatus, Written
from infinitic_testing.conformance.storage_bench import KEY, T0, V0, Bench, Suite, change, in_bench, start, trip

RUNNING, COMPLETED = WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED


class FindRules(Suite):
    @in_bench
    async def test_find_filters_by_every_fact_newest_first(self, bench: Bench) -> None:
        assert await bench.pages() == []
        await bench.commit(
            start(StateKey("Trip", "a"), entry=Entry(RUNNING, T0 + 10, next_wake=T0 + 50)),
            start(StateKey("Trip", "b"), entry=Entry(RUNNING, T0 + 30, 7)),
            start(StateKey("Trip", "c"), entry=Entry(COMPLETED, T0 + 20, closed_at=T0 + 21, next_wake=T0 + 40)),
            start(StateKey("Order", "d"), entry=Entry(RUNNING, T0 + 40, next_wake=T0 + 60)),
            start(StateKey("Order", "without an entry"), entry=None),
        )
        assert await bench.ids() == ["d", "b", "c", "a"]
        assert await bench.ids(limit=1) == ["d", "b", "c", "a"]
        assert await bench.ids(name="Trip") == ["b", "c", "a"]
        assert await bench.ids(name="trip") == await bench.ids(status=WorkflowStatus.FAILED) == []
        assert await bench.ids(status=RUNNING) == ["d", "b", "a"]
        assert await bench.ids(status=RUNNING, name="Trip", limit=1) == ["b", "a"]
        assert await bench.ids(started_after=T0 + 10, started_before=T0 + 40) == ["b", "c"]
        assert await bench.ids(started_after=T0 + 9.75, started_before=T0 + 20.25) == ["c", "a"]
        assert await bench.ids(overdue_at=T0 + 50) == []
        assert await bench.ids(overdue_at=T0 + 60) == ["a"], "only running ones, before that instant"
        assert await bench.ids(overdue_at=T0 + 60.5) == ["d", "a"]
        assert await bench.ids(overdue_at=T0 + 60.5, name="Order") == ["d"]
        assert await bench.ids(overdue_at=T0 + 60.5, status=COMPLETED) == []

    @in_bench
    async def test_find_gives_each_fact_as_it_was_written(self, bench: Bench) -> None:
        entries = [
            Entry(status, T0 + number + 0.125, version, closed, wake)
            for number, (status, version, closed, wake) in enumerate(
                [(status, 0, None, T0 + 0.5) for status in WorkflowStatus]
                + [(RUNNING, None, None, None), (COMPLETED, 2**31 - 1, T0 + 99.25, None)]
            )
        ]
        await bench.commit(*(start(trip(number), entry=each) for number, each in enumerate(entries)))
        assert await bench.pages() == [Found(trip(n), each) for n, each in reversed(list(enumerate(entries)))]

    @in_bench
    async def test_find_gives_the_last_entry_that_was_written(self, bench: Bench) -> None:
        await bench.commit(start(entry=Entry(RUNNING, T0, 1, next_wake=T0 + 5)))
        await bench.commit(change(KEY, V0, V0 + 1))
        assert await bench.ids(status=RUNNING) == ["1"], "an entry stays until it is written again"
        closed = Entry(COMPLETED, T0, closed_at=T0 + 12)
        await bench.commit(change(KEY, V0 + 1, V0 + 2, entry=closed))
        assert await bench.ids(status=RUNNING) == await bench.ids(overdue_at=T0 + 9) == []
        assert await bench.pages(status=COMPLETED) == [Found(KEY, closed)]

    @in_bench
    async def test_find_says_what_is_wrong_with_a_query(self, bench: Bench) -> None:
        await bench.commit(start())
        queries = [Query(limit=0), Query(limit=-1)]
        queries += [Query(cursor=cursor) for cursor in ("", "x", "{}", "[1]", "é", "null", "AAAA", '["a","b","c"]')]
        for query in queries:
            with pytest.raises(ValueError):  # noqa: PT011 (what it says is free)
                await bench.within(bench.states.find(query))

    @in_bench
    async def test_find_has_a_cursor_only_if_there_is_more(self, bench: Bench) -> None:
        await bench.commit(*(start(trip(number)) for number in range(6)))
        assert (await bench.within(bench.states.find(Query(limit=6)))).cursor is None
        page = await bench.within(bench.states.find(Query(limit=5)))
        assert len(page.found) == 5
        assert page.cursor is not None

    @in_bench
    async def test_sto_11_pages_skip_and_repeat_nothing_that_stayed(self, bench: Bench) -> None:
        keys = [StateKey(name, f'"é{number:02}') for number in range(25) for name in ("Trip", "trip ")]
        for first in range(0, 50, 10):  # many with one start, and ids that need escaping
            batch = list(enumerate(keys))[first : first + 10]
            await bench.commit(*(start(key, entry=Entry(RUNNING, T0 + n // 20)) for n, key in batch))
        for limit in (1, 7, 49):
            assert sorted((each.key.id, each.key.name) for each in await bench.pages(limit=limit)) == sorted(
                (key.id, key.name) for key in keys
            )
        found: list[Found] = []
        gone: set[StateKey] = set()
        cursor: str | None = None
        for turn in range(20):
            page = await bench.within((bench.other if turn % 2 else bench.states).find(Query(limit=7, cursor=cursor)))
            found += page.found
            cursor = page.cursor
            if cursor is None:
                break
            seen = {each.key for each in found}
            for key in [page.found[-1].key, *[key for key in keys if key not in seen][3:4]]:
                if key not in gone and turn < 5:  # one that the cursor points at, and one that is still to come
                    assert await bench.commit(change(key, V0, V0 + 1, expires_at=T0 - 1)) == [Written(V0 + 1)]
                    gone.add(key)
            await bench.purge(T0)
            await bench.commit(*(start(StateKey("New", f"{turn}-{n}"), entry=Entry(RUNNING, T0 + n)) for n in range(4)))
        old = [each for each in found if each.key.name != "New"]
        assert len({each.key for each in found}) == len(found), "repeated"
        assert {each.key for each in old} | gone >= set(keys), "skipped"
        starts = [each.entry.started_at for each in found]
        assert starts == sorted(starts, reverse=True)
