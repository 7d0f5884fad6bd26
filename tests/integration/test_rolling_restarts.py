"""Executors that restart again and again: waiting tasks did not die, nothing runs twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from infinitic import Client, Worker, Workflow, ids
from tests.integration.stack import configuration, need
from tests.integration.test_examples import PATIENCE, path_of

WIDTH = 16
RESTARTS = 8
"""More than the deaths after which a task is given up (S2)."""


class Rows:
    """Tasks that are noted as they begin."""

    begun: list[int]

    async def row(self, number: int) -> int:
        self.begun.append(number)
        await asyncio.sleep(0.02)
        return number


class Table(Workflow):
    rows = Workflow.new_service(Rows)

    async def run(self) -> list[int]:
        return list(await asyncio.gather(*(self.rows.row(number) for number in range(WIDTH))))


def test_of_an_executor(tmp_path: Path) -> None:
    need()
    Rows.begun = []
    label = f"test_{ids.new_id()[:8]}"
    engines = [{"name": "Table", "executor": {"class": path_of(Table)}, "state_engine": {}}]
    executor = [{"name": "Rows", "executor": {"class": path_of(Rows), "concurrency": 1}}]

    async def play() -> list[int]:
        async with (
            asyncio.timeout(PATIENCE),
            Worker.from_config(text=configuration("sqlite", label, tmp_path, workflows=engines)).running(),
            Client.from_config(text=configuration("sqlite", label, tmp_path)) as client,
        ):
            handle = await client.dispatch(client.new_workflow(Table).run)
            for number in range(RESTARTS):
                async with Worker.from_config(
                    text=configuration("sqlite", label, tmp_path, services=executor)
                ).running():
                    await begun(number + 1)
            async with Worker.from_config(text=configuration("sqlite", label, tmp_path, services=executor)).running():
                return await handle.result()

    assert asyncio.run(play()) == list(range(WIDTH))
    assert sorted(Rows.begun) == list(range(WIDTH))


async def begun(number: int) -> None:
    """Return when so many have begun; the test's own timeout bounds this."""
    while len(Rows.begun) < number:  # noqa: ASYNC110 (a task knows no loop but its own)
        await asyncio.sleep(0.005)
