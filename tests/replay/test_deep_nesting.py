"""A thousand parts joined by `|` or `&` are nested a thousand deep (S22)."""

from __future__ import annotations

import functools
from typing import Any

from infinitic import Channel, Deferred, Workflow
from tests.replay.harness import Desk, Run, both_ways

MANY = 1000


def either_of(parts: list[Any]) -> Deferred[Any]:
    return functools.reduce(lambda one, two: one | two, parts)


def all_together(parts: list[Any]) -> Deferred[Any]:
    return functools.reduce(lambda one, two: one & two, parts)


class Deep(Workflow):
    desk = Workflow.new_service(Desk)
    left = Channel[str]()
    right = Channel[str]()

    async def tasks(self) -> list[str]:
        words = [self.dispatch(self.desk.say, str(index), 1 + index // 250) for index in range(MANY)]
        either, both = either_of(words), all_together(words)
        first = await either
        await both
        return [first, str(both.status())]

    async def cancelled(self) -> list[str]:
        words = [self.dispatch(self.desk.say, str(index), 5000) for index in range(MANY)]
        either_of(words).cancel()
        return sorted({str(each.status()) for each in words})

    async def receivers(self) -> list[str]:
        """With a receiver at the very bottom."""
        bottom = self.left.receive()
        said = [self.dispatch(self.desk.say, str(index), 5 + index // 500) for index in range(MANY)]
        first = await either_of([bottom, *said])
        second = await either_of([bottom, *(self.right.receive() for _ in range(MANY))])
        every: Any = await all_together([bottom, *(self.right.receive() for _ in range(20))])
        words = list[str]()
        for _ in range(20):
            words.append(every[1])
            every = every[0]
        return [first, second, every, *reversed(words)]


@both_ways(Deep)
async def test_a_thousand_tasks(run: Run) -> None:  # S22
    assert await run.result(run.new(Deep).tasks) == ["0", "completed"]


@both_ways(Deep)
async def test_cancelling_a_thousand_tasks(run: Run) -> None:  # S22, S25
    assert await run.result(run.new(Deep).cancelled) == ["canceled"]


@both_ways(Deep)
async def test_a_thousand_receivers(run: Run) -> None:  # S22, S23
    handle = await run.start(run.new(Deep).receivers)
    await run.sim.sleep(10)
    await run.on(Deep).left.send("a")
    await run.sim.sleep(1)
    for index in range(20):
        await run.on(Deep).right.send(str(index))
    await run.on(Deep).left.send("b")
    assert await handle.result() == ["0", "a", "b", *map(str, range(20))]
