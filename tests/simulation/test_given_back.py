"""S38, S41: a worker that holds too much that fails gives the latest back. Others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import PREFETCH, RECEIVE, Lanes
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.faulty import Outage
from tests.simulation.versions import (
    ENGINE,
    Ahead,
    InboxOne,
    InboxTwo,
    check_canary,
    make_message,
    make_worker,
    start,
)
from tests.simulation.world import RETENTION, World

BUFFER = 100_000
SMALL = 1_000
LARGE = 300_000


def count_unacked(world: World) -> int:
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
                    assert count_unacked(world) * SMALL <= 2 * BUFFER + RECEIVE * SMALL
            await check_canary(world)
            database.newer = frozenset()
            async with asyncio.timeout(120.0):
                for key in keys:
                    assert await world.client.get_handle(InboxOne.read, key).result() == texts[key]
            await world.settle()
            assert not world.backlog()

    run(main())


def test_an_outage_that_ends_while_only_such_messages_are_in_hand_stops_nothing() -> None:
    """None of them succeeds, so the worker thought that the outage goes on."""

    async def main() -> None:
        database, outage = Ahead(), Outage()
        world = World(database=database)
        async with world.open():
            world.start(make_worker(world, InboxOne))
            await world.run_until_idle()
            first, *others = await start(world, 3)
            await world.stop()
            database.newer = frozenset((first, *others))
            worker = world.fenced(outage, buffer_bytes=BUFFER)
            worker.add_workflow(InboxOne, InboxTwo, retention=RETENTION)
            world.start(worker)
            await world.run_until_idle()
            await world.transport.publish(ENGINE, [make_message(world, first, "a" * (BUFFER - SMALL))])
            await asyncio.sleep(5.0)
            outage.down = {"storage"}
            for key in others:
                await world.transport.publish(ENGINE, [make_message(world, key, "b" * (BUFFER - SMALL))])
                await asyncio.sleep(10.0)
            outage.down = set()
            await asyncio.sleep(60.0)
            await check_canary(world)

    run(main())


def test_how_a_message_fared_is_not_held_against_a_later_one_of_its_key() -> None:
    """Another worker settled it. The instance of the later one must not be parked untried."""

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            publisher = Publisher(world.transport)
            subscription = Subscription(publisher, ENGINE, PREFETCH)
            await subscription.join()
            seen: list[tuple[bytes, int, float, bool]] = []
            nearly_exhausted = asyncio.Event()

            async def fail(lanes: Sequence[Lane]) -> None:
                for lane in lanes:
                    now = world.clock.now()
                    seen.append((lane.waiting[0].message.body, lane.tries, lane.spent, lane.is_exhausted(now)))
                    if lane.spent >= 50.0:
                        nearly_exhausted.set()
                    lane.fail(ValueError("cannot be handled"), now, counted=True)

            running = asyncio.create_task(Lanes(subscription, fail, world.clock, 10, max_bytes=1).run())
            await world.transport.publish(ENGINE, [Message("key", "key", b"1")])
            await nearly_exhausted.wait()
            other = await world.transport.subscribe(ENGINE, ENGINE.subscription or "", 10)
            await other.ack(await other.receive(1))
            await other.close()
            await world.transport.publish(ENGINE, [Message("key", "key", b"2")])
            await world.run_until_idle()
            assert seen[-1] == (b"2", 0, 0.0, False)
            running.cancel()
            await asyncio.wait([running])
            await subscription.close()

    run(main())
