"""A broken storage of several processes: that of `examples/adapter`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock

sys.path.append(str(Path(__file__).parents[2] / "examples" / "adapter"))

from infinitic_shelf import ShelfStorage
from infinitic_shelf.journal import Journal
from infinitic_shelf.rows import Rows

from infinitic.storage import Storage
from infinitic_testing.conformance import StorageBackend, StorageConformance
from tests.conformance.storage_sound import MUTANTS, Mutant

_lock = Lock()


class _LocksItsOwnProcess(Journal):
    @contextmanager
    def opened(self) -> Generator[Rows]:
        with _lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._catch_up()
            # Otherwise they might not meet.
            Event().wait(0.005)
            yield self._rows


class LocksItsOwnProcess(ShelfStorage):
    """Writes of one process are one after the other, and those of two processes are not."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self._states._journal = _LocksItsOwnProcess(Path(path))  # pyright: ignore[reportPrivateUsage]  # broken on purpose


class _Backend(StorageBackend):
    def __init__(self) -> None:
        self.folder = TemporaryDirectory()

    def connect(self) -> Storage:
        return LocksItsOwnProcess(self.folder.name)

    def make_connector(self) -> Callable[[], Storage]:
        return partial(LocksItsOwnProcess, self.folder.name)

    async def dispose(self) -> None:
        self.folder.cleanup()


class OnShelf(StorageConformance):
    """The suite on what is broken."""

    patience = 5.0

    def backend(self) -> StorageBackend:
        return _Backend()


MUTANTS.append(
    Mutant(LocksItsOwnProcess.__name__, (LocksItsOwnProcess.__doc__ or "").strip(".\n "), ("KILL-1",), OnShelf)
)
