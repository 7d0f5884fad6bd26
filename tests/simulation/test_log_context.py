"""Log records have the ids of the workflow, task or call during which they are made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from infinitic import (
    CallNext,
    ClientCall,
    LogContext,
    LogFilter,
    Middleware,
    TaskContext,
    Worker,
    Workflow,
    WorkflowContext,
    log_fields,
    task_context,
)
from infinitic.worker.log_context import FIELDS
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport

logger = logging.getLogger(__name__)


class Memory(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def find(self, message: str) -> list[dict[str, Any]]:
        """The fields of the records with this message that are known."""
        found = [record for record in self.records if record.getMessage() == message]
        return [{name: getattr(record, name) for name in FIELDS if getattr(record, name) != ""} for record in found]


@pytest.fixture
def memory() -> Any:
    memory = Memory()
    memory.addFilter(LogFilter())
    logger.addHandler(memory)
    logger.setLevel(logging.INFO)
    yield memory
    logger.removeHandler(memory)
    logger.setLevel(logging.NOTSET)


class Desk:
    async def say(self, word: str) -> str:
        logger.info("say")
        await asyncio.sleep(0.001)
        logger.info("said")
        return word

    def shout(self, word: str) -> str:
        logger.info("shout")
        return word.upper()

    async def report(self, word: str) -> int:
        return await task_context().client.count_workflows(name="Letter")


class Letter(Workflow):
    desk = Workflow.new_service(Desk)

    async def write(self, word: str) -> str:
        self.logger.info("begin")
        said = await self.desk.say(word)
        await self.desk.report(word)
        return await self.dispatch(self.desk.shout, said)


class Inner(Middleware):
    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        logger.info("call")
        return await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        logger.info("attempt")
        return await call_next()

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        logger.info("activation")
        call_next()


def test_every_record_has_the_ids_of_what_runs(memory: Memory) -> None:
    async def main() -> str:
        async with Simulation(middleware=[LogContext(), Inner()]) as sim:
            sim.add_service(Desk())
            sim.add_workflow(Letter)
            start = sim.client.new_workflow(Letter).write
            first, second = [await sim.client.dispatch(start, word) for word in ("a", "b")]
            assert [await each.result() for each in (first, second)] == ["A", "B"]
            logger.info("outside")
            return first.workflow_id

    first = run(main())
    workflow = {"workflow_id": first, "workflow_name": "Letter", "workflow_version": 0}
    of_first = {
        message: [each for each in memory.find(message) if each.get("workflow_id") == first] for message in MESSAGES
    }
    assert of_first["begin"] == [{**workflow, "method_name": "write"}]
    (say,) = of_first["say"]
    assert say == {
        **workflow,
        "service_name": "Desk",
        "task_name": "say",
        "task_id": say["task_id"],
        "retry_index": 0,
        "worker_name": "sim",
    }
    assert say["task_id"].startswith(first)
    assert of_first["said"] == [say]
    assert [each["task_name"] for each in of_first["attempt"]] == ["say", "report", "shout"]
    assert of_first["activation"] == [workflow] * 4
    assert of_first["call"][0] == {
        "client_name": "sim-client",
        "client_verb": "dispatch",
        "workflow_name": "Letter",
        "workflow_id": first,
        "method_name": "write",
    }
    (counted,) = [each for each in of_first["call"] if each["client_verb"] == "count_workflows"]
    assert (counted["task_name"], counted["client_name"]) == ("report", "sim-client"), "the call of a task is of it"
    assert memory.find("outside") == [{}]


MESSAGES = ("begin", "say", "said", "attempt", "activation", "call")


def test_threads_of_tasks_have_them_too(memory: Memory) -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage, name="w", middleware=[LogContext()])
            worker.add_service(Desk())
            worker.add_workflow(Letter)
            async with worker.running():
                assert await worker.client.new_workflow(Letter).write("a") == "A"

    asyncio.run(main())
    (shout,) = memory.find("shout")
    assert (shout["task_name"], shout["worker_name"]) == ("shout", "w")


def test_the_logger_of_a_workflow_has_its_id_without_any_middleware(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> str:
        async with Simulation() as sim:
            sim.add_service(Desk())
            sim.add_workflow(Letter)
            handle = await sim.client.dispatch(sim.client.new_workflow(Letter).write, "a")
            await handle.result()
            return handle.workflow_id

    workflow_id = run(main())
    (record,) = [record for record in caplog.records if record.getMessage() == "begin"]
    assert record.__dict__["workflow_id"] == workflow_id
    LogFilter().filter(record)
    assert record.__dict__["workflow_id"] == workflow_id, "what the record has, it keeps"
    assert log_fields() == {}
