"""Workers and clients in processes of their own, on Pulsar and a database.

- `run WORKERS N DATABASE`: N workflows of three tasks, from two clients. How much CPU workers,
  clients, broker and database use for each.
- `sleep N DATABASE`: N workflows fall asleep, and wake together.

The CPU of servers is 0 if they are on another machine. Processes that this starts end with it.

python -m bench.scale run|sleep …
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench import load, servers
from bench.processes import find_listener, measure_cpu, measure_memory
from bench.real_workloads import new_label, running
from bench.workloads import Adder, Bench
from infinitic import Client, Worker

CLIENTS = 2
IN_FLIGHT = 200
"""Workflows in flight, of all clients together."""

WARM_UP = 200
STARTING = 500
"""Workflows that are being started at once."""


async def work(label: str, database: str, folder: str) -> None:
    """Run one worker until its standard input ends."""
    transport = servers.transport(label)
    async with transport, servers.storage(database, label, Path(folder)) as storage:
        worker = Worker(transport, storage)
        worker.add_service(Adder())
        worker.add_workflow(Bench)
        async with worker.running():
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)


async def call(label: str, n: int) -> None:
    """Run a client: warm up, wait for a line, run N workflows, wait for the end of the input."""
    async with servers.transport(label) as transport, Client(transport) as client:
        stub = client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(WARM_UP)))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await load.drive(n, IN_FLIGHT // CLIENTS, stub.three, load.expected_w1)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def started(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run this module in a process of its own, which ends with its standard input."""
    command = [sys.executable, "-m", "bench.scale", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], beginning: str) -> str:
    """Read lines until one begins so, and return what follows.

    Raises:
        RuntimeError: the process has ended.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line.removeprefix(beginning)
    raise RuntimeError(f"A process has ended before it said {beginning!r}")


def find_servers(database: str) -> Mapping[str, list[int]]:
    """Find the processes of broker and database on this machine. SQLite has none of its own."""
    ports = {"broker": urlsplit(servers.PULSAR).port or 6650, "database": servers.PORTS.get(database, 0)}
    return {name: [pid for pid in [find_listener(port)] if pid is not None] for name, port in ports.items()}


def run(workers: int, n: int, database: str) -> None:
    """Measure N workflows with so many workers."""
    label = new_label()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        hosts: list[subprocess.Popen[str]] = []
        for _ in range(workers):
            hosts.append(stack.enter_context(started("work", label, database, folder)))
            read_until(hosts[-1], "ready")
        callers = [stack.enter_context(started("call", label, str(n // CLIENTS))) for _ in range(CLIENTS)]
        for each in callers:
            read_until(each, "ready")
        groups = {
            "workers": [each.pid for each in hosts],
            "clients": [each.pid for each in callers],
            **find_servers(database),
        }
        before = {name: measure_cpu(pids) for name, pids in groups.items()}
        began = time.perf_counter()
        for each in callers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        answers = [json.loads(read_until(each, "@result ")) for each in callers]
        wall = time.perf_counter() - began
        used = {name: (measure_cpu(pids) - before[name]) / n * 1e6 for name, pids in groups.items()}
        memory = max(measure_memory(each.pid) for each in hosts)
    load.result(
        per_s=round(n / wall, 1),
        p50_ms=max(each["p50_ms"] for each in answers),
        worker_mib=round(memory, 1),
        **{f"{name}_us": round(each) for name, each in used.items()},
    )


async def sleep(n: int, database: str, seconds: float = 0.0) -> None:
    """Let N workflows fall asleep, then wake together. They wake when all of them sleep.

    Args:
        n: how many.
        database: where they are stored.
        seconds: from now until they wake; 0: as long as it takes to start them, and a half more.
    """
    adder = Adder([n])
    async with running(adder, database) as worker:
        stub = worker.client.new_workflow(Bench)
        rate = await start(500, lambda: worker.client.dispatch(stub.echo, 1))
        wake_at = time.time() + (seconds or 20 + 1.5 * n / rate)
        before = measure_memory(os.getpid())
        started_per_s = await start(n, lambda: worker.client.dispatch(stub.nap, wake_at - time.time()))
        if time.time() > wake_at:
            raise RuntimeError("Some of them woke before all of them were started: give them more seconds")
        asleep, largest = measure_memory(os.getpid()), 0.0
        waiting = asyncio.ensure_future(adder.reached[n].wait())
        while not waiting.done():
            largest = max(largest, measure_memory(os.getpid()))
            await asyncio.wait([waiting], timeout=1.0)
        offset = time.time() - time.perf_counter()
    woke = sorted(stamp + offset for stamp in adder.stamps)
    load.result(
        sleeping=n,
        started_per_s=round(started_per_s, 1),
        first_late_s=round(woke[0] - wake_at, 2),
        last_late_s=round(woke[-1] - wake_at, 2),
        woken_per_s=round(n / (woke[-1] - wake_at), 1),
        mib_before=round(before, 1),
        mib_asleep=round(asleep, 1),
        mib_largest=round(largest, 1),
    )


async def start(n: int, one: Callable[[], Awaitable[object]]) -> float:
    """Start N workflows, a bounded number at a time. Return how many a second."""
    numbers = iter(range(n))

    async def lane() -> None:
        for _ in numbers:
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(min(STARTING, n))))
    return n / (time.perf_counter() - began)


def main(mode: str, *given: str) -> None:
    match mode:
        case "work":
            asyncio.run(work(*given))
        case "call":
            asyncio.run(call(given[0], int(given[1])))
        case "run":
            run(int(given[0]), int(given[1]), given[2])
        case _:
            asyncio.run(sleep(int(given[0]), given[1], *map(float, given[2:])))


if __name__ == "__main__":
    main(*sys.argv[1:])
