"""W10: parallel tasks of one workflow, one by one and in batches, on the in-memory broker.

`rows`: each task writes a row into a SQLite file. One by one that is a transaction each, in batches
one for all of them. `free`: the tasks do nothing, so only what the executor does is left.

python -m bench.batches rows|free single|batch N
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from bench import load
from infinitic import Worker, Workflow, batch, service
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class Database:
    """A table in a file. Each write is durable when it returns."""

    def __init__(self, folder: str) -> None:
        self._connection = sqlite3.connect(Path(folder) / "rows.db", check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY)")
        self._lock = Lock()

    def write(self, numbers: Iterable[int]) -> None:
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO rows VALUES (?)", ((number,) for number in numbers))
            self._connection.execute("COMMIT")

    def count(self) -> int:
        counted: int = self._connection.execute("SELECT count(*) FROM rows").fetchone()[0]
        return counted

    def close(self) -> None:
        self._connection.close()


@service(name="Rows")
class Rows:
    """The tasks, one by one."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, number: int) -> int:
        self.database.write([number])
        return number

    async def add_one(self, number: int) -> int:
        return number + 1


class RowsInBatches(Rows):
    @batch("write", max_seconds=0.05)
    def write_all(self, numbers: dict[str, int]) -> dict[str, int]:
        self.database.write(numbers.values())
        return numbers

    @batch("add_one", max_seconds=0.05)
    async def add_one_to_all(self, numbers: dict[str, int]) -> dict[str, int]:
        return {task_id: number + 1 for task_id, number in numbers.items()}


class Wide(Workflow):
    rows = Workflow.new_service(Rows)

    async def write(self, first: int, width: int) -> int:
        tasks = [self.dispatch(self.rows.write, number) for number in range(first, first + width)]
        return sum(await asyncio.gather(*tasks))

    async def add(self, first: int, width: int) -> int:
        tasks = [self.dispatch(self.rows.add_one, number) for number in range(first, first + width)]
        return sum(await asyncio.gather(*tasks))


async def measure(kind: str, how: str, n: int) -> None:
    """Run n tasks of one workflow, after some to warm up, and print how many are done a second."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Database(folder)) as database:
        worker = Worker(InMemoryTransport(), InMemoryStorage())
        worker.add_service(RowsInBatches(database) if how == "batch" else Rows(database))
        worker.add_workflow(Wide)
        async with worker.running():
            start = worker.client.new_workflow(Wide)
            run = start.write if kind == "rows" else start.add
            more = 0 if kind == "rows" else 1
            for index in range(10):
                await run(-1000 + 100 * index, 100)
            began = time.perf_counter()
            assert await run(0, n) == n * (n - 1) // 2 + more * n
            wall = time.perf_counter() - began
        assert kind == "free" or database.count() == n + 1000
    load.result(tasks=n, per_s=round(n / wall, 1))


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
