"""S7 and S2, with real processes on Pulsar: batches that are stopped and killed, and poison."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from infinitic import TaskFailedError, Workflow, batch
from tests.integration.executors import Executors, note
from tests.integration.stack import need

PATIENCE = 170.0
CULPRIT = 7
CONCURRENCY = {"concurrency": 4}


class Bulk:
    """Runs its tasks in batches. Each call notes in a file who began it, with how many tasks."""

    async def work(self, number: int, notes: str) -> int:
        raise NotImplementedError

    async def wait(self, number: int, notes: str) -> int:
        raise NotImplementedError

    @batch("work", max_messages=100, max_seconds=0.2)
    def work_all(self, tasks: dict[str, tuple[int, str]]) -> dict[str, int | Exception]:
        """A `def` method, which runs in a thread. One task of it may kill the process."""
        numbers = {task_id: number for task_id, (number, _) in tasks.items()}
        note(next(notes for _, notes in tasks.values()), f"{len(tasks)} {min(numbers.values())}")
        if CULPRIT in numbers.values():
            os._exit(1)
        return {each: LookupError(f"no {number}") if number % 10 == 3 else number for each, number in numbers.items()}

    @batch("wait", max_messages=100, max_seconds=0.2)
    async def wait_all(self, tasks: dict[str, tuple[int, str]]) -> dict[str, int]:
        """Run until the file says that it is enough."""
        notes = next(notes for _, notes in tasks.values())
        note(notes, f"{os.getpid()} begins {len(tasks)}")
        while "enough" not in Path(notes).read_text(encoding="utf-8"):  # noqa: ASYNC110, ASYNC240 (a file)
            await asyncio.sleep(0.1)
        note(notes, f"{os.getpid()} ends")
        return {task_id: number for task_id, (number, _) in tasks.items()}


class Crowd(Workflow):
    bulk = Workflow.new_service(Bulk)

    async def work(self, first: int, count: int, notes: str) -> list[str]:
        calls = [self.dispatch(self.bulk.work, number, notes) for number in range(first, first + count)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        return [
            each.last_failure.exception.short_name if isinstance(each, TaskFailedError) else str(each)
            for each in outcomes
        ]

    async def wait(self, count: int, notes: str) -> list[int]:
        return await asyncio.gather(*(self.bulk.wait(number, notes) for number in range(count)))


async def end(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_many_tasks_of_many_workflows_run_in_few_batches(tmp_path: Path) -> None:
    need()
    setting, count, workflows = Executors(tmp_path, Bulk, Crowd, CONCURRENCY), 40, 25

    async def play() -> list[list[str]]:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            start, notes = client.new_workflow(Crowd).work, str(setting.notes)
            handles = [await client.dispatch(start, 1000 * (index + 1), count, notes) for index in range(workflows)]
            executors = [await setting.executor() for _ in range(2)]
            try:
                return [await handle.result() for handle in handles]
            finally:
                await end(*executors)

    outcomes = asyncio.run(play())
    for index, outcome in enumerate(outcomes):
        first = 1000 * (index + 1)
        assert outcome == ["LookupError" if number % 10 == 3 else str(number) for number in range(first, first + count)]
    sizes = [int(line.split()[0]) for line in setting.lines()]
    assert sum(sizes) == count * workflows
    assert max(sizes) <= 100
    assert sum(sizes) / len(sizes) > 20, sizes


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_whose_process_ends_in_the_middle_runs_elsewhere(kill: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM: the grace period is over before the call is. All its tasks are handed back."""
    need()
    setting = Executors(tmp_path, Bulk, Crowd, CONCURRENCY, grace=1.0)

    async def play() -> list[int]:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            first = await setting.executor()
            handle = await client.dispatch(client.new_workflow(Crowd).wait, 50, str(setting.notes))
            await setting.until(lambda lines: sum(int(line.split()[2]) for line in lines) == 50)
            first.send_signal(kill)
            await first.wait()
            note(str(setting.notes), "- enough -")
            second = await setting.executor()
            try:
                return await handle.result()
            finally:
                await end(second)

    assert asyncio.run(play()) == list(range(50))
    ended = [line.split()[0] for line in setting.lines() if line.endswith("ends")]
    assert ended
    assert len(set(ended)) == 1


def test_a_worker_that_drains_finishes_its_batches(tmp_path: Path) -> None:
    need()
    setting = Executors(tmp_path, Bulk, Crowd, CONCURRENCY)

    async def play() -> tuple[list[int], int]:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            executor = await setting.executor()
            handle = await client.dispatch(client.new_workflow(Crowd).wait, 50, str(setting.notes))
            await setting.until(lambda lines: sum(int(line.split()[2]) for line in lines) == 50)
            executor.terminate()
            note(str(setting.notes), "- enough -")
            code = await executor.wait()
            return await handle.result(), code

    result, code = asyncio.run(play())
    assert (result, code) == (list(range(50)), 0)


def test_one_task_of_a_batch_that_kills_its_process_takes_no_other_with_it(tmp_path: Path) -> None:
    """S2: from the second death on, each suspect runs in a batch of its own."""
    need()
    setting, count = Executors(tmp_path, Bulk, Crowd, CONCURRENCY, grace=5.0), 9

    async def supervise(deaths: list[int]) -> None:
        process: asyncio.subprocess.Process | None = None
        try:
            while True:
                process = await setting.executor()
                deaths.append(await process.wait())
        finally:
            if process is not None:
                await end(process)

    async def play() -> list[str]:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            supervisor = asyncio.ensure_future(supervise(deaths := list[int]()))
            try:
                return await client.new_workflow(Crowd).work(0, count, str(setting.notes))
            finally:
                supervisor.cancel()
                await asyncio.gather(supervisor, return_exceptions=True)
                assert set(deaths) == {1}

    expected = ["LookupError" if number % 10 == 3 else str(number) for number in range(count)]
    expected[CULPRIT] = "WorkerDied"
    assert asyncio.run(play()) == expected
    sizes = Counter(line.split()[0] for line in setting.lines())
    assert sizes["1"] >= 2, "suspects run alone"
