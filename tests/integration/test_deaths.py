"""S2, with real processes on Pulsar: only the culprit is blamed for a death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from infinitic import TaskFailedError, Workflow
from tests.integration.executors import Executors, note
from tests.integration.stack import need

PATIENCE = 170.0
WIDTH = 20
CULPRIT = 7


class Crowd:
    """Tasks of which one kills its process. Each notes in a file that it has begun."""

    async def run(self, number: int, notes: str) -> int:
        note(notes, f"begun {number}")
        if number == CULPRIT:
            os._exit(1)
        await asyncio.sleep(0.2)
        return number

    async def wait(self, notes: str) -> str:
        """Run until the file says that it is enough."""
        note(notes, "begun")
        while "enough" not in Path(notes).read_text(encoding="utf-8"):  # noqa: ASYNC110, ASYNC240 (a file)
            await asyncio.sleep(0.1)
        return "waited"


class Fair(Workflow):
    crowd = Workflow.new_service(Crowd)

    async def run(self, notes: str) -> list[str]:
        outcomes = await asyncio.gather(
            *(self.crowd.run(number, notes) for number in range(WIDTH + 1)), return_exceptions=True
        )
        return [
            each.last_failure.exception.short_name if isinstance(each, TaskFailedError) else str(each)
            for each in outcomes
        ]

    async def wait(self, notes: str) -> str:
        return await self.crowd.wait(notes)


@pytest.mark.parametrize("processes", [1, 2])
def test_of_21_tasks_of_which_one_kills_its_process_20_end_well(processes: int, tmp_path: Path) -> None:
    need()
    setting = Executors(tmp_path, Crowd, Fair, {"concurrency": 50}, grace=5.0)

    async def supervise(deaths: list[int]) -> None:
        """Start a process again whenever it has died, as an operator's supervisor does."""
        process: asyncio.subprocess.Process | None = None
        try:
            while True:
                process = await setting.executor()
                deaths.append(await process.wait())
        finally:
            if process is not None and process.returncode is None:
                process.terminate()
                await process.wait()

    async def play() -> tuple[list[str], list[int]]:
        deaths = list[int]()
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            supervisors = [asyncio.ensure_future(supervise(deaths)) for _ in range(processes)]
            try:
                return await client.new_workflow(Fair).run(str(setting.notes)), deaths
            finally:
                for each in supervisors:
                    each.cancel()
                await asyncio.gather(*supervisors, return_exceptions=True)

    outcomes, deaths = asyncio.run(play())
    expected = [str(number) for number in range(WIDTH + 1)]
    expected[CULPRIT] = "WorkerDied"
    assert outcomes == expected
    assert set(deaths) == {1}
    begun = Counter(setting.lines())
    assert 4 <= begun[f"begun {CULPRIT}"] <= 5, "a weak sign may have counted for one"


def test_six_orderly_ends_that_cut_a_task_are_no_deaths(tmp_path: Path) -> None:
    need()
    setting = Executors(tmp_path, Crowd, Fair, {"concurrency": 50}, grace=0.3)

    async def play() -> str:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            handle = await client.dispatch(client.new_workflow(Fair).wait, str(setting.notes))
            for number in range(6):
                process = await setting.executor()
                await setting.until_noted(number + 1)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
            note(str(setting.notes), "enough")
            process = await setting.executor()
            try:
                return await handle.result()
            finally:
                process.terminate()
                await process.wait()

    assert asyncio.run(play()) == "waited"
