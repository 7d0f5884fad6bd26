"""Rolling deployments: workers with old and new code at once, under load (S18, S20, S41)."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, Worker, Workflow, WorkflowHandle, query, workflow
from infinitic_testing.loop import run
from tests.simulation.world import RETENTION, World


class Desk:
    async def price(self, order: int) -> int:
        await asyncio.sleep(0.05)
        return order + 10

    async def reduced_price(self, order: int) -> int:
        return order + 5


@workflow(name="Sale")
class SaleOne(Workflow):
    desk = Workflow.new_service(Desk)
    orders = Channel[int]()
    total: int = 0

    async def sell(self, number: int) -> int:
        for _ in range(number):
            self.total += await self.desk.price(await self.orders.receive())
        return self.total

    async def sell_for_ever(self, left: int, versions: list[int]) -> list[int]:
        """Goes on as a new run after each order, and tells which versions it had."""
        await self.desk.price(await self.orders.receive())
        versions = [*versions, self.context.version]
        if left > 1:
            self.continue_as_new(self.sell_for_ever, left - 1, versions)
        return versions

    @query
    def version(self) -> int:
        return self.context.version


@workflow(name="Sale", version=1)
class SaleTwo(SaleOne):
    async def sell(self, number: int) -> int:
        for _ in range(number):
            order = await self.orders.receive()
            both = await asyncio.gather(self.desk.price(order), self.desk.reduced_price(order))
            self.total += min(both)
        return self.total


OLD = (SaleOne,)
NEW = (SaleOne, SaleTwo)


def host(world: World, versions: tuple[type[Workflow], ...], *, split: bool) -> asyncio.Task[None]:
    worker: Worker = world.worker(cache_size=3)
    if split:
        worker.add_workflow_executor(*versions, retention=RETENTION)
    else:
        worker.add_service(Desk())
        worker.add_workflow(*versions, retention=RETENTION)
    return world.start(worker)


async def send_orders(handles: list[WorkflowHandle[int]], world: World, number: int) -> None:
    for order in range(number):
        for handle in list(handles):
            await world.client.get_workflow_by_id(SaleOne, handle.workflow_id).orders.send(order)
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_instances_of_both_versions_end_while_workers_are_replaced(split: bool) -> None:
    """S18: an instance keeps its version, and one that a worker lacks waits for another worker."""

    async def main() -> None:
        world = World()
        async with world.open():
            if split:
                engine = world.worker()
                engine.add_service(Desk())
                engine.add_workflow_state_engine(SaleOne)
                world.start(engine)
            old = [host(world, OLD, split=split) for _ in range(2)]
            await world.run_until_idle()
            stub = world.client.new_workflow(SaleOne)
            first = [await world.client.dispatch(stub.sell, 8) for _ in range(6)]
            load = asyncio.ensure_future(send_orders(first, world, 8))
            await asyncio.sleep(0.5)
            new: list[asyncio.Task[None]] = []
            second: list[WorkflowHandle[int]] = []
            loads = [load]
            for leaving in old:
                new.append(host(world, NEW, split=split))
                await world.run_until_idle()
                handles = [await world.client.dispatch(stub.sell, 4) for _ in range(4)]
                second += handles
                loads.append(asyncio.ensure_future(send_orders(handles, world, 4)))
                await asyncio.sleep(0.4)
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
            last = [await world.client.dispatch(stub.sell, 2) for _ in range(2)]
            loads.append(asyncio.ensure_future(send_orders(last, world, 2)))
            await asyncio.gather(*loads)
            assert [await each.result() for each in first] == [sum(order + 10 for order in range(8))] * 6
            by_version = {0: 10, 1: 5}
            for handle in second:
                version = await world.client.query(world.client.get_workflow_by_id(SaleOne, handle.workflow_id).version)
                assert await handle.result() == sum(order + by_version[version] for order in range(4))
            assert [await each.result() for each in last] == [5 + 6] * 2, "new instances take the highest version"
            for handle in [*first, *second, *last]:
                assert (await world.client.describe(handle)).stalled is None

    run(main())


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_the_next_run_takes_the_newest_version(split: bool) -> None:  # S20
    async def main() -> None:
        world = World()
        async with world.open():
            if split:
                engine = world.worker()
                engine.add_service(Desk())
                engine.add_workflow_state_engine(SaleOne)
                world.start(engine)
            old = host(world, OLD, split=split)
            await world.run_until_idle()
            handle = await world.client.dispatch(world.client.new_workflow(SaleOne).sell_for_ever, 6, [])
            orders = world.client.get_workflow_by_id(SaleOne, handle.workflow_id).orders
            for _ in range(2):
                await orders.send(1)
                await asyncio.sleep(1.0)
            host(world, NEW, split=split)
            await world.run_until_idle()
            old.cancel()
            await asyncio.gather(old, return_exceptions=True)
            for _ in range(4):
                await orders.send(1)
                await asyncio.sleep(1.0)
            versions = await handle.result()
            # The run that waited for its order at the time of the change keeps its version.
            assert versions == [0, 0, 0, 1, 1, 1]

    run(main())
