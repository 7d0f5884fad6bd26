"""S38, S41: a worker that holds too much that fails gives the latest back. Others go on."""

from __future__ import annotations

import asyncio

from infinitic.runtime.lanes import RECEIVE
from infinitic_testing.loop import run
from tests.simulation.versions import ENGINE, Ahead, InboxOne, check_canary, make_message, make_worker, start
from tests.simulation.world import RETENTION, World

BUFFER = 100_000
SMALL = 1_000
LARGE = 300_000


def unacked(world: World) -> int:
    return sum(each.unacked for each in world.broker.overview()[ENGINE.name].values())


def test_what_cannot_be_handled_is_given_back_in_order_and_others_go_on() -> None:
    """It filled the worker, which took nothing more."""
    count, large = 300, 4

    async def main() -> None:
        database = Ahead()
        world = World(database=database)
        async with world.open():
            world.start(make_worker(world, InboxOne))
            await world.run_until_idle()
            keys = await start(world, count)
            await world.stop()
            database.newer = frozenset(keys)
            worker = world.worker(buffer_bytes=BUFFER)
            worker.add_workflow(InboxOne, retention=RETENTION)
            world.start(worker)
            await world.run_until_idle()
            texts = {key: ["a" * (LARGE if at < large else SMALL), "b" * SMALL] for at, key in enumerate(keys)}
            for turn in range(2):
                messages = [make_message(world, key, each[turn]) for key, each in texts.items()]
                await world.transport.publish(ENGINE, messages)
                for _ in range(20):
                    await asyncio.sleep(2.0)
                    # What fails, what is active, and what came with the last receive.
                    assert unacked(world) * SMALL <= 2 * BUFFER + RECEIVE * SMALL
            await check_canary(world)
            database.newer = frozenset()
            async with asyncio.timeout(120.0):
                for key in keys:
                    assert await world.client.get_handle(InboxOne.read, key).result() == texts[key]
            await world.settle()
            assert not world.backlog()

    run(main())
