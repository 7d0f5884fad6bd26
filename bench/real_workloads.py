"""W1 to W3 and the latency of one workflow alone, on Pulsar and a database, in one process.

python -m bench.real_workloads w1|w2|w3|alone N postgres|mysql|redis|sqlite|only-sqlite

`only-sqlite` is broker and database in one file, without Pulsar. It has no w3.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from urllib.parse import quote

from bench import load, servers
from bench.workloads import WINDOW, Adder, Bench, CountingStorage
from infinitic import Worker, ids
from infinitic.storage import Storage
from infinitic.transport import Transport
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport


@contextlib.asynccontextmanager
async def running(
    adder: Adder,
    database: str,
    label: str | None = None,
    wrapper: Callable[[Storage], Storage] = lambda inner: inner,
    wrap_transport: Callable[[Transport], Transport] = lambda inner: inner,
) -> AsyncGenerator[Worker]:
    """A worker as it runs in production, warm."""
    folder = Path(tempfile.mkdtemp())
    label = label or new_label()
    transport = wrap_transport(servers.broker(database, label, folder))
    storage = wrapper(servers.storage(database, label, folder))
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
    """Measure the first and the last steps: time, bytes to the broker and bytes to the database."""
    numbers = (100, 100 + WINDOW, n - WINDOW, n)
    adder, label, counting = Adder(numbers), new_label(), list[CountingStorage]()

    def wrapper(inner: Storage) -> Storage:
        counting.append(CountingStorage(inner))
        return counting[0]

    async with (
        PulsarTransport(PulsarSettings.model_validate(servers.transport_settings(label))) as broker,
        running(adder, database, label, wrapper) as worker,
    ):
        began = time.perf_counter()
        stub = worker.client.new_workflow(Bench)
        steps = asyncio.create_task(stub.steps(n))
        samples: list[tuple[int, int, int]] = []
        for number in numbers:
            await adder.reached[number].wait()
            taken = await bytes_taken(broker)
            samples.append((len(adder.stamps), taken, sum(counting[0].counting.written)))
        assert await steps == n
        wall = time.perf_counter() - began
    stamps = adder.stamps
    first, last = stamps[100 + WINDOW] - stamps[100], stamps[-1] - stamps[-1 - WINDOW]
    load.result(
        steps=n,
        step_ms=round(wall / n * 1e3, 3),
        first_ms=round(first / WINDOW * 1e3, 3),
        last_ms=round(last / WINDOW * 1e3, 3),
        ratio=round(last / first, 3),
        **{
            f"{which}_{name}_bytes": round((after[at] - before[at]) / (after[0] - before[0]), 1)
            for which, before, after in (("first", samples[0], samples[1]), ("last", samples[2], samples[3]))
            for at, name in ((1, "broker"), (2, "database"))
        },
    )


async def bytes_taken(broker: PulsarTransport) -> int:
    """Bytes that the topics of the namespace have taken in since they were loaded."""
    admin = broker.admin
    total = 0
    for name in (await admin.get(f"{admin.where}/topics")).json():
        kind, _, rest = name.partition("://")
        tenant, namespace, topic = rest.split("/", 2)
        stats = await admin.get(f"{kind}/{tenant}/{namespace}/{quote(topic, safe='')}/stats")
        total += int(stats.json()["bytesInCounter"])
    return total


def new_label() -> str:
    """A namespace and a schema of its own."""
    return f"bench_{ids.new_id()[:8]}"


if __name__ == "__main__":
    workloads = {"w1": w1, "w2": w2, "w3": w3, "alone": alone}
    asyncio.run(workloads[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
