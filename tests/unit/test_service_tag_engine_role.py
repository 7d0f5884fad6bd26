"""The tag engine of a service is a role: beside the executor, alone, and in the file."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import pytest

from infinitic import RegistrationError, UsageError, Worker, topics
from infinitic.config import load
from infinitic.topics import Topic
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

FILE = """
transport: {in_memory: {name: tags-alone}}
storage: {in_memory: {name: tags-alone}}
services:
  - name: Payments
    tag_engine: {concurrency: 5}
"""


class Payments(ABC):
    @abstractmethod
    async def charge(self, amount: int) -> int: ...


class CardPayments(Payments):
    async def charge(self, amount: int) -> int:
        return amount


async def count_consumers(worker: Worker, transport: InMemoryTransport, topic: Topic) -> int:
    async with worker.running():
        stats = await transport.stats(topic)
    found = stats.subscriptions.get(topic.subscription or "")
    return 0 if found is None else found.consumers


@pytest.mark.parametrize("has_storage", [True, False])
def test_who_hosts_a_service_has_its_tag_engine_if_there_is_a_storage(has_storage: bool) -> None:
    transport = InMemoryTransport()
    worker = Worker(transport, InMemoryStorage() if has_storage else None)
    worker.add_service(CardPayments())
    assert asyncio.run(count_consumers(worker, transport, topics.service_tag("Payments"))) == has_storage


def test_an_executor_alone_and_a_tag_engine_alone() -> None:
    transport, storage = InMemoryTransport(), InMemoryStorage()
    executor = Worker(transport, storage)
    executor.add_service_executor(CardPayments())
    assert asyncio.run(count_consumers(executor, transport, topics.service_tag("Payments"))) == 0
    for service in (Payments, CardPayments, "Payments"):
        tags = Worker(transport, storage)
        tags.add_service_tag_engine(service, concurrency=5)
        assert asyncio.run(count_consumers(tags, transport, topics.service_tag("Payments"))) == 1
        with pytest.raises(RegistrationError, match="already hosts the tag engine of the service 'Payments'"):
            tags.add_service_tag_engine(Payments)


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match="A tag engine needs a storage"):
        Worker(InMemoryTransport()).add_service_tag_engine(Payments)
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    with pytest.raises(UsageError, match="add_service_tag_engine takes the class of a service, got an instance"):
        worker.add_service_tag_engine(CardPayments())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="The name of a service must be non-empty text"):
        worker.add_service_tag_engine("")
    with pytest.raises(UsageError, match="concurrency"):
        worker.add_service_tag_engine(Payments, concurrency=0)


def test_a_file_may_name_it_alone() -> None:
    """No class is imported, and no task runs there."""

    async def use() -> tuple[int, int]:
        config = load(text=FILE, environ={})
        transport = config.make_transport()
        async with Worker.from_config(config=config).running():
            found = [await transport.stats(each("Payments")) for each in (topics.service_tag, topics.service_executor)]
        tags, tasks = (each.subscriptions for each in found)
        return tags["tag-engine"].consumers, len(tasks)

    assert asyncio.run(use()) == (1, 0)
