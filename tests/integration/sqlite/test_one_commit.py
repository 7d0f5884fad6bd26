"""Three workers on one file, each killed with -9 again and again: each step is one commit."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from pathlib import Path

import pytest

from bench import servers
from infinitic import Client
from infinitic.config.loading import load
from infinitic.shared_commit import find_shared_commit
from infinitic.storage.integrity import ensure_checked
from tests.integration.flows import Climb, Steps, expected
from tests.integration.stack import configuration, need
from tests.integration.test_examples import PATIENCE, ROOT, path_of
from tests.thorough import IS_THOROUGH

COUNT = 600 if IS_THOROUGH else 200
WORKERS = 3
EMPTY_SECONDS = 30.0


def test_killed_workers_leave_nothing_and_all_ends_right(tmp_path: Path) -> None:
    """S11."""
    need(servers.ONLY_SQLITE)
    roles = {
        "services": [{"name": "Steps", "executor": {"class": path_of(Steps)}}],
        "workflows": [{"name": "Climb", "executor": {"class": path_of(Climb)}, "state_engine": {}}],
    }
    path = tmp_path / "worker.yml"
    path.write_text(configuration(servers.ONLY_SQLITE, "one", tmp_path, **roles), encoding="utf-8")
    client_text = configuration(servers.ONLY_SQLITE, "one", tmp_path)
    draw = random.Random(7)

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infinitic", "worker", "--config", str(path)),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def kill_and_replace(workers: list[asyncio.subprocess.Process]) -> int:
        killed = 0
        while True:
            await asyncio.sleep(draw.uniform(0.5, 1.5))
            chosen = draw.randrange(WORKERS)
            workers[chosen].kill()
            await workers[chosen].wait()
            killed += 1
            workers[chosen] = await start()

    async def play() -> list[int]:
        workers = [await start() for _ in range(WORKERS)]
        nemesis = asyncio.create_task(kill_and_replace(workers))
        try:
            async with Client.from_config(text=client_text) as client, asyncio.timeout(PATIENCE):
                stub = client.new_workflow(Climb)
                handles = await asyncio.gather(*(client.dispatch(stub.run, start) for start in range(COUNT)))
                results = await asyncio.gather(*(handle.result() for handle in handles))
                nemesis.cancel()
                await asyncio.wait([nemesis])
                await wait_until_empty(tmp_path / "one.db")
                return list(results)
        finally:
            nemesis.cancel()
            await asyncio.wait([nemesis])
            for worker in workers:
                if worker.returncode is None:
                    worker.kill()
                await worker.wait()

    assert asyncio.run(play()) == [expected(start) for start in range(COUNT)]


def test_what_a_file_configures_shares_a_commit(tmp_path: Path) -> None:
    config = load(text=configuration(servers.ONLY_SQLITE, "one", tmp_path))
    transport, storage = config.make_transport(), config.make_storage()
    assert storage is not None
    assert find_shared_commit(transport, ensure_checked(storage)) is not None


async def wait_until_empty(path: Path) -> None:
    """Wait until no message is left in the file."""
    connection = sqlite3.connect(path)
    left: list[int] = []
    try:
        for _ in range(int(EMPTY_SECONDS / 0.1)):
            left = [
                connection.execute(f"SELECT count(*) FROM infinitic_{table}").fetchone()[0]
                for table in ("queue", "lanes", "pending", "bodies")
            ]
            if not any(left):
                return
            await asyncio.sleep(0.1)
    finally:
        connection.close()
    pytest.fail(f"messages, lanes, pending ones and bodies are left: {left}")
