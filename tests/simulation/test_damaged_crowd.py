"""Many instances stay damaged for days: trying them again costs little, and no queue grows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from infinitic import Channel, Workflow, topics
from infinitic.storage import StateKey, Stored
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.observed import ObservedDatabase
from tests.simulation.versions import InboxTwo, make_message, make_worker, start
from tests.simulation.world import World, host_all, run_scenario

CROWD = 1500
EACH_MINUTE = CROWD * 60 // 15
"""Tries of all of them: one each in 15 s. One that is alone is tried every 5 s."""


class Bad(ObservedDatabase):
    """Returns damaged heads for some instances, and counts how often each is read."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged = set[str]()
        self.loads = Counter[str]()

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        self.loads.update(key.id for key in keys if key.id in self.damaged)
        found = super().load(keys)
        return {
            key: replace(stored, head=stored.head[:-3]) if key.id in self.damaged else stored
            for key, stored in found.items()
        }


def test_the_more_wait_for_a_repair_the_more_seldom_each_is_tried() -> None:
    database = Bad()

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            world.start(make_worker(world, InboxTwo))
            await world.run_until_idle()
            keys = await start(world, CROWD)
            await world.stop()
            database.damaged = set(keys)
            world.start(make_worker(world, InboxTwo))
            await world.run_until_idle()
            engine = topics.workflow_engine("Inbox")
            for text in ("a", "b"):
                await world.transport.publish(engine, [make_message(world, key, text) for key in keys])
            await asyncio.sleep(120.0)
            database.loads.clear()
            await asyncio.sleep(60.0)
            assert database.loads.total() <= EACH_MINUTE
            database.damaged.clear()
            async with asyncio.timeout(40.0):
                for key in keys:
                    assert await world.client.get_handle(InboxTwo.read, key).result() == ["a", "b"]

    run(main())


class Sleeper(Workflow):
    """Waits for a timer."""

    letters = Channel[str]()

    async def sleep(self) -> str:
        await (self.letters.receive() | self.timer(timedelta(minutes=10)))
        return "awake"


SLEEPER = Case("sleeper", (Sleeper,), lambda client: asyncio.sleep(0), ())


def test_of_the_wakes_for_a_damaged_instance_one_is_kept() -> None:
    """Its timer is overdue, and each hour somebody wakes it."""
    database = Bad()

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Sleeper).sleep)
        await world.run_until_idle()
        await world.stop()
        database.damaged = {handle.workflow_id}
        world.host(SLEEPER, host_all)
        await asyncio.sleep(48 * 3600.0)
        assert world.backlog() == {topics.workflow_engine("Sleeper").name: (0, 1, 0)}
        database.damaged.clear()
        assert await handle.result(timeout=60.0) == "awake"
        assert not world.backlog()

    run_scenario(scenario, SLEEPER, database=database)
