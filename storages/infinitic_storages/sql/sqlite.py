"""The storage `sqlite`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from infinitic.errors import ConfigurationError
from infinitic.storage import Change, Claim, Outcome, Published, StorageClosed, TagChange, TagKey
from infinitic.storage.checks import check_changes
from infinitic_storages.sql.borrowed import BorrowedWrites, HasConnection, WritesInFile
from infinitic_storages.sql.settings import SqliteSettings, Synchronous
from infinitic_storages.sql.storage import DEFAULT_DEDUPLICATION_WINDOW, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import SqlDatabase


T = TypeVar("T")

_AT_A_TIME = 16
"""How many changes are written at a time at most, where that is done on the loop."""


class SqliteStorage(SqlStorage):
    """States in one SQLite file, for the processes of one machine.

    With `synchronous: normal` it is not durable: a power cut may undo what was written last.

    Args:
        settings: where the file is. `:memory:` is refused: use the storage `in_memory` for that.
        deduplication_window: seconds for which deduplication ids and remnants are kept; default is
            14 days.

    Raises:
        ConfigurationError: the path is not that of a file.
        MissingDriverError: SQLAlchemy is not installed.
    """

    Settings: ClassVar[type[SqliteSettings]] = SqliteSettings
    extra = "sqlite"

    def __init__(self, settings: SqliteSettings, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW) -> None:
        if str(settings.path) == ":memory:" or str(settings.path).startswith("file:"):
            raise ConfigurationError(
                f"The storage 'sqlite' needs the path of a file, not {str(settings.path)!r}: "
                "use the storage 'in_memory', which keeps everything in the process"
            )
        self._settings = settings
        self._host: WritesInFile | None = None
        durable = settings.synchronous is Synchronous.FULL
        super().__init__(
            deduplication_window, settings.max_value, settings.pool_size, settings.deadline_seconds, durable=durable
        )

    @classmethod
    def from_settings(cls, settings: SqliteSettings, *, deduplication_window: float) -> Self:
        return cls(settings, deduplication_window=deduplication_window)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._settings.path

    @property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return self._deadline

    def check_changes(self, changes: Sequence[Change]) -> None:
        """Check what `write_in` is given.

        Raises:
            StorageClosed: this storage is closed.
            InvalidArgument: see `StateStorage.commit`.
            ValueTooLarge: likewise.
        """
        if self._closed:
            raise StorageClosed("This storage is closed")
        check_changes(changes, self.capabilities.max_value)

    def write_in(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> list[Outcome]:
        """Write changes in a transaction of somebody else: of a transport in the same file.

        Args:
            connection: in a transaction that has the right to write. Its owner commits it.
            changes: those that `check_changes` has checked.

        Returns:
            One outcome for each change, as `StateStorage.commit`.

        Raises:
            StorageNotPrepared: the tables are missing. Nothing was written.
            sqlite3.Error: the transaction has to be undone.
        """
        return self._borrowed.commit(connection, changes)

    def write_by(self, host: WritesInFile) -> None:
        """Write by this one from now on, as long as it can be used.

        Two connections that write to one file would wait for each other.
        """
        self._host = host

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        host = self._find_host()
        if host is None:
            return await super().commit(changes)
        works = [
            (partial(_work, self._borrowed.commit, changes=chunk), sum(map(_measure, chunk)))
            for chunk in (changes[start : start + _AT_A_TIME] for start in range(0, len(changes), _AT_A_TIME))
        ]
        return [each for outcomes in await host.write(works, self._deadline) for each in outcomes]

    async def update_tags(self, changes: Sequence[TagChange]) -> None:
        host = self._find_host()
        if host is None:
            await super().update_tags(changes)
            return
        window = self.capabilities.deduplication_window
        await host.write(
            [(partial(_work, self._borrowed.update_tags, changes=changes, window=window), 0)], self._deadline
        )

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        host = self._find_host()
        if host is None:
            return await super().claim(key, id, version, at)
        window = self.capabilities.deduplication_window
        work = partial(_work, self._borrowed.claim, key=key, id=id, version=version, at=at, window=window)
        [claim] = await host.write([(work, 0)], self._deadline)
        return claim

    def _find_host(self) -> WritesInFile | None:
        """Whom to write by; None: this storage writes by itself.

        Raises:
            StorageClosed: this storage is closed.
        """
        if self._closed:
            raise StorageClosed("This storage is closed")
        host = self._host
        return host if host is not None and host.is_usable() else None

    def _open(self) -> SqlDatabase:
        from infinitic_storages.sql.dialects.sqlite import SqliteDatabase

        database = SqliteDatabase(self._settings)
        self._borrowed = BorrowedWrites(database)
        return database


def _work(write: Callable[..., T], transaction: HasConnection, **arguments: Any) -> T:
    """Write in a transaction of somebody else."""
    return write(transaction.connection, **arguments)


def _measure(change: Change | Published) -> int:
    """Bytes of a change, roughly."""
    if isinstance(change, Published):
        return 0
    segment = change.segment
    return len(change.head) + (0 if segment is None else len(segment.events) + len(segment.outbox or b""))
