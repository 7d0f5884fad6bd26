"""The suite of shared commits on the in-memory pair, in virtual time."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from infinitic.clock import Clock
from infinitic.storage import Storage
from infinitic.transport import Transport
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.conformance import SharedCommitConformance
from infinitic_testing.loop import VirtualClock, run
from infinitic_testing.memory_pair import PairedTransport
from infinitic_transports.memory import Broker

T = TypeVar("T")


class OnPair(SharedCommitConformance):
    """What is broken is put in the place of `transport_kind`."""

    patience, silence, delay, virtual = 30.0, 1.0, 2.0, True
    transport_kind: ClassVar[type[PairedTransport]] = PairedTransport

    @cached_property
    def both(self) -> tuple[Broker, Database]:
        return Broker(), Database(max_value=100_000)

    def connect_both(self) -> tuple[Transport, Storage]:
        broker, database = self.both
        return self.transport_kind(broker, clock=self.clock()), InMemoryStorage(database)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return run(main)

    def clock(self) -> Clock:
        return VirtualClock()

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, PairedTransport)
        transport.crash()
