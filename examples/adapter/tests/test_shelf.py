"""The shelf keeps the contract of every storage."""

from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

from infinitic_shelf import ShelfStorage

from infinitic.storage import Storage
from infinitic_testing.conformance import StorageBackend, StorageConformance


class Shelf(StorageBackend):
    def __init__(self) -> None:
        self.folder = TemporaryDirectory()

    def connect(self) -> Storage:
        return ShelfStorage(self.folder.name)

    def make_connector(self) -> Callable[[], Storage]:
        return partial(ShelfStorage, self.folder.name)

    async def dispose(self) -> None:
        self.folder.cleanup()


class TestShelf(StorageConformance):
    def backend(self) -> StorageBackend:
        return Shelf()
