"""A broken transport of several processes: that of `examples/adapter`."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

sys.path.append(str(Path(__file__).parents[2] / "examples" / "adapter"))

from infinitic_shelf.session import Session
from infinitic_shelf.transport import ShelfTransport

from infinitic.transport import Transport
from infinitic_testing.conformance import TransportConformance
from tests.conformance.transport_broken import broken


class OnShelf(TransportConformance):
    """What is broken is the transport."""

    embedded, patience, silence = True, 4.0, 0.2
    kind: ClassVar[type[ShelfTransport]] = ShelfTransport

    @cached_property
    def folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory()

    def connect(self) -> Transport:
        return self.kind(self.folder.name)

    def make_connector(self) -> Callable[[], Transport]:
        return partial(ShelfTransport, self.folder.name)

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, ShelfTransport)
        await transport.crash()


class _Parochial(Session):
    here: ClassVar[set[int]] = set()

    def _open(self) -> sqlite3.Connection:
        database = super()._open()
        self.here.add(self.number)
        return database

    def _lives(self, number: int) -> bool:
        return number not in self.here or super()._lives(number)


class _SeesItsOwnDead(ShelfTransport):
    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self._session = _Parochial(Path(path))


@broken("LIF-9")
class SeesItsOwnDead(OnShelf):
    """What dies in another process is taken to live for ever."""

    kind = _SeesItsOwnDead
