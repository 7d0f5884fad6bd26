"""S2, with real processes on Pulsar: only the culprit is blamed for a death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from infinitic import Client, TaskFailedError, Worker, Workflow, ids
from tests.integration.stack import configuration, need
from tests.integration.test_examples import ROOT, path_of

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


def note(path: str, text: str) -> None:
    """One line more in a file that several processes write to."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


class Setting:
    """A namespace with the state engine in this process, and executors in others."""

    def __init__(self, folder: Path, *, grace: float) -> None:
        self.label = f"test_{ids.new_id()[:8]}"
        self.folder = folder
        self.notes = folder / "notes.txt"
        self.notes.write_text("", encoding="utf-8")
        self.path = folder / "executor.yml"
        executor = [{"name": "Crowd", "executor": {"class": path_of(Crowd), "concurrency": 50}}]
        document = yaml.safe_load(configuration("sqlite", self.label, folder, services=executor))
        document["transport"]["shutdown_grace_period_seconds"] = grace
        del document["storage"]
        self.path.write_text(yaml.safe_dump(document), encoding="utf-8")

    @asynccontextmanager
    async def engine(self) -> AsyncGenerator[Client]:
        flows = [{"name": "Fair", "executor": {"class": path_of(Fair)}, "state_engine": {}}]
        text = configuration("sqlite", self.label, self.folder, workflows=flows)
        async with Worker.from_config(text=text).running() as worker:
            yield worker.client

    async def executor(self) -> asyncio.subprocess.Process:
        """A process that hosts the service."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infinitic", "worker", "--config", str(self.path), "--log-level", "warning"),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )

    async def begun(self, number: int) -> None:
        """Return when so many have begun; the test's own timeout bounds this."""
        while len(self.notes.read_text(encoding="utf-8").splitlines()) < number:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_of_21_tasks_of_which_one_kills_its_process_20_end_well(processes: int, tmp_path: Path) -> None:
    need()
    setting = Setting(tmp_path, grace=5.0)

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
    begun = Counter(setting.notes.read_text(encoding="utf-8").splitlines())
    assert 4 <= begun[f"begun {CULPRIT}"] <= 5, "a weak sign may have counted for one"


def test_six_orderly_ends_that_cut_a_task_are_no_deaths(tmp_path: Path) -> None:
    need()
    setting = Setting(tmp_path, grace=0.3)

    async def play() -> str:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            handle = await client.dispatch(client.new_workflow(Fair).wait, str(setting.notes))
            for number in range(6):
                process = await setting.executor()
                await setting.begun(number + 1)
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
