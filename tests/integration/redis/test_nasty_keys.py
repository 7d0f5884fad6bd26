"""Keys and deduplication ids that an encoding could confuse: Redis answers as memory does."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from infinitic.storage import Change, Entry, Found, Lost, Published, Query, Segment, StateKey, WorkflowStatus, Written
from infinitic_storages.memory import InMemoryStorage
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.integration.redis.conftest import PATIENCE

DEDUPLICATION_WINDOW = 50.0
PARTS = ["a", "A", "a ", "a\0", "a\0\0", "\0", "", "a:b", "a|b", "é", "e\N{COMBINING ACUTE ACCENT}", "\x01", "z" * 255]
REFUSED = ["z" * 256, "é" * 128, "\ud800"]
VALUES = [b"", b"\0", b"head", bytes(range(256)), b"\r\n$5\r\n"]
MARKS = ["m", "M", "m\0", "", "ü", "n" * 600, "\ud800"]
STARTS = [1.0, 2.0, 0.1, 1e9 / 3]


class Twins:
    """Two storages that are asked the same."""

    def __init__(self, settings: RedisSettings, seed: int) -> None:
        self.random = Random(seed)
        self.redis = RedisStorage(settings, deduplication_window=DEDUPLICATION_WINDOW)
        self.memory = InMemoryStorage(deduplication_window=DEDUPLICATION_WINDOW)
        self.versions: dict[StateKey, tuple[int, int]] = {}
        self.now = 0.0

    async def ask(self, verb: str, *arguments: Any, **options: Any) -> Any:
        expected = await getattr(self.memory.states, verb)(*arguments, **options)
        answer = await getattr(self.redis.states, verb)(*arguments, **options)
        assert answer == expected, (verb, arguments, options)
        return answer

    def key(self) -> StateKey:
        parts = PARTS if self.random.random() < 0.98 else REFUSED
        return StateKey(self.random.choice(parts), self.random.choice(PARTS))

    def entry(self) -> Entry | None:
        draw = self.random
        if draw.random() < 0.4:
            return None
        wake = draw.choice([None, self.now, self.now + 5.5])
        return Entry(draw.choice(list(WorkflowStatus)), draw.choice(STARTS), draw.choice([None, 3]), None, wake)

    def change(self, key: StateKey) -> Change | Published:
        draw = self.random
        version, sequence = self.versions.get(key, (None, 0))
        if version is not None and draw.random() < 0.1:
            return Published(key, version - draw.choice([0, 0, 1]))
        expected = version if draw.random() < 0.9 else draw.choice([None, 0, 1, 2**60])
        segment = None
        if draw.random() < 0.7:
            number = sequence + 1 if draw.random() < 0.95 else draw.choice([0, sequence, sequence + 2])
            segment = Segment(number, draw.choice(VALUES), draw.choice([None, *VALUES]))
        return Change(
            key,
            expected,
            (expected or 0) + draw.choice([1, 1, 1, 2**54, 0]),
            draw.choice(VALUES),
            self.now,
            segment,
            tuple(draw.sample(MARKS, draw.choice([0, 0, 0, 1, 2]))),
            draw.random() < 0.2,
            self.entry(),
            draw.choice([None, None, self.now + 10.0, self.now + 0.1]),
        )

    async def step(self) -> None:
        draw = self.random
        self.now += draw.choice([0.0, 0.5, 1.5])
        keys = list(dict.fromkeys(self.key() for _ in range(draw.randint(1, 6))))
        await self.ask("commit", [self.change(key) for key in keys])
        for key, stored in (await self.ask("load", keys)).items():
            self.versions[key] = (stored.version, stored.sequence)
        await self.ask("history", keys[0], outbox=draw.random() < 0.5)
        await self.ask("history", keys[0], after=draw.randint(-1, 4), limit=draw.randint(0, 3), outbox=True)
        await self.ask("history", keys[0], sequences=[draw.randint(-1, 6) for _ in range(4)])
        if draw.random() < 0.2:
            await self.find()
        if draw.random() < 0.1:
            await self.ask("purge", self.now, 1000)

    async def find(self) -> None:
        draw = self.random
        query = Query(
            name=draw.choice([None, *PARTS, "\ud800"]),
            status=draw.choice([None, *WorkflowStatus]),
            started_after=draw.choice([None, None, 1.0, 0.1]),
            started_before=draw.choice([None, None, 2.0, 1e9 / 3]),
            overdue_at=draw.choice([None, None, self.now + 1.0]),
            limit=draw.choice([1, 2, 3, 100]),
        )
        page = await self.ask("find", query)
        while page.cursor is not None:
            page = await self.ask("find", replace(query, cursor=page.cursor))


@pytest.mark.parametrize("seed", range(6))
def test_both_answer_the_same(settings: RedisSettings, seed: int) -> None:
    async def play() -> None:
        twins = Twins(settings, seed)
        async with asyncio.timeout(PATIENCE), twins.redis:
            await twins.redis.prepare()
            for _ in range(250):
                await twins.step()
            twins.now += 1000.0
            while await twins.ask("purge", twins.now, 100_000):  # remnants and deduplication ids as well
                twins.now += 1000.0

    asyncio.run(play())


async def read_all(storage: RedisStorage, query: Query) -> list[list[Found]]:
    pages = [await storage.states.find(query)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await storage.states.find(replace(query, cursor=cursor)))
    return [page.found for page in pages]


def test_a_page_skips_and_repeats_nothing_that_stayed(settings: RedisSettings) -> None:
    """All have one start.

    Half of a page is removed before the next one, the instance of the cursor too.
    """

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            states = storage.states
            keys = [StateKey("Trip", f"{number:04}") for number in range(700)]
            entry = Entry(WorkflowStatus.RUNNING, 5.0)
            await states.commit([Change(key, None, 1, b"", 0.0, entry=entry) for key in keys])
            query = Query(limit=90, name="Trip", status=WorkflowStatus.RUNNING)
            page, ids = await states.find(query), list[str]()
            while page.cursor is not None:
                ids += [each.key.id for each in page.found]
                gone = [each.key for each in page.found if int(each.key.id) % 2 == 0]
                await states.commit([Change(key, 1, 2, b"", 0.0, expires_at=0.0) for key in gone])
                assert await states.purge(0.0) == len(gone)
                page = await states.find(replace(query, cursor=page.cursor))
            ids += [each.key.id for each in page.found]
            assert ids == [key.id for key in reversed(keys)]

    asyncio.run(play())


def test_many_overdue_ones_are_paged_newest_first(settings: RedisSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinitic_storages.redis.find.FEW", 20)
    monkeypatch.setattr("infinitic_storages.redis.find.STEP", 10)

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            for number in range(100):
                entry = Entry(WorkflowStatus.RUNNING, float(number), next_wake=float(number % 2))
                await storage.states.commit([Change(StateKey("Trip", str(number)), None, 1, b"", 0.0, entry=entry)])
            pages = await read_all(storage, Query(overdue_at=1.0, limit=7))
            assert [each.key.id for page in pages for each in page] == [str(n) for n in range(98, -1, -2)]

    asyncio.run(play())


def test_a_long_history_is_read_whole(settings: RedisSettings) -> None:
    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            key = StateKey("Trip", "1")
            for version in range(1, 1502):
                segment = Segment(version, b"%d" % version, b"out")
                await storage.states.commit([Change(key, version - 1 or None, version, b"", 0.0, segment)])
            assert len(await storage.states.history(key)) == 1000
            assert [s.sequence for s in await storage.states.history(key, after=999)] == list(range(1000, 1502))
            assert len(await storage.states.history(key, sequences=range(1, 9000), outbox=True)) == 1501

    asyncio.run(play())


def test_nothing_of_a_purged_instance_is_found_in_the_next_of_its_key(settings: RedisSettings) -> None:
    async def play() -> None:
        async with (
            asyncio.timeout(PATIENCE),
            RedisStorage(settings, deduplication_window=DEDUPLICATION_WINDOW) as storage,
        ):
            key, states = StateKey("Trip", "1"), storage.states
            old = Change(key, None, 1, b"old", 0.0, Segment(1, b"old", b"old"), entry=Entry(WorkflowStatus.FAILED, 1.0))
            await states.commit([replace(old, expires_at=1.0)])
            assert await states.purge(1.0) == 1
            assert await states.commit([Change(key, None, 2, b"new", 2.0)]) == [Lost(1)]
            assert await states.purge(1.0 + DEDUPLICATION_WINDOW) == 0
            assert await states.commit([Change(key, None, 2, b"new", 2.0, Segment(1, b"new"))]) == [Written(2)]
            assert await states.history(key, outbox=True) == [Segment(1, b"new")]
            assert (await states.find(Query())).found == []

    asyncio.run(play())
