"""A signal to all instances of a tag: what it costs an instance, and the memory that it takes.

`engine`: only the tag engine runs, on SQLite. What it sends to the instances is counted, and goes
no further: so the memory is its own. Meanwhile a client asks for members of the same tag.

`whole`: the instances run, on the in-memory broker and storage. They end by the signal.

python -m bench.fan_out engine|whole N
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import load, servers
from bench.tag_floor import make_ids
from bench.tag_workloads import measure_memory
from infinitic import Channel, Worker, Workflow, topics
from infinitic.storage import Query, Storage, TagChange, TagKey, TagKind, WorkflowStatus
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

TAG = TagKey(TagKind.WORKFLOW, "Crowd", "all")


class Crowd(Workflow):
    """The instances. None of them runs here."""

    news = Channel[str]()

    async def listen(self) -> str:
        return await self.news.receive()


class Counting(InMemoryTransport):
    """A connection that counts the messages to instances, and drops them."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.growth = 0
        self.before = 0
        self.complete = asyncio.Event()
        self.expected = 0

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if topic != topics.workflow_engine("Crowd"):
            await super().publish(topic, messages)
            return
        self.sent += len(messages)
        self.growth = max(self.growth, measure_memory() - self.before)
        if self.sent >= self.expected:
            self.complete.set()


async def until_ready(worker: Worker) -> None:
    while not worker.ready:  # noqa: ASYNC110 (a turn of the loop, no wait)
        await asyncio.sleep(0)


async def engine(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        transport, storage = Counting(), servers.storage("sqlite", "fan", Path(folder))
        async with transport, storage:
            await storage.prepare()
            added_at = time.time()
            for batch in make_ids(count):
                await storage.tags.update([TagChange(TAG, id.decode(), True, 0, added_at) for id in batch])
            worker = Worker(transport, storage)
            worker.add_workflow_tag_engine(Crowd)
            running = asyncio.create_task(worker.run())
            await until_ready(worker)
            by_tag = worker.client.get_workflow_by_tag(Crowd, "all")
            # It loads code, and fills buffers.
            await worker.client.get_ids(by_tag, limit=1000)
            transport.expected, transport.before = count, measure_memory()
            waits: list[float] = []

            async def ask() -> None:
                while True:
                    asked = time.perf_counter()
                    await worker.client.get_ids(by_tag, limit=10)
                    waits.append(time.perf_counter() - asked)
                    await asyncio.sleep(0.05)

            began, cpu = time.perf_counter(), time.process_time()
            await by_tag.news.send("hello")
            asking = asyncio.create_task(ask())
            await transport.complete.wait()
            wall, used = time.perf_counter() - began, time.process_time() - cpu
            for task in (asking, running):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert transport.sent == count, f"{transport.sent:,} of {count:,}"
            load.result(
                per_s=count / wall,
                cpu_us=used / count * 1e6,
                growth_bytes=transport.growth,
                wait_p99_ms=load.percentile(waits or [0.0], 0.99) * 1e3,
            )


async def whole(count: int) -> None:
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage, cache_size=count)
        worker.add_workflow(Crowd)
        running = asyncio.create_task(worker.run())
        await until_ready(worker)
        client, numbers = worker.client, iter(range(count))

        async def start() -> None:
            for _ in numbers:
                await client.dispatch(client.new_workflow(Crowd, tags={"all"}).listen)

        await asyncio.gather(*(start() for _ in range(200)))
        await until(lambda: is_left(storage, WorkflowStatus.RUNNING, count, count))
        began, cpu = time.perf_counter(), time.process_time()
        await client.get_workflow_by_tag(Crowd, "all").news.send("hello")
        await until(lambda: is_left(storage, WorkflowStatus.COMPLETED, count, 0))
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    load.result(per_s=count / wall, cpu_us=used / count * 1e6)


async def is_left(storage: Storage, status: WorkflowStatus, count: int, members: int) -> bool:
    """Whether so many instances have this status, and the tag has so many members."""
    found = await storage.states.count(Query(status=status, limit=1_000_000))
    return found == count and await storage.tags.count(TAG) == members


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition. To look at it more often would cost what is measured."""
    while not await condition():  # noqa: ASYNC110 (the storage tells no one)
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run({"engine": engine, "whole": whole}[sys.argv[1]](int(sys.argv[2])))
