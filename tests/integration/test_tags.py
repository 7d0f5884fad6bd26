"""Tags and custom ids on real servers, with the tag engine alone in a worker (S31, S32)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench import servers
from infinitic import Channel, Client, Deferred, TaskCanceledError, Worker, Workflow, ids
from tests.integration.stack import DATABASES, need

COUNT = 30


class Payments:
    async def charge(self, number: int) -> int:
        await asyncio.sleep(3600)
        return number


class Trip(Workflow):
    payments = Workflow.new_service(Payments, tags={"größe"})
    approvals = Channel[bool]()

    async def book(self, number: int) -> int:
        await self.approvals.receive()
        return number

    async def charge(self, count: int) -> list[str]:
        charges = [self.dispatch(self.payments.charge, number) for number in range(count)]
        return [await self._describe(each) for each in charges]

    async def _describe(self, charge: Deferred[int]) -> str:
        try:
            return f"paid {await charge}"
        except TaskCanceledError:
            return "canceled"


@pytest.mark.parametrize("database", DATABASES)
def test_each_role_alone(database: str, tmp_path: Path) -> None:
    need(database)
    label = f"test_{ids.new_id()[:8]}"

    async def connect(stack: AsyncExitStack) -> Worker:
        transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
        return Worker(transport, await stack.enter_async_context(servers.storage(database, label, tmp_path)))

    async def play() -> None:
        async with AsyncExitStack() as stack:
            tags, tasks, engine, code = [await connect(stack) for _ in range(4)]
            tags.add_workflow_tag_engine(Trip)
            tasks.add_service_tag_engine(Payments)
            engine.add_workflow_state_engine(Trip)
            code.add_workflow_executor(Trip)
            # The executor of a service needs no storage.
            service = Worker(await stack.enter_async_context(servers.broker(database, label, tmp_path)))
            service.add_service(Payments())
            for worker in (tags, tasks, engine, code, service):
                await stack.enter_async_context(worker.running())
            transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
            client = await stack.enter_async_context(Client(transport))
            async with asyncio.timeout(60):
                await use_tags(client)
                await use_custom_id(client)
                await use_tags_of_tasks(client)

    asyncio.run(play())


async def use_tags(client: Client) -> None:
    start = client.new_workflow(Trip, tags={"eu", "größe"})
    handles = await asyncio.gather(*(client.dispatch(start.book, number) for number in range(COUNT)))
    by_tag = client.get_workflow_by_tag(Trip, "größe")
    assert sorted(await client.get_ids(by_tag)) == sorted(handle.workflow_id for handle in handles)
    await by_tag.approvals.send(True)
    assert [await handle.result() for handle in handles] == list(range(COUNT))
    # The tags of the last one go at about the time of its result.
    while await client.get_ids(by_tag):  # noqa: ASYNC110 (another process tells nobody)
        await asyncio.sleep(0.05)


async def use_tags_of_tasks(client: Client) -> None:
    handle = await client.dispatch(client.new_workflow(Trip).charge, 3)
    while len(await client.get_tasks(Payments, "größe")) < 3:  # noqa: ASYNC110 (another process tells nobody)
        await asyncio.sleep(0.05)
    await client.cancel_tasks(Payments, "größe")
    assert await handle.result() == ["canceled"] * 3
    while await client.get_tasks(Payments, "größe"):  # noqa: ASYNC110 (another process tells nobody)
        await asyncio.sleep(0.05)


async def use_custom_id(client: Client) -> None:
    for _ in range(2):
        start = client.new_workflow(Trip, custom_id="order-7")
        handles = await asyncio.gather(*(client.dispatch(start.book, 7) for _ in range(10)))
        assert len({handle.workflow_id for handle in handles}) == 1
        await client.get_workflow_by_custom_id(Trip, "order-7").approvals.send(True, confirm=True)
        assert [await handle.result() for handle in handles] == [7] * 10
