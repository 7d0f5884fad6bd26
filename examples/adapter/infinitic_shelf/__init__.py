"""A storage that keeps workflows in one folder: an example of an adapter of your own.

It keeps the whole contract of `infinitic.storage`, with the standard library and msgspec. It is
small, and not fast: everything is in memory, too, and each commit waits for the disk. The transport
of the same name is in `infinitic_shelf.transport`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field

from infinitic.plugins import Settings
from infinitic.storage import (
    Change,
    Claim,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    StorageCapabilities,
    StorageClosed,
    Stored,
    TagChange,
    TagKey,
    TagStorage,
    Written,
)
from infinitic.storage.checks import check_changes, check_history, check_purge
from infinitic.storage.tag_rules import check_claim, check_members, check_tag_changes, check_tag_key
from infinitic_shelf.journal import Journal
from infinitic_shelf.rows import Rows, Step

T = TypeVar("T")

DEFAULT_DEDUPLICATION_WINDOW = 14 * 86_400.0
DEFAULT_MAX_VALUE = 16 * 1024 * 1024


class ShelfSettings(Settings):
    """One folder, for the processes of one machine."""

    path: Path = Field(description="The folder. Created if it is missing")
    max_value_bytes: int = Field(DEFAULT_MAX_VALUE, gt=0, description="Bytes of one head, events or outbox at most")


class ShelfStates(StateStorage):
    """The methods. One thread runs them in order, so that the loop never waits for the disk.

    A method that is cancelled before its turn is never run. Later, it is run to its end. So a
    cancelled commit has an unknown outcome, and later methods see all of it or nothing.

    Args:
        journal: the folder.
        deduplication_window: seconds for which deduplication ids and remnants are kept.
        max_value: bytes of one head, of events or of an outbox.
    """

    __slots__ = ("_closed", "_deduplication_window", "_journal", "_max_value", "_thread")

    def __init__(self, journal: Journal, deduplication_window: float, max_value: int) -> None:
        self._journal = journal
        self._deduplication_window = deduplication_window
        self._max_value = max_value
        self._thread = ThreadPoolExecutor(1, "infinitic-shelf")
        self._closed = False

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return await self.do(lambda rows: rows.load(keys))

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        check_history(after, limit, sequences)
        return await self.do(lambda rows: rows.history(key, after, limit, sequences, outbox))

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        check_changes(changes, self._max_value)

        def commit(rows: Rows) -> list[Outcome]:
            outcomes = [rows.decide(change) for change in changes]
            won = [change for change, outcome in zip(changes, outcomes, strict=True) if isinstance(outcome, Written)]
            if won:
                self._journal.append(Step.of(won))
            return outcomes

        return await self.do(commit)

    async def find(self, query: Query) -> Page:
        return await self.do(lambda rows: rows.find(query))

    async def purge(self, now: float, limit: int = 1000) -> int:
        check_purge(now, limit)

        def purge(rows: Rows) -> int:
            expired = rows.expired(now, limit, self._deduplication_window)
            if expired.instances or expired.deduplication_ids or expired.remnants:
                self._journal.append(Step(expired=expired))
            self._journal.compact()
            removed = len(expired.instances) + len(expired.deduplication_ids)
            # More remnants may be due.
            return removed if len(expired.remnants) < limit else limit

        return await self.do(purge)

    async def do(self, verb: Callable[[Rows], T]) -> T:
        """Do it in the thread, alone with the folder."""
        if self._closed:
            raise StorageClosed("This storage is closed")

        def alone() -> T:
            with self._journal.opened() as rows:
                return verb(rows)

        return await asyncio.get_running_loop().run_in_executor(self._thread, alone)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            done = self._thread.submit(self._journal.close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(done))


class ShelfTags(TagStorage):
    """The methods of tags, in the same thread.

    Args:
        states: does them.
        journal: the folder.
        deduplication_window: seconds for which removed members are remembered.
    """

    __slots__ = ("_deduplication_window", "_journal", "_states")

    def __init__(self, states: ShelfStates, journal: Journal, deduplication_window: float) -> None:
        self._states = states
        self._journal = journal
        self._deduplication_window = deduplication_window

    async def update(self, changes: Sequence[TagChange]) -> None:
        check_tag_changes(changes)

        def update(rows: Rows) -> None:
            written = rows.tags.update(changes, self._deduplication_window)
            if written:
                self._journal.append(Step(members=written))

        await self._states.do(update)

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        check_members(key, until, after, limit)
        return await self._states.do(lambda rows: rows.tags.members(key, until, after, limit))

    async def count(self, key: TagKey) -> int:
        check_tag_key(key)
        return await self._states.do(lambda rows: rows.tags.count(key))

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        check_claim(key, id, version, at)

        def claim(rows: Rows) -> Claim:
            claim, written = rows.tags.claim(key, id, version, at, self._deduplication_window)
            if written:
                self._journal.append(Step(members=written))
            return claim

        return await self._states.do(claim)

    async def purge(self, now: float, limit: int = 1000) -> int:
        check_purge(now, limit)

        def purge(rows: Rows) -> int:
            expired = rows.tags.list_expired(now, limit)
            if expired:
                self._journal.append(Step(expired_members=expired))
            self._journal.compact()
            return len(expired)

        return await self._states.do(purge)


class ShelfStorage(Storage):
    """States and tags in one folder.

    Args:
        path: the folder, which is made if it is missing.
        deduplication_window: seconds for which deduplication ids and remnants are kept.
        max_value: bytes of one head, of events or of an outbox.
    """

    __slots__ = ("_states", "capabilities", "states", "tags")

    Settings: ClassVar[type[BaseModel]] = ShelfSettings

    def __init__(
        self,
        path: Path | str,
        *,
        deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW,
        max_value: int = DEFAULT_MAX_VALUE,
    ) -> None:
        self.capabilities = StorageCapabilities(
            max_value=max_value,
            durable=True,
            deduplication_window=deduplication_window,
        )
        journal = Journal(Path(path))
        self.states = self._states = ShelfStates(journal, deduplication_window, max_value)
        self.tags = ShelfTags(self._states, journal, deduplication_window)

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        return cls(settings.path, deduplication_window=deduplication_window, max_value=settings.max_value_bytes)

    async def prepare(self) -> None:
        await self._states.do(lambda rows: None)

    async def close(self) -> None:
        await self._states.close()
