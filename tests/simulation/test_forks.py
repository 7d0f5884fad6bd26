"""S12, F6: two workers hold one instance. Only one wins, and the other publishes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import TypeVar

import pytest
from msgspec import Raw

from infinitic import Channel, Workflow, topics
from infinitic.engines import state
from infinitic.messages import commands, engine, events
from infinitic.messages.client import ReplyTo
from infinitic.transport import Message
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.cases import Case, Numbers, by_name
from tests.simulation.invariants import check_nothing_changed, decode_history, read_instances
from tests.simulation.world import World, host_all

T = TypeVar("T")

INLINE = by_name("inline")


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_loser_of_a_commit_publishes_nothing_of_its_own(nth: int) -> None:
    """Both run the step and draw other numbers. Tasks see only those of the winner."""

    async def main() -> None:
        world = World()
        async with world.open():
            counting = Fence()
            solo = world.fenced(counting)
            host_all(solo, INLINE)
            world.start(solo)
            await INLINE.scenario(world.client)
        commits = [number for number, name in enumerate(counting.operations, 1) if name == "commit"]

        world = World()
        async with world.open():
            fence = Fence(commits[nth - 1])
            zombie, other = world.fenced(fence, zombie=True), world.worker()
            host_all(zombie, INLINE)
            world.start(zombie)
            playing = asyncio.create_task(INLINE.scenario(world.client))
            await world.run_until_idle()
            assert fence.operations[-1] == "commit"
            host_all(other, INLINE)
            world.start(other)
            assert await playing is True
            before = read_instances(world.database)
            fence.resume()
            await world.settle()
            check_nothing_changed(before, read_instances(world.database))
            later = fence.operations[commits[nth - 1] - 1 :]
            assert later[:2] == ["commit", "load"], f"it lost, and looks again before it says anything: {later}"
            ((_, segments),) = before.values()
            drawn = [each for each in decode_history(segments) if isinstance(each, commands.RecordInline)]
            assert len(drawn) == 2

    run(main())


class Slow(Workflow):
    go = Channel[int]()

    async def run(self, count: int) -> list[int]:
        receiver = self.go.receive()
        return [await receiver for _ in range(count)]


class Steps(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self, count: int) -> int:
        total = 0
        for _ in range(count):
            total = await self.numbers.add(total, 1)
        return total


STEPS = Case("steps", (Steps,), lambda client: asyncio.sleep(0))
CASE = Case("slow", (Slow,), lambda client: asyncio.sleep(0), ())


def test_an_old_head_in_memory_drops_nothing_that_is_wanted() -> None:
    """A key goes to another worker and comes back. The memory of the first one is old by then.

    In an old head the position of a new task is not open, so its result looks like a repeat.
    """

    async def main() -> None:
        world = World()
        async with world.open():
            workers = [world.worker() for _ in range(3)]
            for worker in workers:
                host_all(worker, STEPS)
                world.start(worker)
            assert await world.client.new_workflow(Steps).run(30) == 30

    run(main())


def test_versions_only_grow() -> None:
    """S12: a transition follows the one before it, also if the clock of a worker is behind."""

    async def main() -> None:
        world = World()
        versions = list[int]()
        async with world.open():
            workers = [world.worker(), world.worker()]
            for worker in workers:
                host_all(worker, CASE)
                world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Slow).run, 5)
            stub = world.client.get_workflow_by_id(Slow, handle.workflow_id)
            for number in range(5):
                await stub.go.send(number)
                await world.run_until_idle()
                (key,) = read_instances(world.database)
                versions.append(world.database.load([key])[key].version)
        assert all(before < after for before, after in pairwise(versions)), versions

    run(main())


def test_what_was_taken_before_is_confirmed_again_and_counts_once() -> None:
    """S13: a duplicate is found by its id in storage, and the one who asks is answered again."""

    async def main() -> None:
        world = World()
        async with world.open():
            first, second = world.worker(), world.worker()
            host_all(first, CASE)
            host_all(second, CASE)
            world.start(first)
            handle = await world.client.dispatch(world.client.new_workflow(Slow).run, 9)
            await world.run_until_idle()
            me = ReplyTo("client", "77")
            signal = engine.encode(
                engine.Signal(made_at=world.clock.now(), signal_id="s", channel="go", value=Raw(b"1"), reply_to=me)
            )
            other = engine.encode(
                engine.Signal(made_at=world.clock.now(), signal_id="o", channel="go", value=Raw(b"2"))
            )
            topic = topics.workflow_engine("Slow")
            again = (topic, Message("s", handle.workflow_id, signal))
            fresh = (topic, Message("o", handle.workflow_id, other))
            await world.deliver_again([again])
            await world.run_until_idle()
            before = read_instances(world.database)
            await world.deliver_again([again])
            await world.run_until_idle()
            check_nothing_changed(before, read_instances(world.database))
            await world.stop()
            world.start(second)
            await world.deliver_again([again, fresh, again])  # one batch: what is new in it is taken
            await world.run_until_idle()
            answers = [message for to, message in world.published if to == topics.client("client")]
            assert len(answers) >= 3
            assert all(b'"applied"' in message.body for message in answers)
            ((head, segments),) = read_instances(world.database).values()
            values = [bytes(each.value) for each in decode_history(segments) if isinstance(each, events.SignalReceived)]
            assert values == [b"1", b"2"]
            assert not state.decode(head).closed

    run(main())


class Stuck(Fence):
    """The first task that is sent is on its way until the power is cut."""

    def __init__(self) -> None:
        super().__init__()
        self._stuck = False

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if operation.startswith("publish service-executor") and not self._stuck:
            self._stuck = True
            await asyncio.get_running_loop().create_future()
        return await super().perform(operation, call)


def test_nobody_notes_that_an_outbox_is_published_before_it_is() -> None:
    """S11, S12: a small cache evicts an instance while its task is sent. Then the power is cut."""

    async def main() -> None:
        world = World()
        async with world.open():
            fence = Stuck()
            victim = world.fenced(fence, cache_size=0)
            host_all(victim, STEPS)
            host = world.start(victim)
            await world.run_until_idle()
            stuck = asyncio.create_task(world.client.new_workflow(Steps).run(1))
            await world.run_until_idle()
            for _ in range(3):  # others go by, evict what they find and take the marks along
                assert await world.client.new_workflow(Steps).run(2) == 2
            assert not stuck.done()
            fence.cut()
            host.cancel()
            world.host(STEPS, host_all)
            assert await stuck == 1

    run(main())
