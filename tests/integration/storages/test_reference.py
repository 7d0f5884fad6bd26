"""Random calls: every answer is that of the in-memory storage."""

from __future__ import annotations

import asyncio
import random

import pytest

from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Lost,
    Outcome,
    Published,
    Query,
    Refused,
    Segment,
    StateKey,
    WorkflowStatus,
    Written,
)
from infinitic_storages.memory import InMemoryStorage
from tests.integration.storages.databases import Place


@pytest.mark.parametrize("seed", range(6))
def test_does_what_the_reference_does(empty: Place, seed: int) -> None:
    """Random changes, purges and queries: every answer is that of the in-memory storage."""
    draw = random.Random(seed)
    keys = [StateKey(name, id_) for name in ("a", "a\0", "b") for id_ in ("", "1", "\0")]
    versions = dict.fromkeys(keys, 0)
    segments = dict.fromkeys(keys, 0)

    def drawn(key: StateKey, now: float) -> Change | Published:
        current = versions[key] or None
        if draw.random() < 0.15:
            return Published(key, draw.choice([versions[key], 3]))
        expected = current if draw.random() < 0.8 else draw.choice([None, 1, current])
        following = segments[key] + 1 if draw.random() < 0.95 else 7
        running = draw.random() < 0.7
        return Change(
            key,
            expected,
            int(now * 10) if draw.random() < 0.95 else 1,
            b"%f" % now,
            now,
            Segment(following, b"e%f" % now, draw.choice([None, b"", b"o"])) if draw.random() < 0.7 else None,
            tuple(draw.sample("mnopqrstuvw", draw.choice([0, 0, 1, 2]))),
            draw.random() < 0.3,
            Entry(draw.choice(list(WorkflowStatus)), now, draw.choice([None, 4]), draw.choice([None, now]), now + 9)
            if draw.random() < 0.4
            else None,
            None if running else now + draw.choice([0.0, 50.0]),
        )

    async def run() -> None:
        seen: set[type[Outcome]] = set()
        async with (
            empty.storage(deduplication_window=40.0) as tested,
            InMemoryStorage(deduplication_window=40.0) as reference,
        ):
            await tested.prepare()
            for turn in range(150):
                now = 100.0 + turn
                batch = [drawn(key, now) for key in draw.sample(keys, draw.randint(1, len(keys)))]
                outcomes = await reference.states.commit(batch)
                assert await tested.states.commit(batch) == outcomes
                seen.update(map(type, outcomes))
                if turn % 10 == 9:
                    assert await tested.states.purge(now) == await reference.states.purge(now)
                loaded = await reference.states.load(keys)
                assert await tested.states.load(keys) == loaded
                query = Query(limit=5, overdue_at=draw.choice([None, now]), name=draw.choice([None, "a"]))
                assert await tested.states.find(query) == await reference.states.find(query)
                key = draw.choice(keys)
                assert await tested.states.history(key, outbox=True) == await reference.states.history(key, outbox=True)
                for each in keys:
                    stored = loaded.get(each)
                    versions[each] = stored.version if stored else 0
                    segments[each] = stored.sequence if stored else 0
        assert seen == {Written, Lost, Duplicate, Refused}

    asyncio.run(run())
