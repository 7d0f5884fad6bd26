"""An outbox is soon marked as published, also if nothing else is committed."""

from __future__ import annotations

import asyncio

from infinitic import Workflow, topics
from infinitic.storage import StateKey
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.world import World, host_all


class Slow:
    def __init__(self) -> None:
        self.runs = 0

    async def work(self, number: int) -> int:
        self.runs += 1
        await asyncio.sleep(60.0)
        return number


class One(Workflow):
    slow = Workflow.new_service(Slow)

    async def run(self, number: int) -> int:
        return await self.slow.work(number)


TASKS = 30


async def _start_instances(world: World, slow: Slow, cache_size: int) -> list[str]:
    worker = world.worker(cache_size=cache_size)
    host_all(worker, Case("one", (One,), lambda client: asyncio.sleep(0), (lambda: slow,)))
    world.start(worker)
    await world.run_until_idle()
    handles = [await world.client.dispatch(world.client.new_workflow(One).run, number) for number in range(TASKS)]
    await world.run_until_idle()
    return [handle.workflow_id for handle in handles]


def test_evicted_instances_of_a_quiet_system_send_each_task_once() -> None:
    async def main() -> None:
        world, slow = World(), Slow()
        async with world.open():
            started = await _start_instances(world, slow, cache_size=0)
            results = [await world.client.get_handle(One.run, each).result() for each in started]
            assert results == list(range(TASKS))
            sent = [topic for topic, _ in world.published if topic == topics.service_executor("Slow")]
            assert (len(sent), slow.runs) == (TASKS, TASKS)

    run(main())


def test_the_mark_is_written_within_a_second_though_nothing_else_is_committed() -> None:
    async def main() -> None:
        world, slow = World(), Slow()
        async with world.open():
            started = [StateKey("One", each) for each in await _start_instances(world, slow, cache_size=0)]
            await asyncio.sleep(1.0)
            stored = await world.storage.states.load(started)
            assert all(stored[key].published for key in started)
            await world.stop()  # whoever takes over sends nothing again
            await _start_instances(world, slow, cache_size=0)
            for each in started:
                await world.client.get_handle(One.run, each.id).result()
            assert slow.runs == 3 * TASKS, "30, again as their worker was killed, and 30 more"

    run(main())
