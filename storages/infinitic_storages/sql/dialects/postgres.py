"""PostgreSQL through psycopg.

A commit is one statement, see `postgres_at_once`. What that leaves is two round trips, both
pipelined. Inserts come first there: a transaction that locks old rows and then waits for the new
row of another one would deadlock.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Generator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import QueuePool

from infinitic.storage import StateKey, Stored
from infinitic_storages.sql.commit import (
    Facts,
    Plan,
    Question,
    StoredRow,
    measure_head,
    measure_segment,
    split_chunks,
)
from infinitic_storages.sql.dialects.base import SqlDatabase
from infinitic_storages.sql.dialects.call import DatabaseCall, Failure
from infinitic_storages.sql.dialects.postgres_at_once import make_statement, make_values
from infinitic_storages.sql.dialects.postgres_sql import (
    PostgresStatements,
    make_array,
    make_deduplication_arrays,
    make_entry_arrays,
    make_head_arrays,
    make_member_arrays,
    make_segment_arrays,
    register_arrays,
)
from infinitic_storages.sql.keys import encode_key
from infinitic_storages.sql.queries import make_stored
from infinitic_storages.sql.settings import PostgresSettings
from infinitic_storages.sql.tables import Tables
from infinitic_storages.sql.tags import MemberRow, measure_member

MAX_PIPELINED = 4 * 1024 * 1024

_RETRY = {"40001", "40P01", "53000", "53200", "55P03", "57014", "58030"}
# The server became read-only, or ended an idle transaction.
_STALE = {"25006", "25P03"}
_LOST = {"57P01", "57P02", "57P03", "57P05", "53300"}
_CONFIGURATION = {"28P01", "28000", "3D000", "42501", "3F000"}
_NOT_PREPARED = {"42P01", "42703"}
# libpq has no codes for failures to connect.
_REFUSALS = (
    ("password authentication failed", "check username and password"),
    ("no password supplied", "set password"),
    ("no pg_hba.conf entry", "allow this user and address in pg_hba.conf, or set sslmode"),
    ("does not exist", "create the database or the role, or correct its name"),
    ("permission denied", "grant CONNECT on the database to the user"),
    ("authentication failed", "check username, password and pg_hba.conf"),
    ("server does not support SSL", "set sslmode to prefer or disable"),
    ("certificate", "check sslrootcert, sslcert, sslkey and sslmode"),
)


class PostgresDatabase(SqlDatabase):
    """One schema of a PostgreSQL database."""

    writes_at_once = True

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        server = settings.unix_socket or settings.host
        where = f"PostgreSQL at {server}:{settings.port}/{settings.database} as user {settings.username}"
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.deadline_seconds,
        )
        super().__init__(engine, Tables(settings.schema_name), where)
        # So a read is one round trip, and not three.
        self.reader = engine.execution_options(isolation_level="AUTOCOMMIT")
        quote = engine.dialect.identifier_preparer.format_table
        tables = self.tables
        self._write_at_once = make_statement(
            quote(tables.states), quote(tables.segments), quote(tables.deduplication_ids)
        )
        self._sql = PostgresStatements(
            quote(tables.states),
            quote(tables.segments),
            quote(tables.deduplication_ids),
            quote(tables.tags),
            quote(tables.custom_ids),
        )

    def _connect(self) -> psycopg.Connection[Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "host": settings.unix_socket or settings.host,
            "port": settings.port,
            "user": settings.username,
            "dbname": settings.database,
            "connect_timeout": max(
                2, round(self.limit_patience(settings.connect_timeout_seconds))
            ),  # libpq knows no less
            "tcp_user_timeout": round(settings.deadline_seconds * 1000),
            "keepalives_idle": 30,
            "application_name": "infinitic",
            "sslmode": settings.sslmode.value,
            "sslrootcert": settings.sslrootcert,
            "sslcert": settings.sslcert,
            "sslkey": settings.sslkey,
            "target_session_attrs": "read-write",
        }
        if settings.password is not None:
            options["password"] = settings.password.get_secret_value()
        given = {name: value for name, value in options.items() if value is not None}
        connection = psycopg.connect(make_conninfo("", **given), prepare_threshold=settings.prepare_threshold)
        register_arrays(connection)
        try:
            self.guard(connection)
            self._set_up(connection)
        except BaseException:
            self.unguard()
            connection.close()
            raise
        return connection

    def _set_up(self, connection: psycopg.Connection[Any]) -> None:
        """Set deadlines, and make the planner use indexes.

        Every statement here finds its rows by index. Without statistics, the planner would read
        whole tables.
        """
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        timeout = round(self._settings.deadline_seconds * 1000)
        connection.execute(
            f"SET statement_timeout = {timeout}; SET idle_in_transaction_session_timeout = {2 * timeout}; "
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'".encode()
        )
        connection.commit()

    def classify(self, error: BaseException) -> tuple[Failure, str]:
        if not isinstance(error, psycopg.Error):
            return Failure.OTHER, ""
        state, message = error.sqlstate, str(error).strip()
        if state is None:
            for sign, advice in _REFUSALS:
                if sign in message:
                    return Failure.CONFIGURATION, f"{message.splitlines()[-1]}: {advice}"
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                return Failure.LOST, message
            return Failure.OTHER, message
        if state in _RETRY:
            return Failure.RETRY, message
        if state in _STALE:
            return Failure.STALE, message
        if state in _LOST or state.startswith("08"):
            return Failure.LOST, message
        if state == errors.DiskFull.sqlstate:
            return Failure.FULL, message
        if state in _CONFIGURATION:
            return Failure.CONFIGURATION, f"{message}: check the user, its grants and the names"
        if state in _NOT_PREPARED:
            return Failure.NOT_PREPARED, message
        return Failure.OTHER, message

    def sever(self, driver: Any) -> None:
        try:
            with socket.socket(fileno=os.dup(driver.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error):
            # It ended by itself.
            pass

    @contextmanager
    def lock(self, connection: Connection) -> Generator[None]:
        name = f"infinitic:{self.tables.schema}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})
        yield
        connection.commit()

    def load(self, call: DatabaseCall, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        # Each new instance is looked for. SQLAlchemy would take longer than the server.
        asked = {each: key for key in keys if (each := encode_key(key)) is not None}

        def work(_: Connection, driver: Any) -> dict[StateKey, Stored]:
            values = (make_array("bytea", list(asked)),)
            return make_stored(asked, driver.execute(self._sql.load, values, binary=True))

        return self.attempt(call, work, reads=True)

    def look(self, driver: Any, question: Question) -> Facts:
        facts = Facts(set(), {}, set())
        connection: psycopg.Connection[Any] = driver
        inserts: list[psycopg.Cursor[Any]] = []
        locks = known = None
        with _pipeline_if_small(connection, sum(measure_head(row) for row in question.claims)):
            for rows in split_chunks(question.claims, [measure_head(row) for row in question.claims]):
                inserts.append(
                    connection.execute(self._sql.insert, make_head_arrays(rows) + make_entry_arrays(rows), binary=True)
                )
            if question.others:
                locks = connection.execute(self._sql.lock, (make_array("bytea", question.others),), binary=True)
            if question.deduplication_ids:
                keys, values = (
                    [key for key, _ in question.deduplication_ids],
                    [each for _, each in question.deduplication_ids],
                )
                known = connection.execute(
                    self._sql.known, (make_array("bytea", keys), make_array("bytea", values)), binary=True
                )
        for cursor in inserts:
            facts.claimed.update(key for (key,) in cursor)
        found = [] if locks is None else locks.fetchall()
        if known is not None:
            facts.known.update(known.fetchall())
        late = [row.key for row in question.claims if row.key not in facts.claimed]
        if late:
            found += connection.execute(self._sql.look, (make_array("bytea", late),), binary=True).fetchall()
        facts.rows = {key: StoredRow(version, sequence, alive) for key, version, sequence, alive in found}
        return facts

    def write_at_once(self, driver: Any, call: DatabaseCall) -> Set[int]:
        places, values = make_values(call.changes, MAX_PIPELINED)
        if not places or _has_news(driver):
            return frozenset()
        call.sent = True
        cursor = driver.execute(self._write_at_once, values, binary=True)
        return {places[key] for (key,) in cursor}

    def write(self, driver: Any, plan: Plan, call: DatabaseCall) -> None:
        connection: psycopg.Connection[Any] = driver
        plain = [row for row in plan.updated if row.change.entry is None]
        entries = [row for row in plan.updated if row.change.entry is not None]
        call.sent = True
        size = sum(map(measure_head, plan.updated)) + sum(map(measure_segment, plan.segments))
        with _pipeline_if_small(connection, size):
            for rows in split_chunks(plain, [measure_head(row) for row in plain]):
                connection.execute(self._sql.update, make_head_arrays(rows))
            for rows in split_chunks(entries, [measure_head(row) for row in entries]):
                connection.execute(self._sql.update_all, make_head_arrays(rows) + make_entry_arrays(rows))
            for segments in split_chunks(plan.segments, [measure_segment(row) for row in plan.segments]):
                connection.execute(self._sql.segment, make_segment_arrays(segments))
            for forgotten in plan.forgotten:
                connection.execute(self._sql.forget_segments, forgotten)
            if plan.deduplication_ids:
                connection.execute(self._sql.deduplicate, make_deduplication_arrays(plan.deduplication_ids))
            if plan.published:
                connection.execute(self._sql.publish, (make_array("bytea", plan.published),))
            if plan.withdrawn:
                connection.execute(self._sql.withdraw, (make_array("bytea", plan.withdrawn),))
            connection.commit()

    def delete_deduplication_ids(self, connection: Connection, now: float, limit: int, window: float) -> int:
        values = {
            "now": now,
            "about": now - window + 1,
            "window": window,
            "limit": limit,
        }
        return connection.execute(text(self._sql.forget), values).rowcount

    def write_members(self, driver: Any, rows: Sequence[MemberRow]) -> None:
        for part in split_chunks(rows, [measure_member(row) for row in rows], MAX_PIPELINED):
            driver.execute(self._sql.member, make_member_arrays(part))

    def make_lock_row(self, driver: Any, key: bytes, expires_at: float) -> None:
        driver.execute(self._sql.lock_row, (key, expires_at))

    def delete_members(self, connection: Connection, now: float, limit: int) -> int:
        return connection.execute(text(self._sql.leave), {"now": now, "limit": limit}).rowcount

    def delete_lock_rows(self, connection: Connection, now: float, limit: int) -> None:
        connection.execute(text(self._sql.unlock), {"now": now, "limit": limit})


def _has_news(driver: Any) -> bool:
    """Whether the server has said something unasked, most often that it has closed the connection.

    What is sent on such a connection has an unknown outcome. A look before finds out what it is,
    and goes on with another connection if need be.
    """
    if not hasattr(select, "poll"):
        return bool(select.select([driver.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _pipeline_if_small(connection: psycopg.Connection[Any], size: int) -> AbstractContextManager[object]:
    """Use a pipeline, unless much is sent.

    It saves round trips, but its time grows with the square of what is sent.

    Args:
        connection: of the driver.
        size: bytes that are sent.
    """
    return connection.pipeline() if size <= MAX_PIPELINED else nullcontext()
