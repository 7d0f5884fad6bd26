"""What is purged, and when, if instances are deleted (S28)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from infinitic.clock import SystemClock
from infinitic.runtime.state_engine.maintenance import Maintenance


class States:
    """Counts purges and searches. Each purge waits until it is let go."""

    def __init__(self) -> None:
        self.began: asyncio.Queue[int] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)
        self.purges = 0
        self.searches = 0

    async def purge(self, now: float, limit: int) -> int:
        self.purges += 1
        self.began.put_nowait(self.purges)
        await self.go.acquire()
        return 0

    async def find(self, query: object) -> Any:
        self.searches += 1
        return SimpleNamespace(found=[], cursor=None)


class Publisher:
    async def publish(self, outgoing: object) -> None:
        pass


async def _run(states: States) -> tuple[Maintenance, asyncio.Task[None]]:
    storage = cast(Any, SimpleNamespace(states=states))
    maintenance = Maintenance({"Trip"}, storage, cast(Any, Publisher()), SystemClock())
    running = asyncio.create_task(maintenance.run())
    await asyncio.sleep(0)
    return maintenance, running


async def _delete_during_a_purge() -> None:
    states = States()
    maintenance, running = await _run(states)
    maintenance.purge_soon()
    assert await states.began.get() == 1
    # The purge that runs may have looked already.
    maintenance.purge_soon()
    states.go.release()
    assert await asyncio.wait_for(states.began.get(), 10) == 2
    states.go.release()
    running.cancel()


async def _delete_three_times() -> int:
    states = States()
    maintenance, running = await _run(states)
    for number in range(1, 4):
        maintenance.purge_soon()
        assert await asyncio.wait_for(states.began.get(), 10) == number
        states.go.release()
        # It comes to its end, and waits again.
        for _ in range(5):
            await asyncio.sleep(0)
    running.cancel()
    return states.searches


def test_S28_what_is_deleted_during_a_purge_is_purged_by_the_next_one() -> None:
    asyncio.run(_delete_during_a_purge())


def test_S28_deleting_wakes_no_instances_that_are_overdue() -> None:
    """Who deletes thousands must not have all that is overdue woken thousands of times."""
    assert asyncio.run(_delete_three_times()) == 0
