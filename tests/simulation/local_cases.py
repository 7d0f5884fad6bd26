"""A service of local tasks, workflows of them, and what tests look at."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

from infinitic import Workflow, service, task, task_context, topics
from infinitic.messages import events
from infinitic.storage import StateKey
from tests.simulation.cases import Case
from tests.simulation.world import World


def soon(retry_index: int, error: Exception) -> float | None:
    """Try again after 20 ms, twice."""
    return 0.02 if retry_index < 2 else None


def later(retry_index: int, error: Exception) -> float | None:
    """Try again after 10 s, twice."""
    return 10.0 if retry_index < 2 else None


@service(local=True)
class Prices:
    """Local tasks, but for one."""

    ran: ClassVar[Counter[str]] = Counter()
    stopped: ClassVar[Counter[str]] = Counter()

    async def add(self, x: int, y: int) -> int:
        self.ran["add"] += 1
        return x + y

    async def wait(self, x: int, seconds: float) -> int:
        self.ran["wait"] += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.stopped["wait"] += 1
            raise
        return x

    @task(retry=soon)
    async def stumble(self, x: int, times: int) -> int:
        self.ran["stumble"] += 1
        if task_context().retry_index < times:
            raise ValueError(f"attempt {task_context().retry_index} of {x}")
        return x

    @task(retry=later)
    async def fall(self, x: int, times: int) -> int:
        self.ran["fall"] += 1
        if task_context().retry_index < times:
            raise ValueError(f"attempt {task_context().retry_index} of {x}")
        return x

    async def fail(self, x: int) -> int:
        self.ran["fail"] += 1
        raise LookupError(f"no {x}")

    async def grow(self, size: int) -> str:
        self.ran["grow"] += 1
        return "x" * size

    def block(self, x: int) -> int:
        self.ran["block"] += 1
        return x

    @task(local=False)
    async def ordinary(self, x: int) -> int:
        self.ran["ordinary"] += 1
        return x


class Chain(Workflow):
    prices = Workflow.new_service(Prices)
    labelled = Workflow.new_service(Prices, tags={"vip"})

    async def run(self, length: int) -> int:
        total = 0
        for _ in range(length):
            total = await self.prices.add(total, 1)
        return total

    async def wait(self, *seconds: float) -> list[int]:
        return await asyncio.gather(*(self.prices.wait(index, each) for index, each in enumerate(seconds)))

    async def limit(self, seconds: float, limit: float) -> str:
        try:
            async with asyncio.timeout(limit):
                return str(await self.prices.wait(1, seconds))
        except TimeoutError:
            return "late"

    async def stumble(self, times: int) -> int:
        return await self.prices.stumble(7, times)

    async def fall(self, times: int) -> int:
        return await self.prices.fall(7, times)

    async def first(self) -> int:
        slow = self.dispatch(self.prices.wait, 1, 4.0)
        value = await self.prices.add(1, 1)
        slow.cancel()
        return value

    async def grow(self, size: int, times: int) -> int:
        return sum([len(await self.prices.grow(size)) for _ in range(times)])

    async def tagged(self) -> int:
        return await self.labelled.add(1, 1)

    async def mixed(self) -> int:
        total = await self.prices.ordinary(await self.prices.add(1, 1))
        total = await self.prices.wait(total, 0.01)
        return total + await self.dispatch(self.prices.block, 1)

    async def again(self, times: int) -> int:
        left = await self.prices.add(times, -1)
        if left:
            self.continue_as_new(self.again, left)
        return left

    async def beside(self, seconds: float) -> int:
        self.dispatch(self.prices.wait, 1, seconds)
        return await self.prices.add(1, 1)


CHAIN = Case("chain", (Chain,), lambda client: asyncio.sleep(0), (Prices,))


def count_tasks(world: World) -> int:
    """How many messages were sent to the service."""
    name = topics.service_executor("Prices").name
    return sum(topic.name == name for topic, _ in world.published)


def count_reports(world: World) -> int:
    """How many messages were sent to the workflow, by whomever."""
    name = topics.workflow_engine("Chain").name
    return sum(topic.name == name for topic, _ in world.published)


async def read_events(world: World, workflow_id: str) -> list[list[Any]]:
    """Read the history of a workflow, segment by segment."""
    stored = await world.storage.states.history(StateKey("Chain", workflow_id))
    return [events.decode(each.events) for each in stored]


def reset() -> None:
    """Forget what has run."""
    Prices.ran, Prices.stopped = Counter(), Counter()
