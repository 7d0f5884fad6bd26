"""Damage in a real database is found, leaves others alone, and ends with a restore."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from infinitic import Channel, Client, Worker, Workflow, WorkflowInfo
from infinitic.storage import Flag, Query, StateKey
from infinitic_storages.compressed import CompressedStorage, Compression
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.integration.storages.databases import Place
from tests.integration.storages.raw import Raw


class Adder:
    async def add(self, x: int, y: int) -> int:
        return x + y


class Sums(Workflow):
    adder = Workflow.new_service(Adder)
    more = Channel[int]()

    async def run(self, start: int) -> int:
        total = await self.adder.add(start, 10)
        total = await self.adder.add(total, 200)
        return await self.adder.add(total, await self.more.receive())


def flip(value: bytes) -> bytes:
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]


def swap(raw: Raw) -> None:
    events = raw.events()
    raw.set_events(2, events[3])
    raw.set_events(3, events[2])


DAMAGES: dict[str, Callable[[Raw], None]] = {
    "a segment is deleted": lambda raw: raw.set_events(2, None),
    "a segment is empty": lambda raw: raw.set_events(2, b""),
    "two segments are swapped": swap,
    "a segment is doubled": lambda raw: raw.set_events(3, raw.events()[2]),
    "a bit of a segment is flipped": lambda raw: raw.set_events(2, flip(raw.events()[2])),
    "a bit of the head is flipped": lambda raw: raw.set_head(flip(raw.head())),
    "the head is empty": lambda raw: raw.set_head(b""),
    "the head is gone": lambda raw: raw.set_head(None),
}


async def told(client: Client, workflow_id: str, enough: Callable[[WorkflowInfo], bool]) -> WorkflowInfo:
    """What is known of the instance, as soon as that is enough."""
    stub = client.get_workflow_by_id(Sums, workflow_id)
    while True:
        info = await client.describe(stub)
        if enough(info):
            return info
        await asyncio.sleep(0.01)


def waits(info: WorkflowInfo) -> bool:
    """Both tasks are done: it waits for its signal."""
    return info.steps == 2 and not info.open_tasks


COMPRESSED = ("a bit of a segment is flipped", "a bit of the head is flipped")


@pytest.mark.parametrize(
    ("damage", "compression"), [*((each, "none") for each in DAMAGES), *((each, "gzip") for each in COMPRESSED)]
)
def test_damage(empty: Place, damage: str, compression: Compression) -> None:
    broker = Broker()

    def worker(storage: CompressedStorage) -> Worker:
        made = Worker(InMemoryTransport(broker), storage)
        made.add_service(Adder())
        made.add_workflow(Sums)
        return made

    async def run() -> None:
        storage = CompressedStorage(empty.storage(), compression, minimum_size=0)
        async with asyncio.timeout(60), storage, Client(InMemoryTransport(broker), storage=storage) as client:
            async with worker(storage).running():
                sick, sound = [(await client.dispatch(client.new_workflow(Sums).run, 1)).workflow_id for _ in range(2)]
                for each in (sick, sound):
                    await told(client, each, waits)
            raw = Raw(empty, StateKey("Sums", sick))
            segments, head = raw.events(), raw.head()
            DAMAGES[damage](raw)
            assert (raw.events() == segments) == ("head" in damage)
            async with worker(storage).running():
                for each in (sick, sound):
                    await client.get_workflow_by_id(Sums, each).more.send(3000)
                assert await client.get_handle(Sums.run, sound).result() == 3211
                info = await told(client, sick, lambda info: info.stalled is not None)
                assert "is damaged" in (info.stalled or "")
                if "head" in damage:
                    raw.set_head(head)
                else:
                    assert await storage.states.count(Query(name="Sums", flag=Flag.STALLED)) == 1
                    for number, value in segments.items():
                        raw.set_events(number, value)
                    await client.retry_workflow_task(client.get_workflow_by_id(Sums, sick), confirm=True)
                assert await client.get_handle(Sums.run, sick).result() == 3211
                assert await storage.states.count(Query(flag=Flag.STALLED)) == 0

    asyncio.run(run())
