"""The rules of the storage contract on each database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from infinitic import ids
from infinitic.storage import Storage
from infinitic_testing.conformance import StorageBackend, StorageConformance
from tests.integration.storages.databases import place


class Real(StorageBackend):
    """Tables, keys or a file of its own for each test."""

    def __init__(self, kind: str) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._place = stack.enter_context(place(kind, f"test_{ids.new_id()[:12]}", folder))
            self._stack = stack.pop_all()

    def connect(self) -> Storage:
        return self._place.storage()

    def make_connector(self) -> Callable[[], Storage]:
        return self._place.storage

    async def dispose(self) -> None:
        self._stack.close()


class TestSqlite(StorageConformance):
    def backend(self) -> StorageBackend:
        return Real("sqlite")


class TestPostgres(StorageConformance):
    def backend(self) -> StorageBackend:
        return Real("postgres")


class TestMysql(StorageConformance):
    def backend(self) -> StorageBackend:
        return Real("mysql")


class TestRedis(StorageConformance):
    def backend(self) -> StorageBackend:
        return Real("redis")
