"""Rules of `find` and `count`, and of arguments: STO-11, FIND, COUNT, ARGUMENTS."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from infinitic.storage import (
    MAX_LIMIT,
    Entry,
    Flag,
    Found,
    InvalidArgument,
    Published,
    Query,
    StateKey,
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
)

RUNNING, COMPLETED = WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED


FACTS = [(RUNNING, None), (RUNNING, Flag.STALLED), (COMPLETED, None), (RUNNING, Flag.PARKED), (RUNNING, Flag.STALLED)]


async def _make_entry(call: Callable[[], Any]) -> None:
    """Make a call, and wait for it if it is a verb."""
    made = call()
    if inspect.isawaitable(made):
        await made


class FindRules(StorageSuite):
    @in_bench
    async def test_find_filters_by_every_fact_newest_first(self, bench: StorageBench) -> None:
        assert await bench.find_all() == []
        await bench.commit(
            make_start(StateKey("Trip", "a"), entry=Entry(RUNNING, T0 + 10, next_wake=T0 + 50)),
            make_start(StateKey("Trip", "b"), entry=Entry(RUNNING, T0 + 30, 7)),
            make_start(StateKey("Trip", "c"), entry=Entry(COMPLETED, T0 + 20, closed_at=T0 + 21, next_wake=T0 + 40)),
            make_start(StateKey("Order", "d"), entry=Entry(RUNNING, T0 + 40, next_wake=T0 + 60)),
            make_start(StateKey("Order", "without an entry"), entry=None),
        )
        assert await bench.find_ids() == ["d", "b", "c", "a"]
        assert await bench.find_ids(limit=1) == ["d", "b", "c", "a"]
        assert await bench.find_ids(name="Trip") == ["b", "c", "a"]
        assert await bench.find_ids(name="trip") == await bench.find_ids(status=WorkflowStatus.FAILED) == []
        assert await bench.find_ids(status=RUNNING) == ["d", "b", "a"]
        assert await bench.find_ids(status=RUNNING, name="Trip", limit=1) == ["b", "a"]
        assert await bench.find_ids(started_after=T0 + 10, started_before=T0 + 40) == ["b", "c"]
        assert await bench.find_ids(started_after=T0 + 9.75, started_before=T0 + 20.25) == ["c", "a"]
        assert await bench.find_ids(overdue_at=T0 + 50) == []
        assert await bench.find_ids(overdue_at=T0 + 60) == ["a"], "only running ones, before that instant"
        assert await bench.find_ids(overdue_at=T0 + 60.5) == ["d", "a"]
        assert await bench.find_ids(overdue_at=T0 + 60.5, name="Order") == ["d"]
        assert await bench.find_ids(overdue_at=T0 + 60.5, status=COMPLETED) == []

    @in_bench
    async def test_find_gives_each_fact_as_it_was_written(self, bench: StorageBench) -> None:
        entries = [
            Entry(status, T0 + number + 0.125, version, closed, wake, flag)
            for number, (status, version, closed, wake, flag) in enumerate(
                [(status, 0, None, T0 + 0.5, None) for status in WorkflowStatus]
                + [(RUNNING, None, None, None, None), (COMPLETED, 2**31 - 1, T0 + 99.25, None, None)]
                + [(RUNNING, 1, None, T0 + 1.5, flag) for flag in Flag]
            )
        ]
        await bench.commit(*(make_start(make_key(number), entry=each) for number, each in enumerate(entries)))
        assert await bench.find_all() == [Found(make_key(n), each) for n, each in reversed(list(enumerate(entries)))]

    @in_bench
    async def test_find_gives_the_last_entry_that_was_written(self, bench: StorageBench) -> None:
        await bench.commit(make_start(entry=Entry(RUNNING, T0, 1, next_wake=T0 + 5)))
        await bench.commit(make_change(KEY, V0, V0 + 1))
        assert await bench.find_ids(status=RUNNING) == ["1"], "an entry stays until it is written again"
        closed = Entry(COMPLETED, T0, closed_at=T0 + 12)
        await bench.commit(make_change(KEY, V0 + 1, V0 + 2, entry=closed))
        assert await bench.find_ids(status=RUNNING) == await bench.find_ids(overdue_at=T0 + 9) == []
        assert await bench.find_all(status=COMPLETED) == [Found(KEY, closed)]

    @in_bench
    async def test_find_says_what_is_wrong_with_a_query(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        for cursor in ("", "x", "{}", "[1]", "é", "null", "AAAA", '["a","b","c"]'):
            with pytest.raises(ValueError):  # noqa: PT011 (what it says is free)
                await bench.within(bench.states.find(Query(cursor=cursor)))

    @in_bench
    async def test_find_takes_the_largest_numbers_that_a_query_may_have(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        assert [each.key for each in (await bench.within(bench.states.find(Query(limit=MAX_LIMIT)))).found] == [KEY]
        assert await bench.find_ids(started_after=-1e308, started_before=1e308) == ["1"]
        assert await bench.find_ids(overdue_at=1e308) == await bench.find_ids(started_after=1e308) == []

    @in_bench
    async def test_find_by_flag(self, bench: StorageBench) -> None:
        for number, flag in enumerate((None, Flag.STALLED, Flag.PARKED, Flag.STALLED)):
            name = "Trip" if number < 3 else "Order"
            await bench.commit(make_start(StateKey(name, f"{number}"), entry=Entry(RUNNING, T0 + number, flag=flag)))
        assert await bench.find_ids(flag=Flag.STALLED) == await bench.find_ids(flag=Flag.STALLED, limit=1) == ["3", "1"]
        assert await bench.find_ids(flag=Flag.STALLED, name="Trip") == ["1"]
        assert await bench.find_ids(flag=Flag.PARKED, status=RUNNING, started_after=T0 + 1) == ["2"]
        assert await bench.find_ids(flag=Flag.PARKED, status=COMPLETED) == []
        stalled, parked = StateKey("Trip", "1"), StateKey("Trip", "2")
        await bench.commit(
            make_change(stalled, V0, V0 + 1), make_change(parked, V0, V0 + 1, entry=Entry(RUNNING, T0 + 2))
        )
        assert await bench.find_ids(flag=Flag.STALLED, name="Trip") == ["1"], "an entry stays until it is written again"
        assert await bench.find_ids(flag=Flag.PARKED) == []
        other = Entry(RUNNING, T0 + 1, flag=Flag.PARKED)
        await bench.commit(make_change(stalled, V0 + 1, V0 + 2, entry=other, expires_at=T0))
        assert await bench.find_all(flag=Flag.PARKED) == [Found(stalled, other)]
        assert await bench.find_ids(flag=Flag.STALLED) == ["3"]
        await bench.purge(T0)
        assert await bench.find_ids(flag=Flag.PARKED) == await bench.find_ids(flag=Flag.PARKED, name="Trip") == []

    @in_bench
    async def test_find_by_the_end_of_instances(self, bench: StorageBench) -> None:
        await bench.commit(
            make_start(StateKey("Trip", "open"), entry=Entry(RUNNING, T0 + 1)),
            *(
                make_start(StateKey("Trip", f"{n}"), entry=Entry(COMPLETED, T0 - n, closed_at=T0 + 10 * n))
                for n in (1, 2, 3)
            ),
            make_start(StateKey("Order", "4"), entry=Entry(COMPLETED, T0 - 4, closed_at=T0 + 20)),
        )
        assert await bench.find_ids(closed_after=T0 + 10) == ["2", "3", "4"], "the ends of ranges are not part of them"
        assert await bench.find_ids(closed_before=T0 + 30) == ["1", "2", "4"], "one that runs has not closed"
        assert await bench.find_ids(closed_after=T0 + 10, closed_before=T0 + 30, limit=1) == ["2", "4"]
        assert await bench.find_ids(closed_after=T0 + 10, closed_before=T0 + 30, name="Trip") == ["2"]
        assert await bench.find_ids(closed_after=T0 + 10, status=RUNNING) == []
        assert await bench.find_ids(closed_before=T0 + 25, started_after=T0 - 4) == ["1", "2"]
        assert await bench.find_ids(closed_after=-1e308, closed_before=1e308) == ["1", "2", "3", "4"]
        await bench.commit(make_change(StateKey("Trip", "1"), V0, V0 + 1, entry=Entry(RUNNING, T0 - 1)))
        assert await bench.find_ids(closed_before=T0 + 15) == [], "it was opened again"

    @in_bench
    async def test_find_by_the_beginning_of_an_id(self, bench: StorageBench) -> None:
        ids = ["", "a", "a\0", "a\0b", "a%", "a_b", "ab", "abc", "aé", "aê", "A", "b", "\U0010ffff", "\U0010ffffx"]
        keys = [StateKey(name, id_) for id_ in ids for name in ("Trip", "Trip\0", "Tri")]
        await bench.commit(*(make_start(key, entry=Entry(RUNNING, T0 + n)) for n, key in enumerate(keys)))
        for prefix in ["", "a", "a\0", "a%", "a_", "ab", "abcd", "aé", "A", "\U0010ffff", "\ud800", "x" * 300]:
            for name in ("Trip", "Trip\0", "Nobody"):
                expected = [key.id for key in reversed(keys) if key.name == name and key.id.startswith(prefix)]
                found = await bench.find_ids(name=name, id_prefix=prefix, limit=3)
                assert found == expected, f"{name!r} {prefix!r}"
                count = await bench.within(bench.states.count(Query(name, id_prefix=prefix)))
                assert count == len(expected), f"{name!r} {prefix!r}"
        assert await bench.find_ids(name="Trip", id_prefix="ab", status=RUNNING, started_after=T0) == ["abc", "ab"]
        assert await bench.find_ids(name="Trip", id_prefix="ab", status=COMPLETED) == []

    @in_bench
    async def test_count_tells_what_find_would_give(self, bench: StorageBench) -> None:
        entries = [
            Entry(status, T0 + n, None, None if status is RUNNING else T0 + n, T0, flag)
            for n, (status, flag) in enumerate(FACTS)
        ]
        await bench.commit(
            *(make_start(StateKey("Trip" if n % 2 else "Order", f"{n}"), entry=e) for n, e in enumerate(entries))
        )
        for query, expected in (
            (Query(), 5),
            (Query(status=RUNNING), 4),
            (Query(name="Trip"), 2),
            (Query("Order", COMPLETED), 1),
            (Query(flag=Flag.STALLED), 2),
            (Query(name="Trip", flag=Flag.STALLED), 1),
            (Query(status=RUNNING, flag=Flag.PARKED), 1),
            (Query(status=COMPLETED, flag=Flag.PARKED), 0),
            (Query(overdue_at=T0 + 1), 4),
            (Query(started_after=T0 + 1, started_before=T0 + 4), 2),
            (Query(started_after=T0 + 1, flag=Flag.STALLED), 1),
            (Query(name="\ud800"), 0),
            (Query(closed_before=T0 + 99), 1),
            (Query(closed_after=T0 + 2, closed_before=T0 + 99), 0),
            (Query(name="Trip", id_prefix="1"), 1),
            (Query(name="Trip", id_prefix="2"), 0),
        ):
            assert await bench.within(bench.states.count(query)) == expected, query
        assert await bench.within(bench.states.count(Query(limit=3))) == 3, "no further than the limit"
        assert await bench.within(bench.states.count(Query(flag=Flag.STALLED, limit=1))) == 1

    @in_bench
    async def test_arguments_that_no_storage_takes_are_refused_at_the_call(self, bench: StorageBench) -> None:
        await bench.commit(make_start())
        states, huge = bench.states, 10**23
        calls: list[Callable[[], Any]] = [
            lambda: states.history(KEY, after=huge),
            lambda: states.history(KEY, limit=huge),
            lambda: states.history(KEY, sequences=[1, huge]),
            lambda: states.commit([Published(KEY, huge)]),
            lambda: states.commit([make_change(KEY, V0, huge)]),
            lambda: states.commit([make_change(KEY, huge, V0)]),
        ]
        for limit in (0, -1, MAX_LIMIT + 1, huge):
            calls += [partial(Query, limit=limit), partial(states.purge, T0, limit)]
        for instant in (float("nan"), float("inf"), 10**400):
            entry = Entry(RUNNING, T0, next_wake=instant)
            changes = [make_start(at=instant), make_start(entry=entry), make_start(expires_at=instant)]
            calls += [partial(states.commit, [each]) for each in changes]
            calls += [partial(Query, None, None, instant), partial(Query, None, None, None, instant)]
            calls += [partial(Query, overdue_at=instant), partial(states.purge, instant)]
            calls += [partial(Query, closed_after=instant), partial(Query, closed_before=instant)]
        calls.append(partial(Query, id_prefix="a"))
        for call in calls:
            with pytest.raises(InvalidArgument):
                await bench.within(_make_entry(call))
        assert (await bench.read())[0] is not None, "nothing was changed, and the connection works on"

    @in_bench
    async def test_find_has_a_cursor_only_if_there_is_more(self, bench: StorageBench) -> None:
        await bench.commit(*(make_start(make_key(number)) for number in range(6)))
        assert (await bench.within(bench.states.find(Query(limit=6)))).cursor is None
        page = await bench.within(bench.states.find(Query(limit=5)))
        assert len(page.found) == 5
        assert page.cursor is not None

    @in_bench
    async def test_sto_11_pages_skip_and_repeat_nothing_that_stayed(self, bench: StorageBench) -> None:
        keys = [StateKey(name, f'"é{number:02}') for number in range(25) for name in ("Trip", "trip ")]
        for first in range(0, 50, 10):  # many with one start, and ids that need escaping
            batch = list(enumerate(keys))[first : first + 10]
            await bench.commit(*(make_start(key, entry=Entry(RUNNING, T0 + n // 20)) for n, key in batch))
        for limit in (1, 7, 49):
            assert sorted((each.key.id, each.key.name) for each in await bench.find_all(limit=limit)) == sorted(
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
                    assert await bench.commit(make_change(key, V0, V0 + 1, expires_at=T0 - 1)) == [Written(V0 + 1)]
                    gone.add(key)
            await bench.purge(T0)
            await bench.commit(
                *(make_start(StateKey("New", f"{turn}-{n}"), entry=Entry(RUNNING, T0 + n)) for n in range(4))
            )
        old = [each for each in found if each.key.name != "New"]
        assert len({each.key for each in found}) == len(found), "repeated"
        assert {each.key for each in old} | gone >= set(keys), "skipped"
        starts = [each.entry.started_at for each in found]
        assert starts == sorted(starts, reverse=True)
