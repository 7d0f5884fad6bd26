"""An instance whose history alone is above `cache_bytes` is not replayed at each of its steps."""

from __future__ import annotations

import pytest

from infinitic import Workflow
from infinitic_testing.loop import run
from tests.simulation.world import World

KB = 1000
STEPS = 20


class Press:
    async def print(self, size: int) -> str:
        return "x" * size


class Book(Workflow):
    press = Workflow.new_service(Press)
    made = 0

    def __init__(self) -> None:
        Book.made += 1

    async def write(self, size: int) -> int:
        return sum([len(await self.press.print(size)) for _ in range(STEPS)])


@pytest.mark.parametrize("split", [False, True])
def test_it_is_made_once(split: bool) -> None:
    async def main() -> None:
        Book.made = 0
        world = World(is_watched=False)
        async with world.open():
            engine = world.worker(cache_bytes=200 * KB)
            engine.add_service(Press())
            if split:
                engine.add_workflow_state_engine(Book)
                code = world.worker(cache_bytes=200 * KB)
                code.add_workflow_executor(Book)
                world.start(code)
            else:
                engine.add_workflow(Book)
            world.start(engine)
            assert await world.client.new_workflow(Book).write(100 * KB) == STEPS * 100 * KB
        assert Book.made == 1

    run(main())
