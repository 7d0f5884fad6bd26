"""Transport and storage in one SQLite file share a commit that keeps its rules."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from infinitic.shared_commit import WholeStep, find_shared_commit
from infinitic.storage import Storage, StorageNotPrepared
from infinitic.topics import Ordering, Topic
from infinitic.transport import Transport
from infinitic_storages.compressed import CompressedStorage
from infinitic_storages.memory import InMemoryStorage
from infinitic_storages.sql.settings import SqliteSettings, Synchronous
from infinitic_storages.sql.sqlite import SqliteStorage
from infinitic_testing.conformance import SharedCommitConformance, StorageBackend
from infinitic_testing.conformance.shared_commit import name
from infinitic_testing.conformance.storage_bench import V0, make_start
from infinitic_testing.conformance.storage_claims import ClaimRules
from infinitic_testing.conformance.storage_commit import CommitRules
from infinitic_testing.conformance.storage_races import RaceRules
from infinitic_testing.conformance.storage_tags import TagRules
from infinitic_transports.sqlite import SqliteTransport, SqliteTransportSettings
from infinitic_transports.sqlite.settings import Waiting

T = TypeVar("T")

_TOPIC = Topic("somebody", Ordering.SHARED, None)


def make_transport(path: Path, waiting: Waiting = Waiting.NORMAL) -> SqliteTransport:
    return SqliteTransport(SqliteTransportSettings(path=path, synchronous=waiting))


def make_storage(path: Path, synchronous: Synchronous = Synchronous.NORMAL) -> SqliteStorage:
    return SqliteStorage(SqliteSettings(path=path, synchronous=synchronous, max_value=1_000_000))


class TestSqlite(SharedCommitConformance):
    path: Path
    silence = 0.15
    delay = 0.2

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "infinitic.db"

    def connect_both(self) -> tuple[Transport, Storage]:
        return make_transport(self.path), make_storage(self.path)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await main

        return asyncio.run(bounded())

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, SqliteTransport)
        await transport.crash()


class HostedBackend(StorageBackend):
    """Storages that write by the connection of a broker in their file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.brokers: list[SqliteTransport] = []

    def connect(self) -> Storage:
        transport, storage = make_transport(self.path), make_storage(self.path)
        assert transport.share_commit(storage) is not None
        self.brokers.append(transport)
        return storage

    async def dispose(self) -> None:
        for transport in self.brokers:
            await transport.close()


class TestHostedStorage(CommitRules, RaceRules, TagRules, ClaimRules):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.numbers = count()

    def backend(self) -> StorageBackend:
        return HostedBackend(self.folder / f"{next(self.numbers)}.db")


def test_a_storage_outlives_the_broker_that_it_writes_by(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "infinitic.db"
        transport = make_transport(path)
        async with make_storage(path) as storage:
            assert transport.share_commit(storage) is not None
            await storage.prepare()
            await storage.states.commit([make_start(name(1))])
            await transport.close()
            await storage.states.commit([make_start(name(2))])
            assert len(await storage.states.load([name(1), name(2)])) == 2

    asyncio.run(main())


def test_only_the_same_file_is_shared(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "infinitic.db"
        transport = make_transport(path)
        async with make_storage(path) as storage, make_storage(tmp_path / "other.db") as other:
            assert find_shared_commit(transport, storage) is not None
            assert find_shared_commit(transport, CompressedStorage(storage, "gzip")) is not None
            assert find_shared_commit(transport, other) is None
            await storage.prepare()
            (tmp_path / "link.db").symlink_to(path)
            async with make_storage(tmp_path / "link.db") as linked:
                assert find_shared_commit(transport, linked) is not None
        async with InMemoryStorage() as elsewhere:
            assert find_shared_commit(transport, elsewhere) is None
        await transport.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("waiting", "synchronous", "shares"),
    [
        (Waiting.FULL, Synchronous.FULL, True),
        (Waiting.FULL, Synchronous.NORMAL, True),
        (Waiting.NORMAL, Synchronous.NORMAL, True),
        (Waiting.NORMAL, Synchronous.FULL, False),
    ],
)
def test_a_durable_storage_needs_a_durable_commit(
    tmp_path: Path, waiting: Waiting, synchronous: Synchronous, shares: bool
) -> None:
    async def main() -> None:
        path = tmp_path / "infinitic.db"
        transport = make_transport(path, waiting)
        async with make_storage(path, synchronous) as storage:
            assert (find_shared_commit(transport, storage) is not None) is shares
        await transport.close()

    asyncio.run(main())


def test_tables_that_are_missing_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "infinitic.db"
        async with make_transport(path) as transport, make_storage(path) as storage:
            shared = find_shared_commit(transport, storage)
            assert shared is not None
            consumer = await transport.subscribe(_TOPIC, "main", 1)
            with pytest.raises(StorageNotPrepared):
                await shared.commit([WholeStep(make_start(name(1)), (), consumer, ())])
            await storage.prepare()
            [written] = await shared.commit([WholeStep(make_start(name(1)), (), consumer, ())])
            assert getattr(written, "version", None) == V0

    asyncio.run(main())
