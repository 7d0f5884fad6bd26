"""Broker and storage in one SQLite file: with one commit for both, and with a commit each.

Each way runs W1 (three-task workflows, 200 in flight) and one workflow at a time, in turn with the
other one.

python -m bench.one_file [--runs N] [--output FILE] | together|apart w1|alone N full|normal
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from bench import load
from bench.report import Report, run
from bench.workloads import Adder, Bench
from infinitic import Worker
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic_storages.sql.settings import SqliteSettings, Synchronous
from infinitic_storages.sql.sqlite import SqliteStorage
from infinitic_testing.intercepting import InterceptedStorage, Passing
from infinitic_transports.sqlite import SqliteTransport, SqliteTransportSettings
from infinitic_transports.sqlite.settings import Waiting

WAYS = ("together", "apart")
W1, ALONE = "3000", "300"


async def work(way: str, workload: str, n: int, synchronous: str) -> None:
    """Run one workload one way."""
    path = Path(tempfile.mkdtemp()) / "infinitic.db"
    transport = SqliteTransport(SqliteTransportSettings(path=path, synchronous=Waiting(synchronous)))
    plain: Storage = SqliteStorage(SqliteSettings(path=path, synchronous=Synchronous(synchronous)))
    # One that changes what is written shares no commit.
    storage = plain if way == "together" else ensure_checked(InterceptedStorage(plain, Passing()))
    async with transport, storage:
        worker = Worker(transport, storage)
        worker.add_service(Adder())
        worker.add_workflow(Bench)
        task = asyncio.create_task(worker.run())
        while not worker.ready:
            await asyncio.sleep(0.01)
            if task.done():
                await task
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(200)))
        await load.drive(n, load.BOUND if workload == "w1" else 1, stub.three, load.expected_w1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def main() -> None:
    """Run every way in turn, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_file", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each workload (default 3)")
    parser.add_argument("--output", type=Path, default=Path("bench-results/one-file.json"))
    options = parser.parse_args()
    report = Report("Infinitic in one SQLite file")
    for synchronous in ("full", "normal"):
        for workload, n, figure in (("w1", W1, "per_s"), ("alone", ALONE, "p50_ms")):
            rounds = [
                {way: run("bench.one_file", way, workload, n, synchronous) for way in WAYS} for _ in range(options.runs)
            ]
            name = f"{workload}, synchronous: {synchronous}"
            for way in WAYS:
                report.add(name, f"{way}, {figure}", [each[way][figure] for each in rounds])
                report.add(name, f"{way}, CPU µs a workflow", [each[way]["cpu_us"] for each in rounds])
            report.add(name, "together / apart", [each["together"][figure] / each["apart"][figure] for each in rounds])
    report.publish(options.output)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WAYS:
        asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    else:
        main()
