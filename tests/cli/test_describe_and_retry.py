"""Workflows that do not proceed: what `describe`, `list`, `result` and `retry` do with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from infinitic import (
    Channel,
    Client,
    ExponentialBackoff,
    RequestRefusedError,
    UsageError,
    Worker,
    Workflow,
    WorkflowFailedError,
    WorkflowUnknownError,
    ids,
    task,
    workflow,
)
from infinitic.cli.commands.list import StatusFilter, list_workflows
from infinitic.cli.commands.result import fetch_result
from infinitic.cli.commands.retry import TaskConditions, retry, retry_stalled
from infinitic.cli.connection import Connection
from infinitic.cli.describe.command import describe
from infinitic.cli.project import Project
from infinitic.errors import InfiniticError
from infinitic.storage import DamagedState, StateKey
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.simulation.damages import DamagedInstance


class Bank:
    @task(retry=ExponentialBackoff(minimum_seconds=3600, random_factor=0))
    async def pay(self, amount: int) -> int:
        raise ConnectionError(f"no line\nfor {amount}")


class Post:
    async def send(self) -> None: ...


@workflow(name="Deal")
class Deal(Workflow):
    bank = Workflow.new_service(Bank)
    post = Workflow.new_service(Post)
    words = Channel[str]()
    broken = True

    async def close(self) -> int:
        return await self.bank.pay(7)

    async def mail(self) -> None:
        await self.post.send()

    async def hear(self) -> str:
        return await self.words.receive()

    async def fail(self) -> None:
        raise LookupError("no deal")

    async def raise_once(self) -> str:
        if Deal.broken:
            raise LookupError("broken")
        return "mended"

    async def stall(self) -> str:
        await self.timer(timedelta(seconds=1))
        if Deal.broken:
            await wait_for_a_thread()
        return "mended"


async def wait_for_a_thread() -> None:
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


def connect(sim: Simulation) -> Connection:
    return Connection(sim.client, sim.transport, sim.storage, Project(("Bank", "Post"), {"Deal": (Deal,)}))


async def test_describe_shows_open_tasks_and_their_last_failure(sim: Simulation) -> None:
    sim.add_service(Bank())
    sim.add_workflow(Deal)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close)
    await sim.sleep(10)
    info = await describe(connect(sim), None, handle.workflow_id)
    (task_,) = info.tasks
    assert (task_.task, task_.attempt, task_.failure, task_.served) == (
        "Bank.pay",
        2,
        "ConnectionError: no line for 7",
        True,
    )
    assert task_.due is not None
    assert task_.task_id.startswith(handle.workflow_id)
    assert info.notes == []


async def test_describe_says_that_no_worker_serves_a_service(sim: Simulation) -> None:
    sim.add_workflow(Deal)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).mail)
    await sim.sleep(1)
    info = await describe(connect(sim), "Deal", handle.workflow_id)
    assert [(each.task, each.attempt, each.failure, each.served) for each in info.tasks] == [
        ("Post.send", 1, None, False)
    ]
    assert info.notes == ["no worker serves the service 'Post': its tasks wait until one runs"]
    without = await describe(Connection(sim.client, sim.transport), "Deal", handle.workflow_id)
    assert "the open tasks are not known: the configuration has no storage" in without.notes
    assert without.open_tasks == 1


async def test_a_stalled_workflow_is_listed_described_and_retried(sim: Simulation) -> None:
    sim.add_workflow(Deal)
    at = connect(sim)
    Deal.broken = True
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).stall)
    other = await sim.client.dispatch(sim.client.new_workflow(Deal).stall)
    sound = await sim.client.dispatch(sim.client.new_workflow(Deal).hear)
    await sim.sleep(5)
    listed = await list_workflows(sim.storage, "Deal", StatusFilter.STALLED)
    assert {each.workflow_id for each in listed.workflows} == {handle.workflow_id, other.workflow_id}
    assert {(each.status, each.flag) for each in listed.workflows} == {("running", "stalled")}
    info = await describe(at, None, handle.workflow_id)
    assert info.stalled is not None
    assert info.notes == [f"stalled: correct the code, then run: infinitic retry {handle.workflow_id}"]
    waiting = await fetch_result(at, None, handle.workflow_id)
    assert waiting.status == "running"
    assert "it is stalled: " in waiting.error
    Deal.broken = False
    assert (await retry(at, None, handle.workflow_id)).stalled is None
    assert (await retry_stalled(at, "Deal")).workflows == [other.workflow_id]
    await sim.sleep(5)
    assert (await list_workflows(sim.storage, "Deal", StatusFilter.STALLED)).workflows == []
    for each in (handle, other):
        ended = await fetch_result(at, None, each.workflow_id)
        assert isinstance(ended.result, msgspec.Raw)
        assert (ended.status, bytes(ended.result)) == ("completed", b'"mended"')
    for wrong in (handle, sound):
        with pytest.raises(UsageError, match="there is nothing to retry"):
            await retry(at, None, wrong.workflow_id)


async def test_failed_tasks_run_again_by_the_command(sim: Simulation) -> None:
    """S34."""
    post = sim.mock(Post)
    post.send.raises(ConnectionError("no post")).raises(ConnectionError("no post")).returns(None)
    sim.add_workflow(Deal)
    at = connect(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).mail)
    for conditions in (TaskConditions(), TaskConditions(status="failed", service="Post", task="send")):
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await sim.sleep(1)
        assert (await retry(at, "Deal", handle.workflow_id, conditions=conditions)).tasks
    await handle.result()
    with pytest.raises(UsageError, match="is completed: there is nothing to retry"):
        await retry(at, "Deal", handle.workflow_id)
    with pytest.raises(RequestRefusedError, match="it has no failed task with task send"):
        await retry(at, "Deal", handle.workflow_id, conditions=TaskConditions(task="send"))


async def test_failed_code_runs_again_by_the_command(sim: Simulation) -> None:
    """S34."""
    sim.add_workflow(Deal)
    at = connect(sim)
    Deal.broken = True
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).raise_once)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    again = r"it fails again at the same place, with the code of today: .*LookupError: broken"
    with pytest.raises(RequestRefusedError, match=again + r"\. As to its failed tasks: it has no failed task$"):
        await retry(at, "Deal", handle.workflow_id)
    with pytest.raises(RequestRefusedError, match=again + "$"):
        await retry(at, "Deal", handle.workflow_id, code=True)
    Deal.broken = False
    report = await retry(at, "Deal", handle.workflow_id)
    assert (report.workflows, report.tasks, report.stalled) == ([handle.workflow_id], False, None)
    handle.forget_failure()
    assert await handle.result() == "mended"


async def test_a_client_retries_all_stalled_workflows_of_a_name(sim: Simulation) -> None:
    """S34."""
    sim.add_workflow(Deal)
    Deal.broken = True
    new = sim.client.new_workflow(Deal)
    stalled = [await sim.client.dispatch(new.stall) for _ in range(3)]
    await sim.client.dispatch(new.hear)
    await sim.sleep(5)
    Deal.broken = False
    assert set(await sim.client.retry_stalled(Deal)) == {each.workflow_id for each in stalled}
    assert [await each.result() for each in stalled] == ["mended"] * 3
    assert await sim.client.retry_stalled("Deal") == []
    with pytest.raises(UsageError, match=r"^retry_stalled finds stalled workflows in the storage: Client\("):
        await Client(sim.transport).retry_stalled(Deal)
    with pytest.raises(UsageError, match=r"int"):
        await sim.client.retry_stalled(int)


async def test_result_waits_with_the_option_wait(sim: Simulation) -> None:
    sim.add_workflow(Deal)
    at = connect(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).hear)
    early = await fetch_result(at, None, handle.workflow_id)
    assert (early.status, early.error.endswith("has no result yet; --wait waits for it")) == ("running", True)
    late = await fetch_result(at, None, handle.workflow_id, wait=True, timeout=5)
    assert (late.status, late.error) == (
        "running",
        f"No result of Deal.hear (workflow_id {handle.workflow_id}) within 5 s; it runs on",
    )
    await sim.client.get_workflow_by_id(Deal, handle.workflow_id).words.send("yes")
    ended = await fetch_result(at, "Deal", handle.workflow_id, wait=True)
    assert ended.result == msgspec.Raw(b'"yes"')
    failed = await sim.client.dispatch(sim.client.new_workflow(Deal).fail)
    report = await fetch_result(at, None, failed.workflow_id, wait=True)
    assert (report.status, "LookupError: no deal" in report.error) == ("failed", True)
    with pytest.raises(WorkflowUnknownError):
        await fetch_result(at, None, "no-such-id")
    with pytest.raises(UsageError, match="--timeout has a meaning only together with --wait"):
        await fetch_result(at, None, "no-such-id", timeout=1)


async def test_the_name_of_a_workflow_is_found(sim: Simulation) -> None:
    sim.add_workflow(Deal)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).hear)
    await sim.sleep(1)
    project = Project((), {"Deal": (Deal,), "Idle": ()})
    at = Connection(sim.client, sim.transport, sim.storage, project)
    assert await at.find_workflow_name(None, handle.workflow_id) == "Deal"
    assert await at.find_workflow_name("Idle", handle.workflow_id) == "Idle"
    with pytest.raises(
        UsageError, match="give the name of the workflow with --workflow NAME; the configuration has Deal, Idle"
    ):
        await at.find_workflow_name(None, "no-such-id")
    await sim.client.get_workflow_by_id(Deal, handle.workflow_id).words.send("end")


async def test_describe_reads_the_storage_if_the_engine_does_not_answer(sim: Simulation) -> None:
    sim.add_workflow(Deal)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).hear)
    await sim.sleep(1)

    class Deaf(InMemoryTransport):
        async def publish(self, topic: Topic, messages: Sequence[Message]) -> None: ...

    transport = Deaf(sim.transport.broker, clock=sim.clock)
    async with transport, Client(transport, storage=sim.storage) as client:
        at = Connection(client, transport, sim.storage, Project((), {"Deal": (Deal,)}))
        info = await describe(at, None, handle.workflow_id, timeout=5)
        assert (info.status, info.open_tasks) == ("running", 0)
        assert info.notes == [
            "No answer within 5 s: check that a worker with the state engine of 'Deal' runs; "
            "what is shown was read from the storage",
        ]
        with pytest.raises(InfiniticError, match="No answer within 5 s"):
            await describe(at, None, "no-such-id", timeout=5)


async def drain_a_deal(broker: Broker, database: Database) -> str:
    """Start a workflow, and stop the only worker while it waits."""
    async with InMemoryTransport(broker) as transport, InMemoryStorage(database) as storage:
        worker = Worker(transport, storage)
        worker.add_workflow(Deal)
        async with worker.running():
            handle = await worker.client.dispatch(worker.client.new_workflow(Deal).mail)
            await worker.client.describe(handle)  # with the start, perhaps: the next one sees what came of it
            assert (await worker.client.describe(handle)).open_tasks == 1
    return handle.workflow_id


def test_describe_reads_the_storage_while_no_worker_runs() -> None:
    async def main() -> None:
        broker, database = Broker(), Database()
        workflow_id = await drain_a_deal(broker, database)
        async with (
            InMemoryTransport(broker) as transport,
            InMemoryStorage(database) as storage,
            Client(transport, storage=storage) as client,
        ):
            info = await describe(Connection(client, transport, storage, Project((), {"Deal": ()})), None, workflow_id)
        assert (info.status, [each.task for each in info.tasks]) == ("running", ["Post.send"])
        assert info.notes == [
            "no worker has the state engine of 'Deal': nothing happens until one runs",
            "no worker serves the service 'Post': its tasks wait until one runs",
        ]

    asyncio.run(main())


def test_describe_names_what_is_damaged() -> None:
    async def main() -> None:
        broker, database = Broker(), Database()
        workflow_id = await drain_a_deal(broker, database)
        key = StateKey("Deal", workflow_id)
        bench = DamagedInstance(database, key, key)
        async with (
            InMemoryTransport(broker) as transport,
            InMemoryStorage(database) as storage,
            Client(transport, storage=storage) as client,
        ):
            at = Connection(client, transport, storage, Project((), {"Deal": ()}))
            bench.damage_segments("a bit is flipped in the first")
            info = await describe(at, None, workflow_id)
            assert (info.status, info.open_tasks, info.tasks) == ("running", 1, [])
            assert f"What is stored of Deal {workflow_id} is damaged. Segment 1: " in info.notes[-1]
            bench.repair_segments()
            bench.damage_head("a bit is flipped")
            with pytest.raises(DamagedState, match="The head: it is not what was written"):
                await describe(at, None, workflow_id)

    asyncio.run(main())


class Partner(Workflow):
    async def agree(self) -> str:
        await self.timer(timedelta(days=1))
        return "agreed"


class Firm(Workflow):
    partner = Workflow.new_workflow(Partner)

    async def trade(self) -> str:
        first = self.dispatch(self.partner.agree)
        return await self.get_workflow_by_id(Partner, first.id).agree()


async def test_describe_shows_children_and_calls_and_who_is_missing(sim: Simulation) -> None:
    """S29: a child of a workflow that nobody hosts waits, and `describe` says so."""
    sim.add_workflow(Firm)
    at = Connection(sim.client, sim.transport, sim.storage, Project((), {"Firm": (Firm,), "Partner": (Partner,)}))
    handle = await sim.client.dispatch(sim.client.new_workflow(Firm).trade)
    await sim.sleep(1)
    child = ids.remote_id(handle.workflow_id, 0, 0)
    info = await describe(at, "Firm", handle.workflow_id)
    assert info.open_tasks == 2
    assert [(each.kind, each.request, each.workflow_id, each.status, each.served) for each in info.requests] == [
        ("child", "Partner.agree", child, "not started", False),
        ("call", "Partner.agree", child, "not started", False),
    ]
    assert info.notes == ["no worker has the state engine of 'Partner': its children and calls wait until one runs"]
    sim.add_workflow(Partner)
    await sim.sleep(60)
    info = await describe(at, "Firm", handle.workflow_id)
    assert [(each.kind, each.status, each.served) for each in info.requests] == [
        ("child", "running", True),
        ("call", "running", True),
    ]
    assert info.notes == []
    assert await handle.result() == "agreed"
