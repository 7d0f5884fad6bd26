"""MySQL and MariaDB through PyMySQL.

An insert of many rows does not tell which of them it inserted. So each commit writes a token into
its rows, and reads it back.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from ssl import SSLSocket
from typing import Any

import pymysql
from pymysql.constants import CR, ER
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import QueuePool

from infinitic.ids import new_id
from infinitic.storage import StorageConfigurationError
from infinitic_storages.sql.commit import (
    Facts,
    HeadRow,
    Plan,
    Question,
    StoredRow,
    measure_head,
    measure_segment,
    split_chunks,
)
from infinitic_storages.sql.dialects.base import SqlDatabase
from infinitic_storages.sql.dialects.call import DatabaseCall, Failure
from infinitic_storages.sql.settings import MysqlSettings, SslMode
from infinitic_storages.sql.tables import Tables
from infinitic_storages.sql.tags import MemberRow, measure_member

_RETRY = {1020, 1037, 1038, 1041, 1205, 1206, 1213, 1317, 1969, 3024, 3101}
# The server became read-only, or left its Galera cluster.
_STALE = {1047, 1290, 1792, 1836}
_LOST = {
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    CR.CR_CONN_HOST_ERROR,
    CR.CR_CONNECTION_ERROR,
    CR.CR_SERVER_LOST_EXTENDED,
    1040, 1053, 1077, 1079, 1135, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 4031, 0,
    # An error during COMMIT. Some engines may have committed.
    1180,
}  # fmt: skip
_FULL = {1021, 1114, 3}
_CONFIGURATION = {
    ER.ACCESS_DENIED_ERROR: "check username and password",
    1698: "check username, password and the plugin that authenticates",
    ER.DBACCESS_DENIED_ERROR: "create the database, or grant it to the user",
    ER.BAD_DB_ERROR: "create the database, or correct its name",
    ER.TABLEACCESS_DENIED_ERROR: "grant SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER and INDEX to the user",
    1227: "grant the privilege to the user",
    1130: "allow this host to connect",
    2026: "check sslmode, sslrootcert, sslcert and sslkey",
}
_NOT_PREPARED = {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR}

_COLUMNS = "`key`, name, version, head, sequence, published, expires_at"
_ENTRY = "status, workflow_version, started_at, closed_at, next_wake, flag"
_SET = "version = VALUES(version), head = VALUES(head), sequence = VALUES(sequence), " + (
    "published = VALUES(published), expires_at = VALUES(expires_at)"
)
_THEN = f" ON DUPLICATE KEY UPDATE {_SET}"
_THEN_ALL = _THEN + "".join(f", {name} = VALUES({name})" for name in _ENTRY.split(", "))

# Whether a member that comes counts, and not the stored one.
_COUNTS = "VALUES(version) > version OR (VALUES(version) = version AND live AND NOT VALUES(live))"
# Columns are set in this order, and later ones see what earlier ones were set to. So those that the
# condition reads come last.
_THEN_MEMBER = " ON DUPLICATE KEY UPDATE " + ", ".join(
    [f"{name} = IF({_COUNTS}, VALUES({name}), {name})" for name in ("at", "expires_at", "holder", "live")]
    + ["version = GREATEST(version, VALUES(version))"]
)


class _MysqlStatements:
    """The hot statements, for tables whose names begin with a prefix."""

    def __init__(self, prefix: str) -> None:
        states, segments, deduplication = (f"`{prefix}infinitic_{name}`" for name in ("states", "segments", "marks"))
        self.insert = f"INSERT INTO {states} ({_COLUMNS}, {_ENTRY}, token) VALUES "
        # IGNORE would hide other errors as well.
        self.keep = f" ON DUPLICATE KEY UPDATE `key` = {states}.`key`"
        self.update = f"INSERT INTO {states} ({_COLUMNS}) VALUES "
        self.update_all = f"INSERT INTO {states} ({_COLUMNS}, {_ENTRY}) VALUES "
        self.look = f"SELECT `key`, version, sequence, head IS NOT NULL, token FROM {states} WHERE `key` IN %s "
        self.known = f"SELECT `key`, mark FROM {deduplication} WHERE `key` = %s AND mark = %s"
        self.segment = f"INSERT INTO {segments} (`key`, sequence, events, outbox) VALUES "
        self.forget_segments = f"DELETE FROM {segments} WHERE `key` = %s AND sequence < %s"
        self.deduplicate = f"INSERT INTO {deduplication} (`key`, mark, at) VALUES "
        self.publish = f"UPDATE {states} SET published = 1 WHERE `key` IN %s"
        self.withdraw = f"DELETE FROM {states} WHERE `key` IN %s"
        tags, custom_ids = (f"`{prefix}infinitic_{name}`" for name in ("tags", "custom_ids"))
        self.member = f"INSERT INTO {tags} (`key`, id, live, version, at, expires_at, holder) VALUES "
        self.lock_row = (
            f"INSERT INTO {custom_ids} (`key`, expires_at) VALUES (%s, %s) "
            f"ON DUPLICATE KEY UPDATE `key` = {custom_ids}.`key`"
        )
        self.leave = f"DELETE FROM {tags} WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit"
        self.unlock = f"DELETE FROM {custom_ids} WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit"
        self.forget = (
            f"DELETE FROM {deduplication} WHERE at <= :about AND at + :window <= :now ORDER BY at LIMIT :limit"
        )


class MysqlDatabase(SqlDatabase):
    """One database of a server."""

    def __init__(self, settings: MysqlSettings) -> None:
        self._settings = settings
        self._packet = 1024 * 1024
        server = settings.unix_socket or f"{settings.host}:{settings.port}"
        engine = create_engine(
            "mysql+pymysql://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.deadline_seconds,
        )
        tables = f" (tables {settings.table_prefix}…)" if settings.table_prefix else ""
        where = f"MySQL at {server}/{settings.database}{tables} as user {settings.username}"
        super().__init__(engine, Tables(prefix=settings.table_prefix), where)
        self._sql = _MysqlStatements(settings.table_prefix)

    def _connect(self) -> pymysql.Connection[Any]:
        settings = self._settings
        wait = max(1, min(50, int(settings.deadline_seconds / 2)))
        options: dict[str, Any] = {}
        if settings.sslmode is SslMode.DISABLE:
            options["ssl_disabled"] = True
        elif settings.sslmode is not SslMode.PREFER or settings.sslrootcert or settings.sslcert:
            files = {"ca": settings.sslrootcert, "cert": settings.sslcert, "key": settings.sslkey}
            options["ssl"] = {
                "check_hostname": settings.sslmode is SslMode.VERIFY_FULL,
                "verify_mode": settings.sslmode in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL),
            } | {name: str(path) for name, path in files.items() if path is not None}
        connection = pymysql.connect(
            host=settings.host,
            port=settings.port,
            unix_socket=settings.unix_socket,
            user=settings.username,
            password=settings.password.get_secret_value() if settings.password is not None else "",
            database=settings.database,
            charset="utf8mb4",
            # So a read is one round trip. What writes begins a transaction explicitly.
            autocommit=True,
            connect_timeout=max(1, round(self.limit_patience(settings.connect_timeout_seconds))),
            read_timeout=max(1, round(settings.deadline_seconds)),
            write_timeout=max(1, round(settings.deadline_seconds)),
            defer_connect=True,
            init_command=f"SET SESSION innodb_lock_wait_timeout = {wait}, SESSION sql_mode = 'STRICT_TRANS_TABLES'",
            **options,
        )
        self.guard(connection)
        connection.connect()
        if "ssl" in options and not isinstance(getattr(connection, "_sock", None), SSLSocket):
            self.unguard()
            connection.close()
            raise StorageConfigurationError(f"{self.where}: the server has no TLS, and sslmode asks for it")
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return connection

    def classify(self, error: BaseException) -> tuple[Failure, str]:
        if isinstance(error, OSError):
            return Failure.LOST, str(error)
        if not isinstance(error, pymysql.Error):
            return Failure.OTHER, ""
        code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in _RETRY:
            return Failure.RETRY, text
        if code in _STALE:
            return Failure.STALE, text
        if code in _LOST:
            return Failure.LOST, text or "the connection is closed"
        if code in _FULL:
            return Failure.FULL, text
        if code in _NOT_PREPARED:
            return Failure.NOT_PREPARED, text
        if code in _CONFIGURATION:
            return Failure.CONFIGURATION, f"{text}: {_CONFIGURATION[code]}"
        return Failure.OTHER, text

    def sever(self, driver: Any) -> None:
        stream = getattr(driver, "_sock", None)
        if stream is not None:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    @contextmanager
    def lock(self, connection: Connection) -> Generator[None]:
        # Names of locks have at most 64 characters.
        name = f"infinitic:{self._settings.database}"[:64]
        if prefix := self._settings.table_prefix:
            name = f"infinitic:{sha256(f'{self._settings.database}:{prefix}'.encode()).hexdigest()[:32]}"
        seconds = max(1, round(self._settings.deadline_seconds) - 1)
        got = connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": seconds}).scalar()
        if got != 1:
            raise pymysql.OperationalError(1205, "another process is migrating the schema")
        try:
            yield
            connection.commit()
        finally:
            # A connection that is lost has released it.
            with suppress(Exception):
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})

    def learn_limit(self, connection: Connection) -> int | None:
        """Ask for `max_allowed_packet`. A value may have a quarter of it.

        A byte may become two when it is escaped, and one row carries events and outbox.
        """
        packet: int = connection.execute(text("SELECT @@max_allowed_packet")).scalar_one()
        self._packet = packet
        return max(1024, (packet - 64 * 1024) // 4)

    def look(self, driver: Any, question: Question) -> Facts:
        facts = Facts(set(), {}, set())
        token = bytes.fromhex(new_id())
        with driver.cursor() as cursor:
            claims = [(*_make_head_values(row), *_make_entry_values(row), token) for row in question.claims]
            self._many(cursor, self._sql.insert, self._sql.keep, claims, [measure_head(row) for row in question.claims])
            keys = sorted([*(row.key for row in question.claims), *question.others])
            if keys:
                cursor.execute(self._sql.look + "ORDER BY `key` FOR UPDATE", (keys,))
                for key, version, sequence, alive, wrote in cursor.fetchall():
                    if wrote == token:
                        facts.claimed.add(key)
                    else:
                        facts.rows[key] = StoredRow(version, sequence, bool(alive))
            if question.deduplication_ids:
                one = self._sql.known
                for part in split_chunks(
                    question.deduplication_ids, [1024] * len(question.deduplication_ids), self._packet // 4
                ):
                    cursor.execute(" UNION ALL ".join([one] * len(part)), [each for pair in part for each in pair])
                    facts.known.update(cursor.fetchall())
        return facts

    def write(self, driver: Any, plan: Plan, call: DatabaseCall) -> None:
        plain = [row for row in plan.updated if row.change.entry is None]
        entries = [row for row in plan.updated if row.change.entry is not None]
        with driver.cursor() as cursor:
            self._many(
                cursor,
                self._sql.update,
                _THEN,
                [_make_head_values(row) for row in plain],
                [measure_head(row) for row in plain],
            )
            rows = [(*_make_head_values(row), *_make_entry_values(row)) for row in entries]
            self._many(cursor, self._sql.update_all, _THEN_ALL, rows, [measure_head(row) for row in entries])
            segments = [
                (row.key, row.segment.sequence, row.segment.events, row.segment.outbox) for row in plan.segments
            ]
            self._many(
                cursor,
                self._sql.segment,
                "",
                segments,
                [measure_segment(row) for row in plan.segments],
            )
            if plan.forgotten:
                cursor.executemany(self._sql.forget_segments, plan.forgotten)
            ids = [tuple(row) for row in plan.deduplication_ids]
            self._many(cursor, self._sql.deduplicate, "", ids, [1024] * len(ids))
            if plan.published:
                cursor.execute(self._sql.publish, (plan.published,))
            if plan.withdrawn:
                cursor.execute(self._sql.withdraw, (plan.withdrawn,))
        call.sent = True
        driver.commit()

    def _many(
        self, cursor: Any, before: str, after: str, rows: Sequence[tuple[Any, ...]], sizes: Sequence[int]
    ) -> None:
        for part in split_chunks(rows, sizes, self._packet // 4):
            slots = "(" + ", ".join(["%s"] * len(part[0])) + ")"
            cursor.execute(before + ", ".join([slots] * len(part)) + after, [each for row in part for each in row])

    def delete_deduplication_ids(self, connection: Connection, now: float, limit: int, window: float) -> int:
        values = {
            "now": now,
            "about": now - window + 1,
            "window": window,
            "limit": limit,
        }
        return connection.execute(text(self._sql.forget), values).rowcount

    def write_members(self, driver: Any, rows: Sequence[MemberRow]) -> None:
        with driver.cursor() as cursor:
            self._many(cursor, self._sql.member, _THEN_MEMBER, rows, [measure_member(row) for row in rows])

    def make_lock_row(self, driver: Any, key: bytes, expires_at: float) -> None:
        with driver.cursor() as cursor:
            cursor.execute(self._sql.lock_row, (key, expires_at))

    def delete_members(self, connection: Connection, now: float, limit: int) -> int:
        return connection.execute(text(self._sql.leave), {"now": now, "limit": limit}).rowcount

    def delete_lock_rows(self, connection: Connection, now: float, limit: int) -> None:
        connection.execute(text(self._sql.unlock), {"now": now, "limit": limit})


def _make_head_values(row: HeadRow) -> tuple[Any, ...]:
    change = row.change
    name = change.key.name.encode()
    return row.key, name, change.version, change.head, row.sequence, change.published, change.expires_at


def _make_entry_values(row: HeadRow) -> tuple[Any, ...]:
    entry = row.change.entry
    if entry is None:
        return (None,) * 6
    flag = None if entry.flag is None else entry.flag.value
    return entry.status.value, entry.version, entry.started_at, entry.closed_at, entry.next_wake, flag
