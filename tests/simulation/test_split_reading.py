"""What waits for code on another worker is read once, however many activations it takes."""

from __future__ import annotations

from infinitic import Channel, Workflow
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.observed import ObservedBroker
from tests.simulation.world import World

KB = 1000


class Store:
    async def keep(self, text: str) -> int:
        return len(text)


class Copy(Workflow):
    store = Workflow.new_service(Store)
    words = Channel[str]()

    async def run(self, count: int) -> int:
        kept = [self.dispatch(self.store.keep, await self.words.receive()) for _ in range(count)]
        return sum([await each for each in kept])


def test_an_executor_reads_what_waits_once() -> None:
    """Each word has as much asked for: a few fit into one activation, and hundreds wait."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=200 * KB))
        async with world.open():
            engine = world.worker()
            engine.add_workflow_state_engine("Copy")
            engine.add_service(Store)
            world.start(engine)
            handle = await world.client.dispatch(world.client.new_workflow(Copy).run, 300)
            stub = world.client.get_workflow_by_id(Copy, handle.workflow_id)
            for _ in range(300):
                await stub.words.send("x" * 15 * KB)
                await world.run_until_idle()
            fence = Fence()
            code = world.fenced(fence)
            code.add_workflow_executor(Copy)
            world.start(code)
            assert await handle.result() == 300 * 15_000
            assert fence.operations.count("history") < 300

    run(main())
