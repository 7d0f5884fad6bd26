"""Old and new code at once, under load, on real servers (S18, S20)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infinitic import Client, Worker, WorkflowHandle, ids
from tests.integration.roles import Connect, connections
from tests.integration.stack import DATABASES, need
from tests.simulation.test_rolling_versions import NEW, OLD, Desk, SaleOne

LENGTH = 6
"""Orders of each instance."""


@pytest.mark.parametrize("database", DATABASES)
def test_instances_keep_their_version_while_workers_are_replaced(database: str, tmp_path: Path) -> None:
    need(database)

    async def play() -> None:
        async with (
            asyncio.timeout(120),
            connections(database, f"test_{ids.new_id()[:8]}", tmp_path) as (_, connect, client),
        ):
            await deploy(connect, client)

    asyncio.run(play())


async def deploy(connect: Connect, client: Client) -> None:
    """Replace each of two old workers by a new one, while orders come."""
    async with AsyncExitStack() as staying:
        leaving = [AsyncExitStack() for _ in range(2)]
        for each in leaving:
            await each.enter_async_context((await make_worker(connect, *OLD)).running())
        first = [await client.dispatch(client.new_workflow(SaleOne).sell, LENGTH) for _ in range(10)]
        runs = [await client.dispatch(client.new_workflow(SaleOne).sell_for_ever, LENGTH + 2, []) for _ in range(3)]
        load = asyncio.ensure_future(send_orders([*first, *runs], client))
        second: list[WorkflowHandle[int]] = []
        for each in leaving:
            await staying.enter_async_context((await make_worker(connect, *NEW)).running())
            second += [await client.dispatch(client.new_workflow(SaleOne).sell, 1) for _ in range(5)]
            await each.aclose()
        last = await client.dispatch(client.new_workflow(SaleOne).sell, 1)
        await load
        for handle in [*second, last]:
            await client.get_workflow_by_id(SaleOne, handle.workflow_id).orders.send(100)
        for sale in runs:
            for _ in range(2):
                await client.get_workflow_by_id(SaleOne, sale.workflow_id).orders.send(100)
        # What began with the old code ends with it, on a worker that has both.
        assert [await each.result() for each in first] == [sum(range(LENGTH)) + 10 * LENGTH] * len(first)
        assert {await each.result() for each in second} <= {110, 105}
        assert await last.result() == 105, "a new instance takes the newest version"
        for sale in runs:
            versions = await sale.result()
            assert versions == sorted(versions), versions
            # It began when only new workers were left.
            assert versions[-1] == 1, "a new run takes the newest version"


async def make_worker(connect: Connect, *versions: type[SaleOne]) -> Worker:
    worker = await connect()
    worker.add_service(Desk())
    worker.add_workflow(*versions)
    return worker


async def send_orders(handles: list[WorkflowHandle[int] | WorkflowHandle[list[int]]], client: Client) -> None:
    """Send the same orders to each of them, one after the other."""
    for order in range(LENGTH):
        for handle in handles:
            await client.get_workflow_by_id(SaleOne, handle.workflow_id).orders.send(order)
        await asyncio.sleep(0.3)
