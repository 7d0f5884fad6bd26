"""W1 to W3 and the latency of one workflow alone, on Pulsar and a database, in one process.

python -m bench.real_workloads w1|w2|w3|alone N postgres|mysql|redis|sqlite
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from bench import load, servers
from bench.workloads import WINDOW, Adder, Bench
from infinitic import Worker, ids
from infinitic.storage import Storage
from infinitic.transport import Transport


@contextlib.asynccontextmanager
async def running(adder: Adder, database: str) -> AsyncGenerator[Worker]:
    """A worker as it runs in production, warm."""
    folder = Path(tempfile.mkdtemp())
    label = f"bench_{ids.new_id()[:8]}"
    transport: Transport = servers.transport(label)
    storage: Storage = servers.storage(database, label, folder)
    async with transport, storage:
        worker = Worker(transport, storage)
        worker.add_service(adder)
        worker.add_workflow(Bench)
        task = asyncio.create_task(worker.run())
        while not worker.ready:
            await asyncio.sleep(0.01)
            if task.done():
                await task
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(200)))
        try:
            yield worker
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def w1(n: int, database: str) -> None:
    async with running(Adder(), database) as worker:
        stub = worker.client.new_workflow(Bench)
        await load.drive(n, load.BOUND, stub.three, load.expected_w1)


async def alone(n: int, database: str) -> None:
    """One workflow of three tasks after another: eight hops each."""
    async with running(Adder(), database) as worker:
        stub = worker.client.new_workflow(Bench)
        await load.drive(n, 1, stub.three, load.expected_w1)


async def w2(n: int, database: str) -> None:
    async with running(Adder(), database) as worker:
        stub = worker.client.new_workflow(Bench)
        await load.drive(n, n, lambda _: stub.fan(load.FAN), load.expected_w2)


async def w3(n: int, database: str) -> None:
    adder = Adder()
    async with running(adder, database) as worker:
        began = time.perf_counter()
        stub = worker.client.new_workflow(Bench)
        assert await stub.steps(n) == n
        wall = time.perf_counter() - began
    stamps = adder.stamps
    first, last = stamps[WINDOW] - stamps[0], stamps[-1] - stamps[-1 - WINDOW]
    load.result(
        steps=n,
        step_ms=round(wall / n * 1e3, 3),
        first_ms=round(first / WINDOW * 1e3, 3),
        last_ms=round(last / WINDOW * 1e3, 3),
        ratio=round(last / first, 3),
    )


if __name__ == "__main__":
    workloads = {"w1": w1, "w2": w2, "w3": w3, "alone": alone}
    asyncio.run(workloads[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
