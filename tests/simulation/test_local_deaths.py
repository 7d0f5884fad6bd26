"""A local task that kills its process is found out, and costs no more processes than others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

import pytest

from infinitic import TaskFailedError, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import run
from tests.simulation.world import World

CULPRIT = 3


class Crowd:
    """Tasks of a moment. One of them kills its process."""

    ran: ClassVar[Counter[int]] = Counter()

    def __init__(self, fence: Fence | None = None) -> None:
        self._fence = fence

    async def work(self, number: int) -> int:
        self.ran[number] += 1
        await asyncio.sleep(0.01)
        if number == CULPRIT and self._fence is not None:
            self._fence.cut()
            await asyncio.sleep(3600.0)
        return number


class Chain(Workflow):
    crowd = Workflow.new_service(Crowd)

    async def run(self, length: int) -> list[str]:
        found: list[str] = []
        for number in range(length):
            try:
                found.append(str(await self.crowd.work(number)))
            except TaskFailedError as error:
                found.append(error.last_failure.exception.short_name)
        return found


@pytest.mark.parametrize("local", [True, False])
def test_a_task_that_kills_its_process_costs_five_processes(local: bool) -> None:
    Crowd.ran = Counter()
    deaths = 0

    async def main() -> None:
        world = World()

        def arrive() -> None:
            fence = Fence()
            transport = FencedTransport(world.connect(), fence)
            worker = world.worker(transport, FencedStorage(InMemoryStorage(world.database), fence))
            worker.add_service(Crowd(fence), local=local)
            worker.add_workflow(Chain)
            host = world.start(worker)

            def again() -> None:
                nonlocal deaths
                deaths += 1
                host.cancel()
                arrive()

            fence.on_cut(again)

        async with world.open():
            arrive()
            await world.run_until_idle()
            outcome = await world.client.new_workflow(Chain).run(6)
            assert outcome == ["0", "1", "2", "WorkerDied", "4", "5"]
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert Crowd.ran[CULPRIT] == deaths == 5
    assert all(Crowd.ran[number] <= 2 for number in range(6) if number != CULPRIT)
