"""What the SQL storages share: a thread pool, deadlines, and the methods. Imports no driver.

A method runs in a thread that has a connection to itself. If the method is cancelled and its thread
has begun, the thread runs to its end, so that no connection is lost. A thread that has not begun
never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, TypeVar

from infinitic.clock import SystemClock
from infinitic.diagnosis import Diagnosis
from infinitic.errors import MissingDriverError, StorageError
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
    StorageOutcomeUnknown,
    StorageUnavailable,
    Stored,
    TagChange,
    TagKey,
    TagStorage,
)
from infinitic.storage.checks import check_changes, check_history, check_purge
from infinitic.storage.tag_rules import check_claim, check_members, check_tag_changes, check_tag_key

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import SqlDatabase
    from infinitic_storages.sql.dialects.call import DatabaseCall

T = TypeVar("T")

DEFAULT_DEDUPLICATION_WINDOW = 14 * 86_400.0
"""Seconds that deduplication ids and remnants are kept."""

_GRACE = 2.0
"""Seconds after the deadline until a call is given up. The driver may have a better error."""

_AGAIN = 0.5
"""Seconds until a call that does not end is cut again."""


class SqlStorage(Storage):
    """A database behind SQLAlchemy. Each subclass opens its own kind.

    Args:
        deduplication_window: seconds for which deduplication ids and remnants are kept.
        max_value: bytes of one head, of events or of an outbox.
        pool_size: how many threads with a connection there are.
        deadline: seconds that a call may take, its wait for a thread included.
        durable: whether what is written survives a crash.

    Raises:
        MissingDriverError: the driver is not installed.
    """

    extra: ClassVar[str]
    """The optional dependency that brings the driver. It is also the name in a configuration."""

    def __init__(
        self, deduplication_window: float, max_value: int, pool_size: int, deadline: float, *, durable: bool = True
    ) -> None:
        try:
            self._database = self._open()
        except ImportError as error:
            raise MissingDriverError(f"The storage '{self.extra}'", self.extra, error.name) from error
        self.capabilities = StorageCapabilities(
            max_value=max_value, durable=durable, deduplication_window=deduplication_window
        )
        self._deadline = deadline
        self._readers = ThreadPoolExecutor(pool_size, thread_name_prefix=f"infinitic-{self.extra}")
        self._writers = (
            ThreadPoolExecutor(1, thread_name_prefix=f"infinitic-{self.extra}-writer")
            if self._database.single_writer
            else self._readers
        )
        self._closing: asyncio.Future[None] | None = None
        self._closed = False
        self.states = _SqlStates(self)
        self.tags = _SqlTags(self)

    def _open(self) -> SqlDatabase:
        raise NotImplementedError

    async def prepare(self) -> None:
        """Connect, create or migrate the tables under a lock, and ask for the server's limits."""
        limit = await self.run(self._database.prepare, writes=True, seconds=max(self._deadline, 60.0))
        if limit is not None and limit < self.capabilities.max_value:
            kept = self.capabilities
            self.capabilities = StorageCapabilities(
                max_value=limit, durable=kept.durable, deduplication_window=kept.deduplication_window
            )

    async def diagnose(self) -> list[Diagnosis]:
        """Check the database, see `infinitic.diagnosis`."""
        from infinitic_storages.sql.diagnosis import diagnose  # it imports SQLAlchemy

        return await self.run(lambda call: diagnose(self._database, call, SystemClock()))

    async def close(self) -> None:
        """Let running calls end, then give back every connection. Idempotent."""
        self._closed = True
        if self._closing is None:
            self._closing = asyncio.get_running_loop().run_in_executor(None, self._shut_down)
        await asyncio.shield(self._closing)

    def _shut_down(self) -> None:
        self._readers.shutdown()
        self._writers.shutdown()
        self._database.dispose()

    async def run(
        self,
        work: Callable[[DatabaseCall], T],
        *,
        writes: bool = False,
        changes: Sequence[Change | Published] = (),
        seconds: float | None = None,
    ) -> T:
        """Run `work` in a thread, and return its result.

        Args:
            work: what is done.
            writes: whether it writes. SQLite has one thread for that.
            changes: what it commits.
            seconds: its deadline; by default that of the settings.

        Raises:
            StorageUnavailable: the deadline is over, or the database is away.
            StorageOutcomeUnknown: likewise, and a commit was on its way.
            StorageClosed: the storage has been closed.
        """
        if self._closed:
            raise StorageClosed("This storage is closed")
        deadline = self._deadline if seconds is None else seconds
        call = self._database.call(deadline)
        call.changes = changes
        future = (self._writers if writes else self._readers).submit(self._database.run, call, work)
        loop = asyncio.get_running_loop()
        watchdog = loop.call_later(deadline + _GRACE, self._give_up, loop, future, call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not call.given_up or (task is not None and task.cancelling()):
                raise
            raise self._too_late(call, deadline) from None
        except StorageError as error:
            if call.given_up and not isinstance(error, StorageOutcomeUnknown):
                raise self._too_late(call, deadline) from error
            raise
        finally:
            if future.done():
                watchdog.cancel()
            # It holds the error, whose traceback holds this frame. That cycle would keep the
            # values.
            del future

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        """Write changes that were checked, see `StateStorage.commit`."""
        return await self.run(self._database.commit, writes=True, changes=changes)

    async def update_tags(self, changes: Sequence[TagChange]) -> None:
        """Write changes of tags that were checked, see `TagStorage.update`."""
        window = self.capabilities.deduplication_window
        await self.run(lambda call: self._database.tags.update(call, changes, window), writes=True)

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        """Claim a custom id. The arguments were checked, see `TagStorage.claim`."""
        window = self.capabilities.deduplication_window
        return await self.run(lambda call: self._database.tags.claim(call, key, id, version, at, window), writes=True)

    @classmethod
    def _give_up(cls, loop: asyncio.AbstractEventLoop, future: Future[T], call: DatabaseCall) -> None:
        """Give a call up. If its thread has not begun, it never will.

        If it has begun, its connection is cut, and the thread ends with an error of the driver. It
        may be connecting now, or be between two statements. So this is repeated until it has ended.
        """
        if future.done():
            return
        loop.call_later(_AGAIN, cls._give_up, loop, future, call)
        call.give_up()
        future.cancel()

    @staticmethod
    def _too_late(call: DatabaseCall, deadline: float) -> StorageError:
        if call.sent:
            return StorageOutcomeUnknown(f"No reply to a commit within {deadline:g} seconds")
        return StorageUnavailable(f"No reply within {deadline:g} seconds")

    @property
    def database(self) -> SqlDatabase:
        return self._database


class _SqlStates(StateStorage):
    __slots__ = ("_storage",)

    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        storage = self._storage
        return await storage.run(lambda call: storage.database.load(call, keys))

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
        storage = self._storage
        return await storage.run(lambda call: storage.database.history(call, key, after, limit, sequences, outbox))

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        storage = self._storage
        check_changes(changes, storage.capabilities.max_value)
        return await storage.commit(changes)

    async def find(self, query: Query) -> Page:
        storage = self._storage
        return await storage.run(lambda call: storage.database.find(call, query))

    async def count(self, query: Query) -> int:
        storage = self._storage
        return await storage.run(lambda call: storage.database.count(call, query))

    async def purge(self, now: float, limit: int = 1000) -> int:
        check_purge(now, limit)
        storage = self._storage
        deduplication_window = storage.capabilities.deduplication_window
        return await storage.run(
            lambda call: storage.database.purge(call, now, limit, deduplication_window), writes=True
        )


class _SqlTags(TagStorage):
    __slots__ = ("_storage",)

    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage

    async def update(self, changes: Sequence[TagChange]) -> None:
        check_tag_changes(changes)
        await self._storage.update_tags(changes)

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        check_members(key, until, after, limit)
        storage = self._storage
        return await storage.run(lambda call: storage.database.tags.members(call, key, until, after, limit))

    async def count(self, key: TagKey) -> int:
        check_tag_key(key)
        storage = self._storage
        return await storage.run(lambda call: storage.database.tags.count(call, key))

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        check_claim(key, id, version, at)
        return await self._storage.claim(key, id, version, at)

    async def purge(self, now: float, limit: int = 1000) -> int:
        check_purge(now, limit)
        storage = self._storage
        return await storage.run(lambda call: storage.database.tags.purge(call, now, limit), writes=True)
