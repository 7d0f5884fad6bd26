"""Two executors ran one activation differently. Only the one whose decision was taken goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from infinitic import Channel, Workflow, topics, workflow
from infinitic.engines import state
from infinitic.messages import events
from infinitic.replay.instance import Instance
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.versions import Told
from infinitic.runtime.workflow_executor import stimuli
from infinitic.runtime.workflow_executor.executor import WorkflowExecutor
from infinitic.transport import Message
from infinitic.worker.hosting import read_version
from infinitic_testing.loop import run
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.observed import ObservedBroker
from tests.simulation.world import World, stop

KB = 1000


@workflow(name="Inbox")
class Inbox(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        return [(await self.letters.receive())[:1] for _ in range(count)]


@workflow(name="Inbox", version=1)
class NextInbox(Inbox):
    pass


@asynccontextmanager
async def run_by_hand(world: World, number: int) -> AsyncGenerator[int]:
    """An executor that gets only what `hand` gives it, under this number."""
    ours = WorkflowExecutor(
        "Inbox",
        {0: read_version(Inbox)},
        Publisher(world.connect()),
        world.storage,
        world.clock,
        concurrency=1,
        bounds=MemoryBounds(),
        retention=None,
        told=Told(),
        version=number,
    )
    await ours.start()
    running = asyncio.create_task(ours.run())
    try:
        yield number
    finally:
        await stop([running])
        await ours.close()


def list_activations(world: World) -> list[Message]:
    return [message for topic, message in world.published if topic == topics.workflow_executor("Inbox")]


async def hand(world: World, number: int, message: Message) -> None:
    await world.deliver_again([(topics.workflow_version("Inbox", number), message)])
    await world.run_until_idle()


def test_who_handed_over_more_than_the_engine_took_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """S12, S16: one executor reads a part of what waits, the other one replays and reads all.

    Neither asks for anything. The decision of the first one is taken. The next activation goes to
    the second one.
    """
    monkeypatch.setattr(stimuli, "BATCH_BYTES", 50 * KB)

    async def main() -> None:
        world = World()
        async with world.open():
            engine = world.worker()
            engine.add_workflow_state_engine("Inbox")
            world.start(engine)
            handle = await world.client.dispatch(world.client.new_workflow(Inbox).read, 10)
            await world.run_until_idle()
            stub = world.client.get_workflow_by_id(Inbox, handle.workflow_id)
            for letter in "abcdefghi":
                await stub.letters.send(letter + 30 * KB * "x")
                await world.run_until_idle()  # a segment for each
            async with run_by_hand(world, 100) as first, run_by_hand(world, 101) as second:
                await hand(world, first, list_activations(world)[-1])
                before = len(list_activations(world))
                await hand(world, first, list_activations(world)[-1])
                assert len(list_activations(world)) == before + 1, "the rest was left to the next activation"
                await hand(world, second, list_activations(world)[-2])  # comes again
                while read_head(world).deciding:
                    await hand(world, second, list_activations(world)[-1])
                await stub.letters.send("j")
                await world.run_until_idle()
                await hand(world, second, list_activations(world)[-1])
            assert await handle.result() == list("abcdefghij")
            ((_, segments),) = read_instances(world.database).values()
            assert any(isinstance(event, events.Partial) for event in decode_history(segments))

    run(main())


def read_head(world: World) -> state.WorkflowHead:
    ((head, _),) = read_instances(world.database).values()
    return state.decode(head)


def list_live(world: World) -> list[Instance]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Instance and not each.loop.dead]


def test_an_instance_whose_version_was_decided_elsewhere_is_closed() -> None:
    """S41: this executor ran the first activation too, with another version, but it was slower."""

    async def main() -> None:
        world = World()
        async with world.open():
            engine, faster = world.worker(), world.worker()
            engine.add_workflow_state_engine("Inbox")
            faster.add_workflow_executor(NextInbox)
            world.start(engine)
            hosts = [world.start(faster)]
            handle = await world.client.dispatch(world.client.new_workflow(Inbox).read, 2)
            await world.run_until_idle()
            await stop(hosts)
            slower = world.worker()
            slower.add_workflow_executor(Inbox)
            world.start(slower)
            await world.run_until_idle()
            await world.deliver_again([(topics.workflow_executor("Inbox"), list_activations(world)[0])])
            await world.run_until_idle()
            assert len(list_live(world)) == 1
            await world.client.get_workflow_by_id(Inbox, handle.workflow_id).letters.send("a")
            await world.run_until_idle()
            assert not list_live(world)

    run(main())


@workflow(name="Large")
class Large(Workflow):
    async def run(self, size: int) -> str:
        text = await self._made(size)
        await asyncio.sleep(60.0)
        return text[:1]

    async def _made(self, size: int) -> str:
        return self.inline(lambda: "x" * size)


def test_what_an_executor_keeps_live_is_bounded_in_bytes() -> None:
    """Each instance keeps its last decision, here 500 KB. So five of them fit into 3 MB."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=1000 * KB))
        async with world.open():
            engine, code = world.worker(), world.worker(cache_bytes=3000 * KB)
            engine.add_workflow_state_engine("Large")
            code.add_workflow_executor(Large)
            world.start(engine)
            world.start(code)
            handles = [await world.client.dispatch(world.client.new_workflow(Large).run, 500 * KB) for _ in range(20)]
            await world.run_until_idle()
            assert 1 <= len(list_live(world)) <= 5
            assert [await each.result() for each in handles] == ["x"] * 20

    run(main())
