"""What a worker in a process of its own holds in memory: little, and no more after minutes of load."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from infinitic import Client, ids
from tests.integration.flows import Climb, Steps, expected
from tests.integration.stack import configuration, need
from tests.integration.test_examples import PATIENCE, ROOT, path_of

MEBIBYTE = 1024 * 1024
LOAD_SECONDS = float(os.environ.get("INFINITIC_LOAD_SECONDS", "120"))
"""Half of it to warm up, half of it to grow in. An hour shows more; `--junit-xml FILE` has the figures."""

GROWTH = 12 * MEBIBYTE
HELD = 150 * MEBIBYTE
CONCURRENCY = 50
ROUND = 100


def resident(pid: int) -> int:
    """Bytes that a process holds."""
    with open(f"/proc/{pid}/statm") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_it_is_bounded_and_flat(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    need("postgres")
    label = f"test_{ids.new_id()[:8]}"
    roles = {
        "services": [{"name": "Steps", "executor": {"class": path_of(Steps), "concurrency": CONCURRENCY}}],
        "workflows": [{"name": "Climb", "executor": {"class": path_of(Climb)}, "state_engine": {}}],
    }
    path = tmp_path / "worker.yml"
    path.write_text(configuration("postgres", label, tmp_path, **roles), encoding="utf-8")

    async def load(client: Client, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end, stub = loop.time() + seconds, client.new_workflow(Climb)
        while loop.time() < end:
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*(stub.run(start) for start in range(ROUND)))
            assert results == [expected(start) for start in range(ROUND)]

    async def play() -> tuple[int, int]:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infinitic", "worker", "--config", str(path), cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            async with Client.from_config(text=configuration("postgres", label, tmp_path)) as client:
                await load(client, LOAD_SECONDS / 2)
                warm = resident(worker.pid)
                await load(client, LOAD_SECONDS / 2)
                return warm, resident(worker.pid)
        finally:
            worker.terminate()
            await worker.wait()

    warm, final = asyncio.run(play())
    told = f"{warm / MEBIBYTE:.1f} MiB after half of the load, {final / MEBIBYTE:.1f} MiB after all of it"
    record_property("memory", told)
    assert final < HELD, told
    assert final - warm < GROWTH, told
