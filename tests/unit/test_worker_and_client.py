"""Life of workers and clients. Bad input is one clear error before anything is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from infinitic import (
    Channel,
    Client,
    PayloadError,
    PayloadTooLargeError,
    TaskFailedError,
    UsageError,
    Worker,
    Workflow,
    WorkflowFailedError,
    WorkflowStatus,
    WorkflowTimedOutError,
    WorkflowUnknownError,
    method,
)
from infinitic.messages import service
from infinitic.topics import Topic, service_executor
from infinitic.transport import Consumer, Delivery, Message, UnsupportedCapability
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import DeadlockError, run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


class Desk:
    async def add(self, a: int, b: int = 1) -> int:
        return a + b


class DeskOfTomorrow:
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def subtract(self, a: int, b: int) -> int:
        return a - b


class Sums(Workflow):
    desk = Workflow.new_service(Desk)
    numbers = Channel[int]()
    total: int = 0

    async def add(self, n: int) -> int:
        async for number in self.numbers.receive(limit=n):
            self.total += number
        return self.total

    async def increase(self, by: int) -> int:
        self.total += await self.desk.add(by, 0)
        return self.total

    @method(total_timeout=5)
    async def patient(self, days: float) -> None:
        await asyncio.sleep(timedelta(days=days).total_seconds())


class Broken(Workflow):
    async def run(self, what: str) -> int:
        if what == "result":
            return "no number"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # a planted mistake

        class Local(ValueError):
            def __init__(self, a: int, b: int) -> None:
                """Nobody can rebuild this one from its arguments."""

        raise Local(1, 2)


class Unreachable(Workflow):
    desk = Workflow.new_service(DeskOfTomorrow)

    async def run(self) -> int:
        return await self.desk.subtract(3, 1)


async def test_a_parallel_method_shares_the_object_and_answers_its_handle(sim: Simulation) -> None:
    sim.add_service(Desk())
    sim.add_workflow(Sums)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sums).add, 1)
    running = sim.client.get_workflow_by_id(Sums, handle.workflow_id)
    assert await running.increase(10) == 10
    other = await sim.client.dispatch(running.increase, 20)
    await sim.sleep(1)
    assert (await other.result(), await other.result()) == (30, 30)
    assert other.method_id != other.workflow_id == handle.workflow_id
    await running.numbers.send(12, confirm=True)
    assert await handle.result(timeout=timedelta(seconds=1)) == 42


async def test_the_result_of_an_unknown_workflow_is_unknown(sim: Simulation) -> None:
    sim.add_workflow(Sums)
    with pytest.raises(WorkflowUnknownError, match="nobody"):
        await sim.client.get_handle(Sums.add, "nobody").result()
    with pytest.raises(WorkflowUnknownError):
        await sim.client.describe(sim.client.get_workflow_by_id(Sums, "nobody"))
    with pytest.raises(WorkflowUnknownError):
        await sim.client.cancel(sim.client.get_workflow_by_id(Sums, "nobody"), confirm=True)


async def test_a_result_is_there_until_retention_ends(sim: Simulation) -> None:
    sim.add_workflow(Sums, retention=timedelta(hours=2))
    handle = await sim.client.dispatch(sim.client.new_workflow(Sums).add, 1)
    await sim.client.get_workflow_by_id(Sums, handle.workflow_id).numbers.send(7)
    await sim.sleep(timedelta(hours=1))
    assert await sim.client.get_handle(Sums.add, handle.workflow_id).result() == 7
    await sim.sleep(timedelta(hours=3))
    with pytest.raises(WorkflowUnknownError):
        await sim.client.get_handle(Sums.add, handle.workflow_id).result()


async def test_who_waits_too_briefly_gets_a_timeout_and_may_wait_again(sim: Simulation) -> None:
    sim.add_workflow(Sums)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sums).add, 1)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=60)
    await sim.client.get_workflow_by_id(Sums, handle.workflow_id).numbers.send(5)
    assert await handle.result() == 5


async def test_the_total_timeout_of_a_method_is_its_callers(sim: Simulation) -> None:
    sim.add_workflow(Sums)
    with pytest.raises(WorkflowTimedOutError) as caught:
        await sim.client.new_workflow(Sums).patient(1)
    running = sim.client.get_workflow_by_id(Sums, caught.value.workflow_id)
    assert (await sim.client.describe(running)).status is WorkflowStatus.RUNNING


async def test_workflows_are_listed_newest_first(sim: Simulation) -> None:
    sim.add_workflow(Sums)
    ids: list[str] = []
    for _ in range(5):
        ids.append((await sim.client.dispatch(sim.client.new_workflow(Sums).add, 1)).workflow_id)
        await sim.sleep(1)
    await sim.client.get_workflow_by_id(Sums, ids[2]).numbers.send(5)
    await sim.run_until_idle()
    page = await sim.client.list_workflows(name="Sums", limit=3)
    rest = await sim.client.list_workflows(name="Sums", limit=3, cursor=page.cursor)
    assert [found.key.id for found in page.found + rest.found] == ids[::-1]
    done = await sim.client.list_workflows(status=WorkflowStatus.COMPLETED)
    assert [found.key.id for found in done.found] == [ids[2]]


@pytest.mark.parametrize(
    ("name", "arguments", "error", "words"),
    [
        ("add", (), UsageError, "misses argument 'n'"),
        ("add", (1, 2), UsageError, "takes 1 positional argument, got 2"),
        ("add", ("1",), PayloadError, "argument 'n'"),
        ("add", (object(),), PayloadError, "argument 'n'"),
        ("unknown", (1,), UsageError, "no public coroutine, query or channel 'unknown'"),
    ],
)
async def test_a_wrong_call_is_refused_at_the_call(
    sim: Simulation, name: str, arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    sim.add_workflow(Sums)
    with pytest.raises(error, match=words):
        await getattr(sim.client.new_workflow(Sums), name)(*arguments)
    assert (await sim.client.list_workflows()).found == []


async def test_a_wrong_signal_is_refused_at_the_call(sim: Simulation) -> None:
    sim.add_workflow(Sums)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sums).add, 1)
    running = sim.client.get_workflow_by_id(Sums, handle.workflow_id)
    with pytest.raises(PayloadError, match="numbers"):
        await running.numbers.send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the mistake
    with pytest.raises(UsageError, match="get_workflow_by_id"):
        await sim.client.new_workflow(Sums).numbers.send(1)


async def test_a_value_above_the_limit_is_refused_at_the_call_with_sizes(sim: Simulation) -> None:
    class Large(Workflow):
        async def run(self, text: str) -> None: ...

    sim.add_workflow(Large)
    with pytest.raises(PayloadTooLargeError, match=r"Large\.run.*above the limit of"):
        await sim.client.new_workflow(Large).run("x" * 6_000_000)


async def test_what_a_method_raises_arrives_as_data_also_if_nobody_can_rebuild_it(sim: Simulation) -> None:
    sim.add_workflow(Broken)
    with pytest.raises(WorkflowFailedError, match="Local") as caught:
        await sim.client.new_workflow(Broken).run("raise")
    assert caught.value.cause is None
    assert "test_worker_and_client.py" in caught.value.failure.traceback
    with pytest.raises(WorkflowFailedError, match=r"result: expected int"):
        await sim.client.new_workflow(Broken).run("result")


async def test_an_unknown_task_fails_at_once_and_says_what_there_is(sim: Simulation) -> None:
    class Tomorrow:
        async def add(self, a: int, b: int = 1) -> int:
            return a + b

    Tomorrow.__name__ = "DeskOfTomorrow"
    sim.add_service(Tomorrow())
    sim.add_workflow(Unreachable)
    with pytest.raises(WorkflowFailedError, match="has no task 'subtract'; it has add") as caught:
        await sim.client.new_workflow(Unreachable).run()
    assert isinstance(caught.value.cause, TaskFailedError)


def test_a_service_that_nobody_hosts_is_named_when_the_test_hangs() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            sim.add_workflow(Unreachable)
            await sim.client.new_workflow(Unreachable).run()

    with pytest.raises(DeadlockError, match=r"1 task.* of service 'DeskOfTomorrow' wait.*sim\.mock"):
        run(main())


def test_a_worker_that_hosts_nothing_or_runs_twice_says_so() -> None:
    async def main() -> None:
        empty = Worker(InMemoryTransport(), InMemoryStorage())
        with pytest.raises(UsageError, match="hosts nothing"):
            await empty.run()
        worker = Worker(InMemoryTransport(), InMemoryStorage())
        worker.add_workflow(Sums)
        async with worker.running():
            with pytest.raises(UsageError, match="runs already"):
                await worker.run()
        with pytest.raises(UsageError, match="make a new one"):
            await worker.run()

    asyncio.run(main())


class Mute(Consumer):
    """A consumer whose broker does something that nobody can ride out."""

    async def receive(self, max_messages: int) -> list[Delivery]:
        raise UnsupportedCapability("this broker does not receive")

    async def ack(self, deliveries: Iterable[Delivery]) -> None: ...

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None: ...

    async def close(self) -> None: ...


class MuteTransport(InMemoryTransport):
    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        return Mute() if durable else await super().subscribe(topic, subscription, prefetch, durable=durable)


@pytest.mark.parametrize("how", ["run", "running"])
def test_a_failure_that_a_worker_cannot_ride_out_is_raised(how: str) -> None:
    async def main() -> None:
        worker = Worker(MuteTransport(), InMemoryStorage())
        worker.add_service(Desk())
        if how == "run":
            await worker.run()
        else:
            async with worker.running():
                await asyncio.get_running_loop().create_future()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [type(error) for error in caught.value.exceptions] == [UnsupportedCapability]


def test_who_only_waits_for_a_free_place_does_not_die_with_the_worker() -> None:
    """S2: with room for one task, the others are left with the broker."""

    async def main() -> tuple[int, int]:
        transport = InMemoryTransport()
        worker = Worker(transport, InMemoryStorage())
        began = asyncio.Event()

        class Slow:
            async def wait(self) -> None:
                began.set()
                await asyncio.get_running_loop().create_future()

        worker.add_service(Slow(), concurrency=1)
        topic = service_executor("Slow")
        await transport.declare([topic])
        body = service.encode(
            service.ExecuteTask(
                workflow_id="w",
                workflow_name="W",
                position=0,
                sequence=1,
                service="Slow",
                task="wait",
                arguments=Raw(b"[]"),
                made_at=1.0,
            )
        )
        bodies = [body.replace(b'"p":0', b'"p":%d' % position) for position in range(5)]
        await transport.publish(topic, [Message(str(i), None, each) for i, each in enumerate(bodies)])
        worker_task = asyncio.create_task(worker.run())
        await began.wait()
        stats = (await transport.stats(topic)).subscriptions["service-executor"]
        worker_task.cancel()
        await asyncio.wait([worker_task])
        return stats.unacked, stats.backlog

    assert asyncio.run(main()) == (1, 4)


def test_a_client_that_is_not_open_or_is_closed_says_so() -> None:
    async def main() -> None:
        client = Client(InMemoryTransport())
        with pytest.raises(UsageError, match="async with Client"):
            await client.new_workflow(Sums).add(1)
        async with client:
            handle = await client.dispatch(client.new_workflow(Sums).add, 1)
            waiting = asyncio.create_task(handle.result())
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="closed"):
            await waiting
        with pytest.raises(UsageError, match="closed"):
            await client.dispatch(client.new_workflow(Sums).add, 1)

    asyncio.run(main())


@pytest.mark.parametrize("target", ["an id", 7, None])
async def test_verbs_want_a_stub_or_a_handle(sim: Simulation, target: Any) -> None:
    for verb in (sim.client.cancel, sim.client.describe, sim.client.retry_workflow_task):
        with pytest.raises(UsageError, match="stub of get_workflow_by_id or a handle"):
            await verb(target)


async def test_names_and_ids_are_checked(sim: Simulation) -> None:
    for wrong in ("", "x" * 256, "\ud800"):
        with pytest.raises(UsageError):
            sim.client.get_workflow_by_id(Sums, wrong)
    with pytest.raises(UsageError):
        Worker(InMemoryTransport(), name="")


async def test_what_is_added_while_the_worker_runs_is_hosted(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    sim.add_workflow(Sums)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sums).increase, 4)
    await sim.sleep(60)
    assert (await sim.client.describe(handle)).open_tasks == 1
    sim.add_service(Desk())
    assert await handle.result() == 4
    assert [record for record in caplog.records if record.name.startswith("infinitic")] == []
