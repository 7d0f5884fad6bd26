"""The in-memory storage keeps every rule."""

from __future__ import annotations

from infinitic.storage import Storage
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.conformance import StorageBackend, StorageConformance


class Backend(StorageBackend):
    def __init__(self) -> None:
        self.database = Database(max_value=2 * 1024 * 1024)

    def connect(self) -> Storage:
        return InMemoryStorage(self.database)


class TestInMemoryStorage(StorageConformance):
    def backend(self) -> StorageBackend:
        return Backend()
