"""An instance that lives long keeps nothing of what is over (S19).

One that is gone leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from msgspec import Raw

from infinitic import Channel, Workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.events import MethodStarted
from infinitic.replay.instance import Instance
from tests.replay.harness import Desk, Run, both_ways

TIMES = 500
MADE: list[weakref.ref[object]] = []


class LongLiving(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()

    async def generators(self) -> bool:
        async def words() -> AsyncIterator[str]:
            yield "a"
            yield "b"

        for _ in range(TIMES):
            generator = words()
            MADE.append(weakref.ref(generator))
            async for _word in generator:
                pass
        return await self._few_are_left()

    async def tasks(self) -> bool:
        for _ in range(TIMES):
            task = asyncio.create_task(asyncio.sleep(0))
            MADE.append(weakref.ref(task))
            await task
        return await self._few_are_left()

    async def combinations(self) -> bool:
        """Combinations with a task that is still there when they are long over."""
        long = self.dispatch(self.desk.say, "long", 1000)
        for _ in range(TIMES):
            either = long | (self.words.receive() | self.timer(-1))
            MADE.append(weakref.ref(either))
            await either
        return await self._few_are_left()

    async def races(self) -> bool:
        """Waits that were given up: nothing of them waits for signals any more."""
        for _ in range(TIMES):
            either = self.words.receive() | self.words.receive()
            MADE.append(weakref.ref(either))
            await asyncio.wait([either], timeout=0)
        return await self._few_are_left()

    async def _few_are_left(self) -> bool:
        """How many exactly is another matter each time that the code runs."""
        await self.desk.say("x")
        gc.collect()
        return sum(each() is not None for each in MADE) <= TIMES // 5


async def _few_are_left(run: Run, method: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    MADE.clear()
    assert await run.result(method)


@both_ways(LongLiving)
async def test_generators_that_ended_are_let_go(run: Run) -> None:  # S19
    await _few_are_left(run, run.new(LongLiving).generators)


@both_ways(LongLiving)
async def test_tasks_that_are_done_are_let_go(run: Run) -> None:  # S19
    await _few_are_left(run, run.new(LongLiving).tasks)


@both_ways(LongLiving)
async def test_combinations_that_are_settled_are_let_go(run: Run) -> None:  # S19
    await _few_are_left(run, run.new(LongLiving).combinations)


@both_ways(LongLiving)
async def test_waits_that_were_given_up_are_let_go(run: Run) -> None:  # S19
    await _few_are_left(run, run.new(LongLiving).races)


def test_what_is_closed_can_be_collected() -> None:
    instance = Instance(spec_of(LongLiving), "w1", {})
    instance.activate(1e9, [MethodStarted("w1", "combinations", Raw(b"[]"))])
    gone = weakref.ref(instance)
    instance.close()
    del instance
    gc.collect()
    assert gone() is None
