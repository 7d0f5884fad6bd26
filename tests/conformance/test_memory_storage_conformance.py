"""The in-memory storage keeps every rule, also behind a network without faults."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from infinitic.storage import Storage
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.conformance import StorageBackend, StorageConformance
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.loop import VirtualClock, run
from infinitic_testing.network import Network
from tests.unit.network_bench import FakeProcess

MAX_VALUE = 2 * 1024 * 1024


class Backend(StorageBackend):
    def __init__(self) -> None:
        self.database = Database(max_value=MAX_VALUE)

    def connect(self) -> Storage:
        return InMemoryStorage(self.database)


class NetworkBackend(StorageBackend):
    def __init__(self) -> None:
        choices = Choices(7)
        plan = FaultPlan(Faults.none(), choices)
        self.network = Network(choices=choices, plan=plan, clock=VirtualClock(), max_value=MAX_VALUE)

    def connect(self) -> Storage:
        return self.network.connect_storage(FakeProcess())


class TestInMemoryStorage(StorageConformance):
    def backend(self) -> StorageBackend:
        return Backend()


class TestNetworkStorage(StorageConformance):
    """Each call takes time on its way."""

    def backend(self) -> StorageBackend:
        return NetworkBackend()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        run(coroutine)
