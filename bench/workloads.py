"""W1 to W4, W7 and W9 on the product: real engines, in-memory broker and storage, one process.

python -m bench.workloads w1|w2|w3|w4|w7|w9 N
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta

from bench import load
from infinitic import Worker, Workflow
from infinitic.storage import (
    Change,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    Stored,
)
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

WINDOW = 500


class Adder:
    """One trivial task.

    `stamps` are the times at which it ran. `reached` is set when their number is one of `counts`.
    """

    def __init__(self, counts: Sequence[int] = ()) -> None:
        self.stamps: list[float] = []
        self.reached = {count: asyncio.Event() for count in counts}

    async def add_one(self, x: int) -> int:
        return x + 1

    async def stamp(self, x: int) -> int:
        self.stamps.append(time.perf_counter())
        if len(self.stamps) in self.reached:
            self.reached[len(self.stamps)].set()
        return x + 1


class Bench(Workflow):
    adder = Workflow.new_service(Adder)
    timed = Workflow.new_service(Adder, total_timeout=3600)

    async def three(self, i: int) -> int:
        a = await self.adder.add_one(i)
        b = await self.adder.add_one(a)
        c = await self.adder.add_one(b)
        return a + b + c

    async def fan(self, width: int) -> int:
        tasks = [self.dispatch(self.adder.add_one, k) for k in range(width)]
        return sum(await asyncio.gather(*tasks))

    async def wide(self, width: int) -> int:
        tasks = [self.dispatch(self.timed.add_one, k) for k in range(width)]
        return sum(await asyncio.gather(*tasks))

    async def steps(self, n: int) -> int:
        value = 0
        for _ in range(n):
            value = await self.adder.stamp(value)
        return value

    async def echo(self, i: int) -> int:
        return i

    async def nap(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return await self.adder.stamp(0)

    async def sleeper(self) -> None:
        await asyncio.sleep(timedelta(days=30).total_seconds())


class Parent(Workflow):
    child = Workflow.new_workflow(Bench, total_timeout=3600)

    async def wide(self, width: int) -> int:
        children = [self.dispatch(self.child.echo, k) for k in range(width)]
        return sum(await asyncio.gather(*children))


class CountingStates(StateStorage):
    """Adds up the bytes that each transition writes, and finds the largest head."""

    def __init__(self, states: StateStorage) -> None:
        self.states = states
        self.written: list[int] = []
        self.largest_head = 0

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        for change in changes:
            if isinstance(change, Change) and change.segment is not None:
                outbox = change.segment.outbox or b""
                self.written.append(len(change.head) + len(change.segment.events) + len(outbox))
                self.largest_head = max(self.largest_head, len(change.head))
        return await self.states.commit(changes)

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return await self.states.load(keys)

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        return await self.states.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)

    async def find(self, query: Query) -> Page:
        return await self.states.find(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self.states.purge(now, limit)


class CountingStorage(Storage):
    """A storage that counts."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.capabilities = self.inner.capabilities
        self.counting = CountingStates(self.inner.states)
        self.states = self.counting
        self.tags = self.inner.tags

    async def prepare(self) -> None:
        await self.inner.prepare()

    async def close(self) -> None:
        await self.inner.close()


@contextlib.asynccontextmanager
async def running(storage: Storage, adder: Adder) -> AsyncGenerator[Worker]:
    """A worker as it runs in production, with the settings of `Worker.run`."""
    worker = Worker(InMemoryTransport(), storage)
    worker.add_service(adder)
    worker.add_workflow(Bench)
    worker.add_workflow(Parent)
    task = asyncio.create_task(worker.run())
    while not worker.ready:  # noqa: ASYNC110 (a turn of the loop, no wait)
        await asyncio.sleep(0)
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def w1(n: int) -> None:
    async with running(InMemoryStorage(), Adder()) as worker:
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(100)))
        await load.drive(n, load.BOUND, stub.three, load.expected_w1)


async def w2(n: int) -> None:
    async with running(InMemoryStorage(), Adder()) as worker:
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(100)))
        await load.drive(n, n, lambda _: stub.fan(load.FAN), load.expected_w2)


async def w3(n: int) -> None:
    adder, storage = Adder(), CountingStorage(InMemoryStorage())
    written = storage.counting.written
    async with running(storage, adder) as worker:
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(100)))
        written.clear()
        assert await stub.steps(n) == n
    stamps = adder.stamps
    first, last = stamps[WINDOW] - stamps[0], stamps[-1] - stamps[-1 - WINDOW]
    load.result(
        steps=n,
        first_us=round(first / WINDOW * 1e6, 1),
        last_us=round(last / WINDOW * 1e6, 1),
        ratio=round(last / first, 3),
        first_bytes=round(sum(written[1 : 1 + WINDOW]) / WINDOW, 1),
        last_bytes=round(sum(written[-1 - WINDOW : -1]) / WINDOW, 1),
    )


async def w7(n: int) -> None:
    """One workflow with n parallel tasks that have one timeout; until 20,000 are done."""
    await measure_wide(n, lambda worker: worker.client.new_workflow(Bench).wide, n * (n + 1) // 2)


async def w9(n: int) -> None:
    """One workflow with n children that have one timeout; until 20,000 are done."""
    await measure_wide(n, lambda worker: worker.client.new_workflow(Parent).wide, n * (n - 1) // 2)


async def measure_wide(n: int, choose: Callable[[Worker], Callable[[int], Awaitable[int]]], expected: int) -> None:
    storage = CountingStorage(InMemoryStorage())
    async with running(storage, Adder()) as worker:
        wide = choose(worker)
        await asyncio.gather(*(wide(10) for _ in range(20)))
        times = max(20_000 // n, 1)
        began = time.process_time()
        for _ in range(times):
            assert await wide(n) == expected
        used = time.process_time() - began
    load.result(width=n, cpu_us=round(used / n / times * 1e6, 1), head_bytes=storage.counting.largest_head)


def memory() -> int:
    """Bytes that this process holds."""
    with open("/proc/self/statm") as statistics:
        return int(statistics.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def w4(n: int) -> None:
    async with running(InMemoryStorage(), Adder()) as worker:
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(worker.client.dispatch(stub.sleeper) for _ in range(2000)))
        before = memory()
        handle = None
        for _ in range(n // 100):
            for _ in range(100):
                handle = await worker.client.dispatch(stub.sleeper)
            await asyncio.sleep(0)
        assert handle is not None
        while (await worker.client.describe(handle)).open_timers == 0:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0)
        load.result(sleeping=n, bytes_each=round((memory() - before) / n))


if __name__ == "__main__":
    workloads = {"w1": w1, "w2": w2, "w3": w3, "w4": w4, "w7": w7, "w9": w9}
    asyncio.run(workloads[sys.argv[1]](int(sys.argv[2])))
