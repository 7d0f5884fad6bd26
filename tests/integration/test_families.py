"""Children, calls, queries, repair and new runs on real servers, each role alone in a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infinitic import (
    Channel,
    Client,
    RequestRefusedError,
    Workflow,
    WorkflowFailedError,
    WorkflowStatus,
    ids,
    query,
)
from tests.integration.roles import each_role_alone
from tests.integration.stack import DATABASES, need


class Bank:
    """Fails until somebody has opened it."""

    def __init__(self) -> None:
        self.is_open = False
        self.paid: list[int] = []

    async def pay(self, number: int) -> int:
        if not self.is_open:
            raise ConnectionError("closed")
        self.paid.append(number)
        return number


class Leaf(Workflow):
    bank = Workflow.new_service(Bank)

    async def run(self, number: int) -> int:
        return await self.bank.pay(number)


class Branch(Workflow):
    leaf = Workflow.new_workflow(Leaf)

    async def run(self, number: int) -> int:
        leaves = [self.dispatch(self.leaf.run, 10 * number + each) for each in range(2)]
        return sum([await each for each in leaves])


class Root(Workflow):
    """A tree of three generations, and a neighbour that it talks to by custom id."""

    branch = Workflow.new_workflow(Branch)
    done = 0

    async def run(self, number: int, counter_id: str) -> int:
        branches = [self.dispatch(self.branch.run, each) for each in range(number)]
        total = sum([await each for each in branches])
        self.done = total
        counter = self.get_workflow_by_custom_id(Counter, counter_id)
        await counter.additions.send(total)
        return await counter.add(1)

    @query
    def progress(self) -> int:
        return self.done


class Counter(Workflow):
    """Goes on as a new run after each addition."""

    additions = Channel[int]()
    total = 0

    async def run(self, total: int, left: int) -> int:
        self.total = total
        self.total += await self.additions.receive()
        if left > 1:
            self.continue_as_new(self.run, self.total, left - 1)
        return self.total

    async def add(self, number: int) -> int:
        await self.wait_until(lambda: self.total > 0)
        return self.total + number

    @query
    def value(self) -> int:
        return self.total


class Draft(Workflow):
    """Code with a mistake, until it is mended."""

    bank = Workflow.new_service(Bank)
    is_mended = False

    async def run(self, number: int) -> int:
        paid = await self.bank.pay(number)
        if not type(self).is_mended:
            raise ValueError("a mistake")
        return await self.bank.pay(paid + 1)


WORKFLOWS = (Leaf, Branch, Root, Counter, Draft)


@pytest.mark.parametrize("database", DATABASES)
def test_families_queries_repair_and_runs(database: str, tmp_path: Path) -> None:
    need(database)
    Draft.is_mended = False
    bank = Bank()

    async def play() -> None:
        async with (
            each_role_alone(database, f"test_{ids.new_id()[:8]}", tmp_path, WORKFLOWS, [bank]) as client,
            asyncio.timeout(90),
        ):
            await repair_a_tree(client, bank)
            await run_failed_code_again(client, bank)

    asyncio.run(play())


async def repair_a_tree(client: Client, bank: Bank) -> None:
    """S20, S26, S29, S30, S32, S34: leaves fail, and with them all above. Retried, all go on."""
    custom_id = ids.new_id()
    counter = await client.dispatch(client.new_workflow(Counter, custom_id=custom_id).run, 0, 2)
    root = await client.dispatch(client.new_workflow(Root).run, 2, custom_id)
    with pytest.raises(WorkflowFailedError):
        await root.result()
    bank.is_open = True
    leaves = [
        leaf
        for branch in await list_children(client, Root, root.workflow_id)
        for leaf in await list_children(client, Branch, branch)
    ]
    assert len(leaves) == 4
    for leaf in leaves:
        await wait_for(client, Leaf, leaf, WorkflowStatus.FAILED)
        await client.retry_tasks(client.get_workflow_by_id(Leaf, leaf))
    # Parents are told in turn. Until then they have their old result.
    await wait_for(client, Root, root.workflow_id, WorkflowStatus.COMPLETED)
    # 0 + 1 + 10 + 11, and 1 more.
    assert await client.get_handle(Root.run, root.workflow_id).result() == 23
    assert sorted(bank.paid) == [0, 1, 10, 11]
    assert await client.query(client.get_workflow_by_id(Root, root.workflow_id).progress) == 22
    running = client.get_workflow_by_custom_id(Counter, custom_id)
    await running.additions.send(7)
    assert await counter.result() == 29
    assert await client.query(client.get_workflow_by_id(Counter, counter.workflow_id).value) == 29


async def list_children(client: Client, parent: type[Workflow], workflow_id: str) -> list[str]:
    run = await client.read_run(client.get_workflow_by_id(parent, workflow_id))
    return [step.id for step in run.steps if step.kind == "child"]


async def wait_for(client: Client, workflow: type[Workflow], workflow_id: str, status: WorkflowStatus) -> None:
    stub = client.get_workflow_by_id(workflow, workflow_id)
    while (await client.describe(stub)).status is not status:  # noqa: ASYNC110 (nobody is told)
        await asyncio.sleep(0.05)


async def run_failed_code_again(client: Client, bank: Bank) -> None:
    """S34: what the code has asked for does not run twice."""
    bank.paid.clear()
    draft = await client.dispatch(client.new_workflow(Draft).run, 5)
    with pytest.raises(WorkflowFailedError, match="a mistake"):
        await draft.result()
    with pytest.raises(RequestRefusedError, match="fails again"):
        await client.retry_workflow_task(draft, confirm=True)
    Draft.is_mended = True
    await client.retry_workflow_task(draft, confirm=True)
    assert await draft.result() == 6
    assert bank.paid == [5, 6]
