"""SQLite through the standard library.

There is one writer. It holds the database while it reads and writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import QueuePool

from infinitic.storage import StorageConfigurationError
from infinitic_storages.sql.commit import Facts, HeadRow, Plan, Question, StoredRow
from infinitic_storages.sql.dialects.base import SqlDatabase
from infinitic_storages.sql.dialects.call import DatabaseCall, Failure
from infinitic_storages.sql.settings import SqliteSettings
from infinitic_storages.sql.tables import Tables
from infinitic_storages.sql.tags import MemberRow

OLDEST = (3, 35, 0)

_RETRY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT}
_CONFIGURATION = {
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: create its directory, or check the permissions",
    sqlite3.SQLITE_PERM: "access is denied: check the permissions of the file",
    sqlite3.SQLITE_READONLY: "the file cannot be written: check the permissions of the file and its directory",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database: use another path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup",
}
_COLUMNS = (
    "version, head, sequence, published, expires_at, status, workflow_version, started_at, closed_at, next_wake, flag"
)
_INSERT = f"INSERT INTO infinitic_states ({_COLUMNS}, name, key) VALUES ({', '.join('?' * 13)})"
_UPDATE = "UPDATE infinitic_states SET version = ?, head = ?, sequence = ?, published = ?, expires_at = ? WHERE key = ?"
_UPDATE_ALL = f"UPDATE infinitic_states SET {_COLUMNS.replace(',', ' = ?,')} = ? WHERE key = ?"
_LOOK = "SELECT version, sequence, head IS NOT NULL FROM infinitic_states WHERE key = ?"
_KNOWN = "SELECT 1 FROM infinitic_marks WHERE key = ? AND mark = ?"
_FORGET = (
    "DELETE FROM infinitic_marks WHERE (key, mark) IN (SELECT key, mark FROM infinitic_marks "
    "WHERE at <= :about AND at + :window <= :now ORDER BY at LIMIT :limit)"
)
_MEMBER = (
    "INSERT INTO infinitic_tags AS t (key, id, live, version, at, expires_at, holder) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key, id) DO UPDATE SET live = excluded.live, version = excluded.version, at = excluded.at, "
    "expires_at = excluded.expires_at, holder = excluded.holder "
    "WHERE excluded.version > t.version OR (excluded.version = t.version AND t.live AND NOT excluded.live)"
)
_LOCK_ROW = "INSERT OR IGNORE INTO infinitic_custom_ids (key, expires_at) VALUES (?, ?)"
_LEAVE = (
    "DELETE FROM infinitic_tags WHERE (key, id) IN (SELECT key, id FROM infinitic_tags "
    "WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit)"
)
_UNLOCK = (
    "DELETE FROM infinitic_custom_ids WHERE key IN (SELECT key FROM infinitic_custom_ids "
    "WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit)"
)


class SqliteDatabase(SqlDatabase):
    """One file."""

    single_writer = True

    def __init__(self, settings: SqliteSettings) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise StorageConfigurationError(
                f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, OLDEST))} is needed. "
                "Use a Python that was built with a newer one"
            )
        self._settings = settings
        engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=settings.pool_size + 1,
            max_overflow=0,
            pool_timeout=settings.deadline_seconds,
        )
        super().__init__(engine, Tables(), f"SQLite at {settings.path}")

    def _connect(self) -> sqlite3.Connection:
        settings = self._settings
        connection = sqlite3.connect(
            settings.path,
            timeout=min(5.0, settings.deadline_seconds / 2),
            isolation_level=None,
            # The pool lends it to one thread at a time.
            check_same_thread=False,
        )
        try:
            connection.execute(f"PRAGMA synchronous = {settings.synchronous.value}")
        except BaseException:
            connection.close()
            raise
        return connection

    def classify(self, error: BaseException) -> tuple[Failure, str]:
        if not isinstance(error, sqlite3.Error):
            return Failure.OTHER, ""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _RETRY:
            return Failure.RETRY, f"{error} (another process holds the file)"
        if code == sqlite3.SQLITE_FULL:
            return Failure.FULL, str(error)
        if code == sqlite3.SQLITE_IOERR:
            return Failure.LOST, str(error)
        if code in _CONFIGURATION:
            return Failure.CONFIGURATION, f"{error}: {_CONFIGURATION[code]}"
        if "no such table" in str(error) or "no such column" in str(error):
            return Failure.NOT_PREPARED, str(error)
        return Failure.OTHER, str(error)

    def sever(self, driver: Any) -> None:
        # It may be closed.
        with suppress(sqlite3.Error):
            driver.interrupt()

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def lock(self, connection: Connection) -> Generator[None]:
        self._check_owner(connection)
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.commit()

    def _check_owner(self, connection: Connection) -> None:
        """Check that a file is empty or ours, before anything is changed in it.

        Raises:
            StorageConfigurationError: it belongs to another program.
        """
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        if tables and not any(name.startswith("infinitic_") for name in tables):
            raise StorageConfigurationError(
                f"{self.where}: the file belongs to another program. Use another path; a file that does not exist "
                "is created"
            )

    def look(self, driver: Any, question: Question) -> Facts:
        facts = Facts(set(), {}, set())
        claims = [row.key for row in question.claims]
        for key in [*claims, *question.others]:
            row = driver.execute(_LOOK, (key,)).fetchone()
            if row is not None:
                facts.rows[key] = StoredRow(row[0], row[1], bool(row[2]))
        facts.claimed.update(key for key in claims if key not in facts.rows)
        facts.known.update(each for each in question.deduplication_ids if driver.execute(_KNOWN, each).fetchone())
        return facts

    def write(self, driver: Any, plan: Plan, call: DatabaseCall) -> None:
        self.write_rows(driver, plan)
        call.sent = True
        driver.commit()

    @staticmethod
    def write_rows(driver: Any, plan: Plan) -> None:
        """Write a plan, in a transaction.

        Args:
            driver: the connection of the driver.
            plan: what is written.
        """
        plain = [row for row in plan.updated if row.change.entry is None]
        entries = [row for row in plan.updated if row.change.entry is not None]
        driver.executemany(
            _INSERT,
            [
                (*_make_head_values(row), *_make_entry_values(row), row.change.key.name.encode(), row.key)
                for row in plan.created
            ],
        )
        driver.executemany(_UPDATE, [(*_make_head_values(row), row.key) for row in plain])
        driver.executemany(
            _UPDATE_ALL, [(*_make_head_values(row), *_make_entry_values(row), row.key) for row in entries]
        )
        driver.executemany(
            "INSERT INTO infinitic_segments (key, sequence, events, outbox) VALUES (?, ?, ?, ?)",
            [(row.key, row.segment.sequence, row.segment.events, row.segment.outbox) for row in plan.segments],
        )
        driver.executemany("DELETE FROM infinitic_segments WHERE key = ? AND sequence < ?", plan.forgotten)
        driver.executemany("INSERT INTO infinitic_marks (key, mark, at) VALUES (?, ?, ?)", plan.deduplication_ids)
        driver.executemany(
            "UPDATE infinitic_states SET published = 1 WHERE key = ?", [(key,) for key in plan.published]
        )

    def delete_deduplication_ids(self, connection: Connection, now: float, limit: int, window: float) -> int:
        values = {
            "now": now,
            "about": now - window + 1,
            "window": window,
            "limit": limit,
        }
        return connection.execute(text(_FORGET), values).rowcount

    def write_members(self, driver: Any, rows: Sequence[MemberRow]) -> None:
        driver.executemany(_MEMBER, rows)

    def make_lock_row(self, driver: Any, key: bytes, expires_at: float) -> None:
        driver.execute(_LOCK_ROW, (key, expires_at))

    def delete_members(self, connection: Connection, now: float, limit: int) -> int:
        return connection.execute(text(_LEAVE), {"now": now, "limit": limit}).rowcount

    def delete_lock_rows(self, connection: Connection, now: float, limit: int) -> None:
        connection.execute(text(_UNLOCK), {"now": now, "limit": limit})


def _make_head_values(row: HeadRow) -> tuple[Any, ...]:
    change = row.change
    return change.version, change.head, row.sequence, change.published, change.expires_at


def _make_entry_values(row: HeadRow) -> tuple[Any, ...]:
    entry = row.change.entry
    if entry is None:
        return (None,) * 6
    flag = None if entry.flag is None else entry.flag.value
    return entry.status.value, entry.version, entry.started_at, entry.closed_at, entry.next_wake, flag
