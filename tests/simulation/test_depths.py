"""Values that are nested too deep are refused at the call, and never later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from infinitic import (
    Channel,
    PayloadError,
    PayloadTooLargeError,
    TaskFailedError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    task,
)
from infinitic.limits import MAX_VALUE_DEPTH
from infinitic_testing.loop import run
from tests.simulation.world import World

DEEPEST = MAX_VALUE_DEPTH
FAR = 3000
"""Deeper than Python itself follows."""
REFUSED = f"nested deeper than {MAX_VALUE_DEPTH} levels"


def nest(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while value is not None:
        depth, value = depth + 1, next(iter(value), None)
    return depth


@dataclass
class Node:
    below: Node | None = None


class Link(msgspec.Struct):
    below: Link | None = None


class Deep(Exception):
    def __init__(self, levels: int) -> None:
        super().__init__("deep")
        self.levels = nest(levels)


class Digger:
    async def depth(self, value: Any) -> int:
        return depth_of(value)

    async def dig(self, levels: int) -> Any:
        return nest(levels)

    @task(retry=lambda index, error: 0.0 if index < 3 else None)
    async def collapse(self, levels: int) -> None:
        raise Deep(levels)

    @task(retry=lambda index, error: 1e13)
    async def wait_for_ever(self) -> None:
        raise ValueError("no")


class Mine(Workflow):
    digger = Workflow.new_service(Digger)
    words = Channel[Any]()

    async def depth(self, value: Any) -> int:
        return depth_of(value)

    async def climb(self, node: Node) -> int:
        return len(str(node).split("below")) - 1

    async def follow(self, link: Link) -> int:
        return len(str(link).split("below")) - 1

    async def give(self, levels: int) -> Any:
        return nest(levels)

    async def hear(self) -> int:
        return depth_of(await self.words.receive())

    async def ask(self, levels: int) -> int:
        return await self.digger.depth(nest(levels))

    async def careful(self, levels: int) -> str:
        """Catches the refusal, and goes on."""
        try:
            return str(await self.digger.depth(nest(levels)))
        except PayloadTooLargeError as error:
            return f"{error}, {await self.digger.depth([])}"

    async def fetch(self, levels: int) -> int:
        return depth_of(await self.digger.dig(levels))

    async def record(self, levels: int) -> int:
        return depth_of(self.inline(nest, levels))

    async def collapse(self, levels: int) -> None:
        await self.digger.collapse(levels)

    async def wait_for_ever(self) -> None:
        await self.digger.wait_for_ever()


def run_digger(split: bool, cache_size: int, scenario: Any) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker(cache_size=cache_size)
            worker.add_service(Digger())
            if split:
                worker.add_workflow_state_engine("Mine")
                other = world.worker(cache_size=cache_size)
                other.add_workflow_executor(Mine)
                world.start(other)
            else:
                worker.add_workflow(Mine)
            world.start(worker)
            await world.run_until_idle()
            async with asyncio.timeout(3600.0):
                await scenario(world)
            assert not any(topic.startswith("dlq:") for topic in world.backlog())

    run(main())


BOTH = pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
CACHES = pytest.mark.parametrize("cache_size", [0, 1000], ids=["replayed", "live"])


@BOTH
@CACHES
def test_values_at_the_limit_arrive(split: bool, cache_size: int) -> None:
    async def scenario(world: World) -> None:
        mine = world.client.new_workflow(Mine)
        assert await mine.depth(nest(DEEPEST - 1)) == DEEPEST - 1, "an array is around the arguments"
        assert depth_of(await mine.give(DEEPEST)) == DEEPEST
        assert await mine.ask(DEEPEST - 1) == DEEPEST - 1
        assert await mine.fetch(DEEPEST) == DEEPEST
        assert await mine.record(DEEPEST) == DEEPEST
        handle = await world.client.dispatch(mine.hear)
        await world.client.get_workflow_by_id(Mine, handle.workflow_id).words.send(nest(DEEPEST))
        assert await handle.result() == DEEPEST

    run_digger(split, cache_size, scenario)


@BOTH
@CACHES
def test_values_beyond_the_limit_are_refused_where_they_are_given(split: bool, cache_size: int) -> None:
    async def scenario(world: World) -> None:
        mine = world.client.new_workflow(Mine)
        for levels in (DEEPEST, FAR):
            with pytest.raises(PayloadError, match=REFUSED):
                await mine.depth(nest(levels))
        for refused in (
            mine.give(DEEPEST + 1),
            mine.ask(DEEPEST),
            mine.fetch(DEEPEST + 1),
            mine.record(DEEPEST + 1),
            mine.give(FAR),
            mine.ask(FAR),
            mine.fetch(FAR),
            mine.record(FAR),
        ):
            with pytest.raises(WorkflowFailedError, match=REFUSED):
                await refused
        told = await mine.careful(DEEPEST)
        assert REFUSED in told
        assert told.endswith(", 1")
        handle = await world.client.dispatch(mine.hear)
        channel = world.client.get_workflow_by_id(Mine, handle.workflow_id).words
        for levels in (DEEPEST + 1, FAR):
            with pytest.raises(PayloadError, match=REFUSED):
                await channel.send(nest(levels))
        await channel.send([])
        assert await handle.result() == 1

    run_digger(split, cache_size, scenario)


@pytest.mark.parametrize("kind", [Node, Link])
def test_objects_that_hold_their_like_are_counted_as_lists_are(kind: Any) -> None:
    def chain(count: int) -> Any:
        last = None
        for _ in range(count):
            last = kind(last)
        return last

    async def scenario(world: World) -> None:
        mine = world.client.new_workflow(Mine)
        follow: Any = mine.climb if kind is Node else mine.follow
        assert await follow(chain(DEEPEST - 1)) == DEEPEST - 1
        for count in (DEEPEST, FAR):
            with pytest.raises(PayloadError) as caught:
                await follow(chain(count))
            assert count == FAR or REFUSED in str(caught.value)

    run_digger(False, 1000, scenario)


@BOTH
def test_a_failure_with_deep_attributes_is_told_without_them(split: bool) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(WorkflowFailedError) as caught:
            await world.client.new_workflow(Mine).collapse(600)
        assert isinstance(caught.value.cause, TaskFailedError)
        assert "levels" not in caught.value.cause.last_failure.exception.attributes

    run_digger(split, 1000, scenario)


def test_a_retry_policy_that_waits_for_longer_than_can_be_said_fails_its_task() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(WorkflowFailedError, match="no number of seconds up to"):
            await world.client.new_workflow(Mine).wait_for_ever()

    run_digger(False, 1000, scenario)


@pytest.mark.parametrize("meta", [{"k": "text"}, {1: b"x"}, {"\ud800": b"x"}])
def test_meta_that_cannot_be_sent_is_refused_at_the_call(meta: Any) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            with pytest.raises(UsageError, match="meta"):
                world.client.new_workflow(Mine, meta=meta)

    run(main())
