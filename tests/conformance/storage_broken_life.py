"""Mutants whose connections break: by a race, a cancel, an outage, a close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.storage import (
    Change,
    Outcome,
    Published,
    StateKey,
    StorageConfigurationError,
    StorageUnavailable,
    Stored,
)
from tests.conformance.storage_sound import Connection, Link, Server, broken


@broken("STO-2", "STO-8")
class LookThenWrite(Link):
    """The version is compared, and written a moment later."""

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        before = await self.inner.load([each.key for each in changes])
        await self.pause()
        now = await self.inner.load([each.key for each in changes])
        return await self.inner.commit([_rebase(each, before, now) for each in changes])


def _rebase(change: Change | Published, before: dict[StateKey, Stored], now: dict[StateKey, Stored]) -> Any:
    """The change as if nothing had happened since `before`."""
    old, new = before.get(change.key), now.get(change.key)
    if isinstance(change, Published) or new is None or old == new or change.expected != (old and old.version):
        return change
    version = max(change.version, new.version + 1)
    segment = change.segment and replace(change.segment, sequence=new.sequence + 1)
    return replace(change, expected=new.version, version=version, segment=segment)


@broken("STO-7")
class HalfWritten(Link):
    """A commit that is cancelled leaves its heads."""

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        try:
            await self.pause()
        except asyncio.CancelledError:
            heads = [each for each in changes if isinstance(each, Change)]
            await self.inner.commit([replace(each, segment=None, deduplication_ids=(), entry=None) for each in heads])
            raise
        return await self.inner.commit(changes)


@broken("STO-8", "STO-2")
class Deadlock(Link):
    """Batches that meet fail."""

    held: dict[int, set[StateKey]] = {}  # noqa: RUF012 (of all links)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        keys = {each.key for each in changes}
        held = self.held.setdefault(id(self.server), set())
        if held & keys:
            raise StorageUnavailable("deadlock detected")
        held |= keys
        try:
            return await super().commit(changes)
        finally:
            held -= keys


@broken("OUT-4")
class LeakySlots(Link):
    """A verb that is cancelled keeps its place in the pool."""

    slots = 20

    async def pause(self) -> None:
        if not self.slots:
            raise StorageUnavailable("the pool is empty")
        self.slots -= 1
        await super().pause()
        self.slots += 1


@broken("OUT-1")
class BareErrors(Link):
    """What the driver raises comes through."""

    async def pause(self) -> None:
        try:
            await super().pause()
        except StorageUnavailable as error:
            raise ConnectionResetError("reset by peer") from error


@broken("OUT-1")
class NeverAgain(Link):
    """A connection that was lost stays lost."""

    lost = False

    async def pause(self) -> None:
        self.lost = self.lost or not self.server.up
        if self.lost:
            raise StorageUnavailable("the connection is lost")
        await super().pause()


@broken("STO-5")
class NoDisk(Server):
    """A crash takes what was written."""

    def crash(self) -> None:
        super().crash()
        self.wipe()


@broken("STO-5")
class SessionOnly(Connection):
    """What was written goes with the connection."""

    async def close(self) -> None:
        await super().close()
        self.server.wipe()


@broken("MIG-1")
class RacingPrepare(Connection):
    """Tables that someone else makes at the same time are an error."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self.server.tables:
            await asyncio.sleep(0)
            if self.server.tables:
                raise StorageConfigurationError("the table exists already")
            self.server.tables = True


@broken("MIG-1")
class PrepareErases(Connection):
    """Prepared again, a database is empty."""

    async def prepare(self) -> None:
        await super().prepare()
        self.server.wipe()


@broken("CLOSE")
class OpenAfterClose(Connection):
    """A closed connection goes on."""

    async def close(self) -> None:
        pass


@broken("CLOSE")
class CloseOnce(Connection):
    """A connection that is closed twice complains."""

    closed = False

    async def close(self) -> None:
        if self.closed:
            raise StorageUnavailable("already closed")
        self.closed = True
        await super().close()
