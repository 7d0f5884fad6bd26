"""A world whose broker and database are one: its workers commit whole steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic import Worker
from infinitic.storage import Change, Outcome, Published, Storage
from infinitic.transport import Transport
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.memory_pair import PairedTransport
from tests.simulation.observed import SOMEBODY, ObservedDatabase
from tests.simulation.world import World


class OneDatabase(ObservedDatabase):
    """Tells of what is written as published as if that came later: its messages come next."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        outcomes = Database.commit(self, changes)
        if self.observer is not None:
            self.observer.committed(SOMEBODY, [_unpublish(each) for each in changes], outcomes)
        return outcomes


def _unpublish(change: Change | Published) -> Change | Published:
    if isinstance(change, Change) and change.segment is not None and change.segment.outbox is not None:
        return replace(change, published=False)
    return change


class OneDatabaseWorld(World):
    """Its broker and its database share a commit."""

    def __init__(self) -> None:
        super().__init__(database=OneDatabase())

    def worker(self, transport: Transport | None = None, storage: Storage | None = None, **options: Any) -> Worker:
        return super().worker(transport or PairedTransport(self.broker, clock=self.clock), storage, **options)

    def fenced(self, fence: Fence, *, zombie: bool = False, **options: Any) -> Worker:
        def connect() -> PairedTransport:
            return PairedTransport(self.broker, clock=self.clock)

        transport = FencedTransport(connect(), fence, reconnect=connect if zombie else None)
        return self.worker(transport, FencedStorage(InMemoryStorage(self.database), fence), **options)
