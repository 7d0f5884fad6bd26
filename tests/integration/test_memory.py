"""How much memory a worker needs in its own process: little, and no more after minutes of load."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from infinitic import Client, ids
from tests.integration.flows import Climb, Heavy, Hoard, Steps, expected
from tests.integration.stack import configuration, need
from tests.integration.test_examples import PATIENCE, ROOT, path_of

MEBIBYTE = 1024 * 1024
LOAD_SECONDS = float(os.environ.get("INFINITIC_LOAD_SECONDS", "120"))
"""Seconds of load. One half warms up, and memory must not grow in the other half.

An hour shows more. `--junit-xml FILE` has the figures.
"""

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


LARGE = 100
LARGE_BYTES = 4_000_000
LARGE_HELD = 600 * MEBIBYTE


def test_large_results_are_bounded_in_bytes(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """100 results of 4 MB, kept by their workflows, at a worker that does everything."""
    need("postgres")
    label = f"test_{ids.new_id()[:8]}"
    roles = {
        "services": [{"name": "Heavy", "executor": {"class": path_of(Heavy), "concurrency": 10}}],
        "workflows": [{"name": "Hoard", "executor": {"class": path_of(Hoard)}, "state_engine": {}}],
    }
    path = tmp_path / "worker.yml"
    path.write_text(configuration("postgres", label, tmp_path, **roles), encoding="utf-8")

    async def play() -> int:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infinitic", "worker", "--config", str(path), cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            async with Client.from_config(text=configuration("postgres", label, tmp_path)) as client:
                stub = client.new_workflow(Hoard)
                handles = [await client.dispatch(stub.run, LARGE_BYTES) for _ in range(LARGE)]
                async with asyncio.timeout(PATIENCE * 2):
                    for handle in handles:
                        await client.get_workflow_by_id(Hoard, handle.workflow_id).go.send(True)
                        assert await handle.result() == LARGE_BYTES
                return highest(worker.pid)
        finally:
            worker.terminate()
            await worker.wait()

    most = asyncio.run(play())
    record_property("memory", f"{most / MEBIBYTE:.1f} MiB at most")
    assert most < LARGE_HELD, f"{most / MEBIBYTE:.1f} MiB at most"


def highest(pid: int) -> int:
    """The most bytes that a process has held."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.split("VmHWM:")[1].split()[0]) * 1024
