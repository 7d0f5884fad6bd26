"""S7, S4: `def` batch methods run in threads, which are told to stop and cannot be stopped."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from infinitic import TaskFailedError, Worker, Workflow, all_of, batch, task, task_context
from infinitic.transport import Capabilities, Support
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport
from tests.unit.scripted import ScriptedTransport, delivery, request
from tests.unit.test_batch_executor import Log, check_empty, make_desk
from tests.unit.test_executor_doubts import copies
from tests.unit.test_service_executor import Bench, played

PATIENCE = 30.0


class Till:
    """Its batches last until all their tasks are told to stop, if there is a negative number."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        self.told = threading.Event()
        self.left: list[bool] = []

    async def add(self, number: int) -> int:
        raise NotImplementedError

    async def later(self, number: int) -> int:
        raise NotImplementedError

    @task(attempt_timeout=0.1)
    @batch("add", max_messages=3)
    def add_all(self, numbers: dict[str, int]) -> dict[str, int]:
        self.threads.add(threading.current_thread())
        if min(numbers.values()) < 0:
            contexts = [task_context(task_id) for task_id in numbers]
            contexts[-1].on_cancel(self.told.set)
            assert self.told.wait(PATIENCE)
            self.left.append(all(context.is_cancelled for context in contexts))
        return {task_id: number + 1 for task_id, number in numbers.items()}

    @batch("later", max_messages=3)
    def later_all(self, numbers: dict[str, int]) -> Any:
        """A `def` method that returns what an `async def` one gave."""
        self.threads.add(threading.current_thread())
        return self._wait(numbers)

    async def _wait(self, numbers: dict[str, int]) -> dict[str, int]:
        assert threading.current_thread() is threading.main_thread()
        await asyncio.sleep(0)
        return {task_id: number + 2 for task_id, number in numbers.items()}


class Shop(Workflow):
    till = Workflow.new_service(Till)

    async def add(self, numbers: list[int]) -> list[int]:
        return await all_of(*(self.dispatch(self.till.add, number) for number in numbers))

    async def later(self, numbers: list[int]) -> list[int]:
        return await all_of(*(self.dispatch(self.till.later, number) for number in numbers))

    async def fail(self, numbers: list[int]) -> list[str]:
        outcomes = await asyncio.gather(*(self.till.add(number) for number in numbers), return_exceptions=True)
        return [each.last_failure.exception.short_name for each in outcomes if isinstance(each, TaskFailedError)]


def test_a_plain_batch_method_runs_in_a_thread_and_is_told_of_its_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        till = Till()
        worker = Worker(InMemoryTransport(), InMemoryStorage())
        worker.add_service(till, batch_max_seconds=0.01)
        worker.add_workflow(Shop)
        async with worker.running(), asyncio.timeout(PATIENCE):
            start = worker.client.new_workflow(Shop)
            assert await start.add([1, 2, 3]) == [2, 3, 4]
            assert await start.later([1, 2]) == [3, 4]
            assert await start.fail([-1, 2, 3]) == ["AttemptTimedOut"] * 3
            assert await asyncio.to_thread(till.told.wait, PATIENCE)
            assert await start.add([5]) == [6]
        assert threading.main_thread() not in till.threads
        assert till.left == [True]

    asyncio.run(main())
    assert "a thread goes on although its attempt is over (1 such now)" in caplog.text
    caplog.clear()


def test_a_worker_that_starts_does_not_doubt_a_whole_backlog() -> None:
    """S2: where redeliveries may be forgotten, as many as run at once are looked into.

    They are settled before a batch runs: if it ended the process each time, none would ever count.
    """
    log, transport = Log(), ScriptedTransport()
    transport.capabilities = Capabilities(
        max_payload=5 * 1024 * 1024, rules={"RED-3": Support.BEST_EFFORT}, ack_durability=1.0
    )
    bench = Bench(transport, make_desk(log, max_messages=1000), concurrency=5)

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport.before_publish = lambda topic: gate if topic.name.startswith("service-executor") else None
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(50)))
        await asyncio.sleep(5.0)
        assert log.calls == []
        gate.set_result(None)
        await asyncio.sleep(0.5)
        assert log.calls == [], "the acknowledgements are not safe yet"
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(50, 60)))
        await asyncio.sleep(5.0)
        assert sorted(text for call in log.calls for text in call) == sorted(str(number) for number in range(5, 60))
        assert [(each.position, each.deaths) for each in copies(transport)] == [(number, 1) for number in range(5)]
        check_empty(bench)

    played(bench, scenario)
