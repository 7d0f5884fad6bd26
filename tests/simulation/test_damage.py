"""An instance whose state is damaged stalls and says why. After the repair it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from infinitic import Channel, Workflow, WorkflowStatus, WorkflowTerminatedError
from infinitic.storage import Flag, Query, StateKey
from infinitic_testing.loop import run
from tests.simulation.cases import Case, Numbers
from tests.simulation.damages import HEADS, OUTBOXES, SEGMENTS, DamagedInstance
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors


class Counting(Workflow):
    """Three tasks, a signal and a fourth task. Each of them is a part of the result.

    Its last outbox before the signal holds a wake.
    """

    numbers = Workflow.new_service(Numbers)
    more = Channel[int]()

    async def run(self, start: int) -> int:
        total = start
        for each in (10, 200, 3000):
            total = await self.numbers.add(total, each)
        more = await (self.more.receive() | self.timer(timedelta(days=30)))
        return await self.numbers.add(total, more if isinstance(more, int) else 0)


CASE = Case("counting", (Counting,), lambda client: asyncio.sleep(0))
EXPECTED = 1 + 10 + 200 + 3000 + 40000
Roles = tuple[Hosting, ...]


async def begin(world: World, start: int) -> str:
    handle = await world.client.dispatch(world.client.new_workflow(Counting).run, start)
    await world.run_until_idle()
    return handle.workflow_id


async def add_workers(world: World, roles: Roles, case: Case = CASE) -> None:
    world.host(case, *roles)
    await world.run_until_idle()


async def send(world: World, workflow_id: str) -> None:
    await world.client.get_workflow_by_id(Counting, workflow_id).more.send(40000)


async def wait_for_result(world: World, workflow_id: str) -> int:
    return await world.client.get_handle(Counting.run, workflow_id).result(timeout=60.0)


async def read_stall_reason(world: World, workflow_id: str) -> str:
    """Say why an instance is stalled, or "" if it is not."""
    info = await world.client.describe(world.client.get_workflow_by_id(Counting, workflow_id))
    return info.stalled or ""


async def is_closed(world: World, workflow_id: str) -> bool:
    found = (await world.storage.states.find(Query())).found
    (entry,) = (each.entry for each in found if each.key.id == workflow_id)
    return entry.closed_at is not None


def damage_and_repair(
    roles: Roles,
    harm: Callable[[DamagedInstance], None],
    repair: Callable[[DamagedInstance], None],
    *,
    old: bool = False,
    retried: bool = True,
) -> None:
    """Damage an instance while no worker has it, check that it stalls, and repair it."""

    async def main() -> None:
        world = World()
        async with world.open():
            await add_workers(world, roles)
            broken, other, sound = [await begin(world, start) for start in (1, 5, 1)]
            await world.stop()
            bench = DamagedInstance(world.database, StateKey("Counting", broken), StateKey("Counting", other))
            if old:
                bench.strip()
            harm(bench)
            await add_workers(world, roles)
            for each in (broken, sound):
                await send(world, each)
            assert await wait_for_result(world, sound) == EXPECTED, "others go on"
            await asyncio.sleep(120.0)  # longer than a message is tried before its key is parked
            assert "is damaged" in await read_stall_reason(world, broken)
            assert not await is_closed(world, broken)
            letters = [topic for topic in world.backlog() if topic.startswith("dead")]
            assert not letters, "no message is to blame"
            if retried:
                assert await world.storage.states.count(Query(flag=Flag.STALLED)) == 1
            repair(bench)
            await asyncio.sleep(10.0)
            if retried:
                stub = world.client.get_workflow_by_id(Counting, broken)
                await world.client.retry_workflow_task(stub, confirm=True)
            assert await wait_for_result(world, broken) == EXPECTED
            assert await world.storage.states.count(Query(flag=Flag.STALLED)) == 0
            await send(world, other)
            assert await wait_for_result(world, other) == EXPECTED + 4

    run(main())


SPLIT: Roles = (host_engines, host_executors)
BOTH = pytest.mark.parametrize("roles", [(host_all,), SPLIT], ids=["fused", "split"])


@BOTH
@pytest.mark.parametrize("how", SEGMENTS)
def test_damaged_history(roles: Roles, how: str) -> None:
    damage_and_repair(roles, lambda bench: bench.damage_segments(how), DamagedInstance.repair_segments)


@BOTH
@pytest.mark.parametrize("how", HEADS)
def test_damaged_head(roles: Roles, how: str) -> None:
    damage_and_repair(roles, lambda bench: bench.damage_head(how), DamagedInstance.repair_head, retried=False)


@BOTH
@pytest.mark.parametrize("how", OUTBOXES)
def test_damaged_outbox_that_may_not_have_been_published(roles: Roles, how: str) -> None:
    damage_and_repair(roles, lambda bench: bench.damage_outbox(how), DamagedInstance.repair_segments)


FOUND_BY_CHECKSUM = {"a bit is flipped", "a bit is flipped in the first", "one is that of another instance"}
"""What leaves the order as it is, and may leave values that can be read."""


@pytest.mark.parametrize("how", sorted(set(SEGMENTS) - FOUND_BY_CHECKSUM))
def test_damaged_history_of_release_0_1(how: str) -> None:
    damage_and_repair((host_all,), lambda bench: bench.damage_segments(how), DamagedInstance.repair_segments, old=True)


@BOTH
def test_an_instance_of_release_0_1_goes_on(roles: Roles) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            await add_workers(world, roles)
            old, other = await begin(world, 1), await begin(world, 5)
            await world.stop()
            DamagedInstance(world.database, StateKey("Counting", old), StateKey("Counting", other)).strip()
            await add_workers(world, roles)
            for each in (old, other):
                await send(world, each)
            assert [await wait_for_result(world, each) for each in (old, other)] == [EXPECTED, EXPECTED + 4]

    run(main())


class Stumbling(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> int:
        return await self.numbers.stumble(7, 2)


class Waiting(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> int:
        return await self.numbers.wait(1, 100_000.0)


RETRIED = Case("stumbling", (Stumbling, Waiting), lambda client: asyncio.sleep(0))


@BOTH
def test_a_request_that_is_damaged_when_it_is_to_be_sent_again(roles: Roles) -> None:
    """A retry reads one old segment, without a replay. It waits for the repair too."""

    async def main() -> None:
        world = World()
        async with world.open():
            await add_workers(world, roles, RETRIED)
            handle, other = [await world.client.dispatch(world.client.new_workflow(Stumbling).run) for _ in range(2)]
            await world.run_until_idle()
            await world.stop()
            stub = world.client.get_workflow_by_id(Stumbling, handle.workflow_id)
            bench = DamagedInstance(
                world.database, StateKey("Stumbling", handle.workflow_id), StateKey("Stumbling", other.workflow_id)
            )
            bench.damage_segments("the first is deleted" if len(roles) == 1 else "one is deleted")
            await add_workers(world, roles, RETRIED)
            await asyncio.sleep(90.0)
            assert "is damaged" in ((await world.client.describe(stub)).stalled or "")
            bench.repair_segments()
            await asyncio.sleep(10.0)
            await world.client.retry_workflow_task(stub, confirm=True)
            assert await handle.result(timeout=60.0) == 7
            assert not [topic for topic in world.backlog() if topic.startswith("dead")]

    run(main())


@BOTH
def test_an_instance_with_a_damaged_history_is_terminated(roles: Roles) -> None:
    """S35: in any state. Who runs its task is not told to stop: nobody knows what it was."""

    async def main() -> None:
        world = World()
        async with world.open():
            world.host(RETRIED, host_engines)
            handle, other = [await world.client.dispatch(world.client.new_workflow(Waiting).run) for _ in range(2)]
            await world.run_until_idle()
            world.host(RETRIED, host_executors)
            await world.run_until_idle()
            await world.stop()
            keys = [StateKey("Waiting", each.workflow_id) for each in (handle, other)]
            DamagedInstance(world.database, *keys).damage_segments("a bit is flipped in the first")
            world.host(RETRIED, *roles)
            stub = world.client.get_workflow_by_id(Waiting, handle.workflow_id)
            await world.client.terminate(stub, reason="lost", confirm=True)
            with pytest.raises(WorkflowTerminatedError, match="lost"):
                await handle.result(timeout=60.0)
            assert (await world.client.describe(stub)).status is WorkflowStatus.TERMINATED

    run(main())
