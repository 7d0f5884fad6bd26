"""A worker is killed with -9 while 200 workflows run, and is started again: all end well."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from infinitic import Client, ids
from tests.integration.flows import Climb, Steps, expected
from tests.integration.stack import DATABASES, configuration, need
from tests.integration.test_examples import PATIENCE, ROOT, path_of, process

COUNT = 200


@pytest.mark.parametrize("database", DATABASES)
def test_all_workflows_end_right(database: str, tmp_path: Path) -> None:
    need(database)
    label = f"test_{ids.new_id()[:8]}"
    roles = {
        "services": [{"name": "Steps", "executor": {"class": path_of(Steps)}}],
        "workflows": [{"name": "Climb", "executor": {"class": path_of(Climb)}, "state_engine": {}}],
    }
    text = configuration(database, label, tmp_path, **roles)
    path = tmp_path / "worker.yml"
    path.write_text(text, encoding="utf-8")

    async def play() -> list[int]:
        async with Client.from_config(text=configuration(database, label, tmp_path)) as client:
            stub = client.new_workflow(Climb)
            first = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "infinitic", "worker", "--config", str(path), cwd=ROOT, stdout=subprocess.DEVNULL
            )
            handles = await asyncio.gather(*(client.dispatch(stub.run, start) for start in range(COUNT)))
            waiting = [asyncio.ensure_future(handle.result()) for handle in handles]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            first.kill()
            await first.wait()
            assert any(not each.done() for each in waiting), "all had ended before the worker was killed"
            with process(tmp_path / "second.yml", text):
                async with asyncio.timeout(PATIENCE):
                    return await asyncio.gather(*waiting)

    assert asyncio.run(play()) == [expected(start) for start in range(COUNT)]
