"""What a worker logs: failed attempts and workflows, drains, and another worker of its name."""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic import ExponentialBackoff, TaskFailedError, Worker, Workflow, WorkflowFailedError, task, workflow
from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import TopicStats
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import Broker, InMemoryTransport


class Bank:
    @task(retry=ExponentialBackoff(minimum_seconds=3, maximum_retries=1, random_factor=0))
    async def pay(self, amount: int) -> int:
        raise ConnectionError(f"no line\nfor {amount}{'!' * 1000}")


@workflow(name="Deal")
class Deal(Workflow):
    bank = Workflow.new_service(Bank)

    async def close(self) -> None:
        await self.bank.pay(7)

    async def close_anyway(self) -> str:
        try:
            await self.bank.pay(7)
        except TaskFailedError:
            return "closed"
        return "paid"


def read_log(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    ours = [each for each in caplog.records if each.name.startswith("infinitic") and each.levelno == level]
    return [each.getMessage() for each in ours]


async def test_failed_attempts_and_workflows_are_logged(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infinitic")
    sim.add_service(Bank())
    sim.add_workflow(Deal)
    handle = await sim.client.dispatch(sim.client.new_workflow(Deal).close)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    which = f"Task Bank.pay {handle.workflow_id}-0: attempt"
    first, last, failed = read_log(caplog, logging.INFO)
    assert first.startswith(f"{which} 1 failed, the next in 3.0 s: ConnectionError: no line for 7!!!")
    assert last.startswith(f"{which} 2 failed, for good: ConnectionError: no line for 7!!!")
    assert failed.startswith(f"Workflow Deal {handle.workflow_id}: close failed: TaskFailedError: ")
    assert max(map(len, (first, last, failed))) < 450
    caplog.clear()
    assert await sim.client.new_workflow(Deal).close_anyway() == "closed"
    assert [each.split()[0] for each in read_log(caplog, logging.INFO)] == ["Task", "Task"]  # the workflow did not fail
    assert read_log(caplog, logging.WARNING) == []


async def test_two_workers_of_one_name_are_noticed(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    messages: list[str] = []
    for name in ("two", None, "one"):
        async with InMemoryTransport(broker, clock=sim.clock) as transport, InMemoryTransport(broker) as other:
            workers = Worker(other, name="one", clock=sim.clock), Worker(transport, name=name, clock=sim.clock)
            for each in workers:
                each.add_service(Bank())
            async with workers[0].running():
                assert read_log(caplog, logging.WARNING) == []
                async with workers[1].running():
                    messages = read_log(caplog, logging.WARNING)
        assert len(messages) == (name == "one")
    assert messages[0].startswith("Another worker of the name 'one' listens, or died a moment ago")


async def test_a_broker_that_tells_no_figures_stops_no_worker(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    class Secret(InMemoryTransport):
        async def stats(self, topic: Topic) -> TopicStats:
            raise TransportError("may not")

    caplog.set_level(logging.INFO, "infinitic")
    async with Secret(clock=sim.clock) as transport:
        worker = Worker(transport, name="one", clock=sim.clock)
        worker.add_service(Bank())
        async with worker.running():
            assert worker.ready
    assert "Whether other workers have the name 'one' cannot be seen: may not" in read_log(caplog, logging.INFO)


async def test_drains_are_logged(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    class Slow:
        async def work(self) -> None:
            begun.set()
            await asyncio.sleep(5)

    @workflow(name="Working")
    class Working(Workflow):
        slow = Workflow.new_service(Slow)

        async def go(self) -> None:
            await self.slow.work()

    begun = asyncio.Event()
    sim.add_workflow(Working)
    caplog.set_level(logging.INFO, "infinitic")
    for grace, end in (
        (30, "Drained: everything is finished or handed back"),
        (1, "Not everything was finished within"),
    ):
        async with InMemoryTransport(sim.transport.broker, clock=sim.clock) as transport:
            worker = Worker(transport, clock=sim.clock, shutdown_grace_period=grace)
            worker.add_service(Slow())
            async with worker.running():
                begun.clear()
                await sim.client.dispatch(sim.client.new_workflow(Working).go)
                await begun.wait()
                caplog.clear()
            messages = [each.getMessage() for each in caplog.records if each.name == "infinitic.worker"]
        assert messages[0].startswith(f"Draining, at most {grace} s: service Slow: 1 x work running")
        assert messages[1].startswith(end)
