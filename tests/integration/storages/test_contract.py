"""What the port promises, on each database; the in-memory storage is the reference for the rest."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable

import pytest

from infinitic.storage import (
    Change,
    Entry,
    Known,
    Lost,
    Published,
    Query,
    Refused,
    Segment,
    StateKey,
    StateStorage,
    StorageClosed,
    Stored,
    ValueTooLarge,
    WorkflowStatus,
    Written,
)
from tests.integration.storages.databases import HORIZON, Place

MEGABYTE = bytes(range(256)) * 4096


def use(place: Place, scenario: Callable[[StateStorage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with place.storage() as storage:
            await storage.prepare()
            await scenario(storage.states)

    asyncio.run(run())


def change(
    key: StateKey, expected: int | None, version: int, *, at: float = 1.0, marks: tuple[str, ...] = ()
) -> Change:
    return Change(key, expected, version, b"head", at, marks=marks)


def test_exact_bytes(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        values = [b"", b"\0", b"a\0b\\'\"%s\n\xff", MEGABYTE]
        changes = [
            Change(StateKey(name, str(index)), None, 1, value, 1.0, Segment(1, value, value))
            for index, value in enumerate(values)
        ]
        assert await states.commit(changes) == [Written(1)] * 4
        loaded = await states.load([each.key for each in changes])
        for each, value in zip(changes, values, strict=True):
            assert loaded[each.key] == Stored(1, value, 1, False)
            assert await states.history(each.key, outbox=True) == [Segment(1, value, value)]
            assert await states.history(each.key) == [Segment(1, value)]
        again = [
            Change(each.key, 1, 2, value, 1.0, Segment(2, value)) for each, value in zip(changes, values, strict=True)
        ]
        assert await states.commit(again) == [Written(2)] * 4
        assert await states.history(StateKey(name, "3"), after=1, outbox=True) == [Segment(2, MEGABYTE)]

    use(shared, scenario)


def test_keys_of_any_unicode(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        spellings = ["a", "A", "a ", " a", "a\0", "\0a", "", "é", unicodedata.normalize("NFD", "é"), "😀", "x" * 255]
        keys = [StateKey(name + left, right) for left in spellings[:-1] for right in spellings]
        keys += [StateKey("\0" * 255, "\0" * 255), StateKey(name + "a", "\0b"), StateKey(name + "a\0", "b")]
        changes = [Change(key, None, index + 1, str(index).encode(), 1.0) for index, key in enumerate(keys)]
        assert await states.commit(changes) == [Written(each.version) for each in changes]
        loaded = await states.load(keys)
        assert {key: stored.version for key, stored in loaded.items()} == {each.key: each.version for each in changes}
        for bad in (StateKey(name, "é" * 128), StateKey(name + "x" * 255, ""), StateKey(name, "\ud800")):
            assert isinstance((await states.commit([change(bad, None, 1)]))[0], Refused)
            assert await states.commit([change(bad, 1, 2)]) == [Lost(None)]
            assert await states.load([bad]) == {}
            assert await states.history(bad) == []

    use(shared, scenario)


def test_marks_of_any_unicode_and_length(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        marks = ("m", "M", "m ", "m\0", "", "é", unicodedata.normalize("NFD", "é"), "x" * 5000, "x" * 5001)
        key = StateKey(name, "k")
        assert await states.commit([change(key, None, 1, marks=marks)]) == [Written(1)]
        for mark in marks:
            assert await states.commit([change(key, 1, 2, marks=("new", mark))]) == [Known((mark,))]
        assert await states.commit([change(key, 1, 2, marks=("new", "new"))]) == [Written(2)]
        assert await states.commit([change(key, 2, 3, marks=("q", *reversed(marks)))]) == [Known(marks[::-1])]

    use(shared, scenario)


def test_what_is_too_large_writes_nothing(shared: Place, name: str) -> None:
    async def run() -> None:
        async with shared.storage(max_value=2000) as storage:
            await storage.prepare()
            assert storage.capabilities.max_value == 2000
            fine = change(StateKey(name, "a"), None, 1)
            for large in (
                Change(StateKey(name, "b"), None, 1, b"x" * 2001, 1.0),
                Change(StateKey(name, "b"), None, 1, b"", 1.0, Segment(1, b"x" * 2001)),
                Change(StateKey(name, "b"), None, 1, b"", 1.0, Segment(1, b"", b"x" * 2001)),
            ):
                with pytest.raises(ValueTooLarge, match="2,001"):
                    await storage.states.commit([fine, large])
            with pytest.raises(ValueError, match="distinct"):
                await storage.states.commit([fine, Published(fine.key, 1)])
            assert await storage.states.load([fine.key]) == {}
            assert await storage.states.commit([]) == []

    asyncio.run(run())


def test_the_largest_value_is_taken(shared: Place, name: str) -> None:
    async def run() -> None:
        async with shared.storage(max_value=8 * 1024 * 1024) as storage:
            await storage.prepare()
            value = b"\0'\\\xff" * (storage.capabilities.max_value // 4)
            key = StateKey(name, "a")
            changes = [Change(StateKey(name, each), None, 1, value, 1.0, Segment(1, value, value)) for each in "ab"]
            assert await storage.states.commit(changes) == [Written(1)] * 2
            assert (await storage.states.load([key]))[key].head == value
            assert await storage.states.history(key, outbox=True) == [Segment(1, value, value)]

    asyncio.run(run())


def test_history(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        key = StateKey(name, "k")
        for number in range(1, 8):
            segment = Segment(number, b"%d" % number)
            await states.commit([Change(key, number - 1 or None, number, b"", 1.0, segment)])

        def numbers(segments: list[Segment]) -> list[int]:
            return [each.sequence for each in segments]

        assert numbers(await states.history(key)) == [1, 2, 3, 4, 5, 6, 7]
        assert numbers(await states.history(key, after=5)) == [6, 7]
        assert numbers(await states.history(key, after=-5, limit=2)) == [1, 2]
        assert numbers(await states.history(key, limit=0)) == []
        assert numbers(await states.history(key, sequences=[7, 2, 2, 9, 0], limit=1)) == [2, 7]
        assert numbers(await states.history(key, sequences=[])) == []
        assert await states.history(StateKey(name, "other")) == []

    use(shared, scenario)


def test_pages_of_find(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        status = list(WorkflowStatus)
        entries = {
            StateKey(name, f"{index:02}"): Entry(status[index % 3], float(index // 4), index, None, float(index))
            for index in range(25)
        }
        changes = [Change(key, None, 1, b"", 1.0, entry=entry) for key, entry in entries.items()]
        await states.commit([*changes, Change(StateKey(name, "no entry"), None, 1, b"", 1.0)])
        expected = sorted(entries, key=lambda key: (entries[key].started_at, key.id), reverse=True)
        for size in (1, 4, 25, 26):
            found: list[StateKey] = []
            cursor = None
            while True:
                page = await states.find(Query(name=name, limit=size, cursor=cursor))
                found += [each.key for each in page.found]
                assert all(each.entry == entries[each.key] for each in page.found)
                cursor = page.cursor
                if cursor is None:
                    break
                assert len(page.found) == size
            assert found == expected
        for query in (
            Query(name=name, status=WorkflowStatus.FAILED),
            Query(name=name, started_after=1.0, started_before=4.0),
            Query(name=name, overdue_at=9.0),
        ):
            matching = [each.key for each in (await states.find(query)).found]
            assert matching == [
                key
                for key in expected
                if (query.status is None or entries[key].status is query.status)
                and (query.started_after is None or 1.0 < entries[key].started_at < 4.0)
                and (
                    query.overdue_at is None
                    or (entries[key].status is WorkflowStatus.RUNNING and (entries[key].next_wake or 0) < 9.0)
                )
            ]
        assert (await states.find(Query(name=name[:-1]))).found == []
        for bad in (Query(limit=0), Query(cursor="?"), Query(cursor="[1]")):
            with pytest.raises(ValueError, match=r"limit|cursor"):
                await states.find(bad)

    use(shared, scenario)


def test_a_million_marks_do_not_expire_early(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        key = StateKey(name, "k")
        await states.commit([change(key, None, 1, at=5e6, marks=("old",))])
        await states.commit([change(key, 1, 2, at=5e6 + 0.1, marks=("a", "b", "c"))])
        while await states.purge(5e6 + HORIZON - 0.001, 2) == 2:
            pass
        assert await states.commit([change(key, 2, 3, marks=("old",))]) == [Known(("old",))]
        assert await states.purge(5e6 + HORIZON, 2) == 1
        assert await states.commit([change(key, 2, 3, at=5e6 + 0.1, marks=("old",))]) == [Written(3)]
        assert await states.purge(5e6 + 0.1 + HORIZON, 3) == 3
        assert await states.purge(5e6 + 0.1 + HORIZON, 3) == 1

    use(shared, scenario)


def test_after_close(shared: Place) -> None:
    async def run() -> None:
        storage = shared.storage()
        await storage.prepare()
        await asyncio.gather(storage.close(), storage.close())
        await storage.close()
        for call in (storage.prepare, lambda: storage.states.load([]), lambda: storage.states.purge(1.0)):
            with pytest.raises(StorageClosed):
                await call()

    asyncio.run(run())
