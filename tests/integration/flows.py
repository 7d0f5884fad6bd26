"""A workflow to kill in the middle."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow


class Steps:
    """Tasks that take a little."""

    async def add(self, x: int, y: int) -> int:
        await asyncio.sleep(0.02)
        return x + y


class Climb(Workflow):
    """Tasks one after another, in parallel, and a timer."""

    steps = Workflow.new_service(Steps)

    async def run(self, start: int) -> int:
        total = start
        for step in range(4):
            total = await self.steps.add(total, step)
        await asyncio.sleep(0.5)
        return sum(await asyncio.gather(*(self.steps.add(total, each) for each in range(5))))


def expected(start: int) -> int:
    """What `Climb.run` returns."""
    return 5 * (start + 6) + 10


class Heavy:
    """Gives much."""

    async def give(self, size: int) -> str:
        return "x" * size


class Hoard(Workflow):
    """Keeps what it was given until it is told to go on."""

    heavy = Workflow.new_service(Heavy)
    go = Channel[bool]()

    async def run(self, size: int) -> int:
        given = await self.heavy.give(size)
        await self.go.receive()
        return len(given)
