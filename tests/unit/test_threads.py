"""A9: threads of `def` tasks that outlive their attempts are counted, shown, and bounded."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from infinitic import InfiniticError, Worker, Workflow, WorkflowFailedError, task, task_context
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.topics import service_executor
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport
from tests.unit.waiting import PATIENCE, until


def stuck_here(began: threading.Event, release: threading.Event) -> str:
    began.set()
    release.wait(PATIENCE)
    return "late"


def test_results_and_errors_come_back_also_those_that_end_a_process() -> None:
    async def main() -> None:
        threads = Threads("service Desk")
        assert await threads(lambda: threading.current_thread().daemon) is True
        for error in (ValueError, SystemExit, KeyboardInterrupt):
            with pytest.raises(error):
                await threads(partial(_raise, error("x")))
        with pytest.raises(InfiniticError, match="StopIteration"):
            await threads(lambda: _raise(StopIteration()))
        assert threads.abandoned == 0
        threads.close()

    asyncio.run(main())


def _raise(error: BaseException) -> None:
    raise error


def test_threads_are_used_again() -> None:
    async def main() -> None:
        threads = Threads("service Desk")
        first = await threads(threading.get_ident)
        assert {await threads(threading.get_ident) for _ in range(20)} == {first}
        threads.close()

    asyncio.run(main())


def test_one_whose_caller_is_gone_is_counted_until_it_ends_and_its_stack_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        threads = Threads("service Desk")
        began, release = threading.Event(), threading.Event()
        calling = asyncio.ensure_future(threads(lambda: stuck_here(began, release)))
        await until(began.is_set)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert threads.abandoned == 1
        assert "stuck_here" in caplog.text
        waiting = asyncio.ensure_future(threads.wait_for_fewer())
        await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(waiting, PATIENCE)
        assert threads.abandoned == 0
        threads.close()

    asyncio.run(main())


def test_a_loop_that_ended_meanwhile_is_no_trouble(recwarn: pytest.WarningsRecorder) -> None:
    began, release = threading.Event(), threading.Event()
    threads = Threads("service Desk")

    async def main() -> None:
        calling = asyncio.ensure_future(threads(lambda: stuck_here(began, release)))
        await until(began.is_set)
        calling.cancel()

    asyncio.run(main())
    release.set()
    for each in threading.enumerate():
        if each.name == "infinitic service Desk":
            each.join(PATIENCE)
    assert [each for each in threading.enumerate() if each.name == "infinitic service Desk"] == []
    assert not list(recwarn)


class Stuck:
    """Tasks that run on when their time is over, until the test lets them go."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun = 0
        self.most = 0
        self.running = 0
        self._lock = threading.Lock()

    @task(attempt_timeout=0.05)
    def hang(self) -> str:
        with self._lock:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
        self.release.wait(PATIENCE)
        with self._lock:
            self.running -= 1
        return "late"


class Hanging(Workflow):
    stuck = Workflow.new_service(Stuck)

    async def run(self) -> str:
        return await self.dispatch(self.stuck.hang)


def test_no_more_tasks_are_taken_while_as_many_threads_go_on_as_tasks_may_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten at once ended as 62 threads. What is not taken waits at the broker, for others."""
    concurrency, tasks = 3, 12

    async def main() -> None:
        stuck, transport = Stuck(), InMemoryTransport()
        worker = Worker(transport, InMemoryStorage())
        worker.add_service(stuck, concurrency=concurrency)
        worker.add_workflow(Hanging)

        async def one() -> str:
            try:
                return await worker.client.new_workflow(Hanging).run()
            except WorkflowFailedError as error:
                return str(error.cause)

        async def backlog() -> Any:
            return (await transport.stats(service_executor("Stuck"))).subscriptions["service-executor"].backlog

        async with worker.running():
            outcomes = [asyncio.ensure_future(one()) for _ in range(tasks)]
            await until(lambda: "no more tasks are taken" in caplog.text)
            assert concurrency <= stuck.begun <= 2 * concurrency
            assert stuck.most <= 2 * concurrency
            while await backlog() < tasks - 2 * concurrency:  # noqa: ASYNC110 (the broker tells nobody)
                await asyncio.sleep(0.005)
            stuck.release.set()
            assert await asyncio.wait_for(asyncio.gather(*outcomes), PATIENCE)
            assert stuck.begun == tasks
            assert "tasks are taken again" in caplog.text
            assert stuck.most <= 2 * concurrency

    asyncio.run(main())


def test_a_thread_that_ends_its_work_after_the_close_ends_too() -> None:
    """It waited for more for ever: one for each worker that a process had run."""
    began, release = threading.Event(), threading.Event()
    found = list[threading.Thread]()

    def stuck() -> str:
        found.append(threading.current_thread())
        return stuck_here(began, release)

    async def main() -> None:
        threads = Threads("service Desk")
        call = asyncio.create_task(threads(stuck))
        await until(began.is_set)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        threads.close()
        release.set()
        await until(lambda: not found[0].is_alive())
        assert threads.abandoned == 0

    asyncio.run(main())


def test_what_a_plain_task_gives_back_to_be_awaited_is_awaited_on_the_loop() -> None:
    """The way from a `def` task to the client of its context, whatever the version of anyio."""
    seen = list[threading.Thread]()

    class Desk:
        def work(self, text: str) -> Any:
            seen.append(threading.current_thread())
            return self.rest(text)

        async def rest(self, text: str) -> str:
            seen.append(threading.current_thread())
            await asyncio.sleep(0)
            return f"{text} from {task_context().service_name}"

    class Job(Workflow):
        desk = Workflow.new_service(Desk)

        async def run(self) -> str:
            return await self.dispatch(self.desk.work, "hello")

    async def main() -> None:
        transport = InMemoryTransport()
        worker = Worker(transport, InMemoryStorage())
        worker.add_service(Desk())
        worker.add_workflow(Job)
        async with worker.running():
            assert await worker.client.new_workflow(Job).run() == "hello from Desk"

    asyncio.run(main())
    assert [each is threading.main_thread() for each in seen] == [False, True]
