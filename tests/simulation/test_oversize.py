"""A storage that takes less than the broker: the instance goes on without what is too large."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, RequestRefusedError, TaskFailedError, Workflow, topics
from infinitic_testing.loop import run
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.world import World

KB = 1000


class Desk:
    async def make(self, size: int) -> str:
        return "x" * size

    async def measure(self, text: str) -> int:
        return len(text)


class Small(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def make(self, size: int) -> str:
        try:
            return await self.desk.make(size)
        except TaskFailedError as error:
            return error.last_failure.exception.message

    async def stubborn(self, size: int) -> int:
        """Tries again at once, for ever."""
        while True:
            try:
                return await self.desk.measure("x" * size)
            except Exception:  # noqa: BLE001 (what people write)
                continue

    async def hear(self) -> int:
        return len(await self.go.receive())

    async def measure(self, text: str) -> int:
        return len(text)


def make_world() -> World:
    return World(ObservedBroker(max_payload=1000 * KB), ObservedDatabase(max_value=300 * KB))


def host(world: World, split: bool) -> None:
    engine = world.worker()
    engine.add_service(Desk)
    if split:
        engine.add_workflow_state_engine("Small")
        code = world.worker()
        code.add_workflow_executor(Small)
        world.start(code)
    else:
        engine.add_workflow(Small)
    world.start(engine)


def list_reasons(world: World) -> list[str]:
    dead = topics.dead_letters(topics.workflow_engine("Small"))
    return [message.headers["infinitic-cause"] for topic, message in world.published if topic == dead]


BOTH = pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])


@BOTH
def test_a_result_that_the_storage_cannot_take_fails_its_task_with_sizes(split: bool) -> None:
    async def main() -> None:
        world = make_world()
        async with world.open():
            host(world, split)
            async with asyncio.timeout(10.0):
                told = await world.client.new_workflow(Small).make(700 * KB)
                assert "700," in told
                assert "above the limit of the storage of 29" in told
                assert len(await world.client.new_workflow(Small).make(100 * KB)) == 100 * KB
            assert not list_reasons(world)

    run(main())


@BOTH
def test_a_signal_that_the_storage_cannot_take_is_a_dead_letter_alone(split: bool) -> None:
    async def main() -> None:
        world = make_world()
        async with world.open():
            host(world, split)
            handle = await world.client.dispatch(world.client.new_workflow(Small).hear)
            stub = world.client.get_workflow_by_id(Small, handle.workflow_id)
            await world.run_until_idle()
            await stub.go.send("x" * 700 * KB)
            await stub.go.send("small")
            async with asyncio.timeout(10.0):
                assert await handle.result() == 5
            (cause,) = list_reasons(world)
            assert "above the limit of the storage" in cause

    run(main())


@BOTH
@pytest.mark.parametrize("running", [False, True], ids=["start", "call"])
def test_who_calls_with_what_the_storage_cannot_take_is_told(running: bool, split: bool) -> None:
    async def main() -> None:
        world = make_world()
        async with world.open():
            host(world, split)
            stub = world.client.new_workflow(Small)
            if running:
                handle = await world.client.dispatch(stub.hear)
                stub = world.client.get_workflow_by_id(Small, handle.workflow_id)
                await world.run_until_idle()
            async with asyncio.timeout(10.0):
                with pytest.raises(RequestRefusedError, match="above the limit of the storage"):
                    await stub.measure("x" * 700 * KB)
                assert await stub.measure("x" * 100 * KB) == 100 * KB
            assert len(list_reasons(world)) == 1

    run(main())


@pytest.mark.parametrize(("split", "size", "told"), [(False, 30, "10,001 things"), (True, 990, "was refused 1,07")])
def test_code_that_asks_again_and_again_for_what_is_refused_stalls(split: bool, size: int, told: str) -> None:
    """Nothing else could stop it: it never waits, and what it is refused is recorded."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=(size + 10) * KB))
        async with world.open():
            host(world, split)
            handle = await world.client.dispatch(world.client.new_workflow(Small).stubborn, size * KB)
            await world.run_until_idle()
            stalled = (await world.client.describe(handle)).stalled
            assert stalled is not None
            assert told in stalled
            assert await world.client.new_workflow(Small).measure("four") == 4, "others go on"

    run(main())
