"""Checks the database, for `infinitic doctor`. It only reads."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, select, text

from infinitic.clock import Clock
from infinitic.diagnosis import Diagnosis, Level, ok, skew
from infinitic_storages.sql.dialects.base import SqlDatabase
from infinitic_storages.sql.dialects.call import DatabaseCall
from infinitic_storages.sql.migrations import SCHEMA_VERSION
from infinitic_storages.sql.tables import Tables

PACKET = 16 * 1024 * 1024
FREE = 1024**3

_SYNCHRONOUS_NORMAL = 1
_VERSION, _CLOCK, _SCHEMA, _DURABILITY = "database version", "database clock", "schema", "durability"


def diagnose(database: SqlDatabase, call: DatabaseCall, clock: Clock) -> list[Diagnosis]:
    """Check version, clock, durability and schema. It is run in a thread.

    What the user may not see is left out.

    Args:
        database: the database.
        call: the call that this belongs to.
        clock: the clock of this machine.
    """

    def work(connection: Connection, _: Any) -> list[Diagnosis]:
        look = {"postgresql": _check_postgres, "mysql": _check_mysql, "mariadb": _check_mysql}.get(
            connection.dialect.name
        )
        checks = look(connection, clock) if look is not None else _check_sqlite(connection)
        return [*checks, _check_schema(connection, database.tables)]

    return database.attempt(call, work, reads=True)


def _check_postgres(connection: Connection, clock: Clock) -> list[Diagnosis]:
    number = int(_read_setting(connection, "server_version_num") or 0)
    checks = [
        _judge_version(
            "PostgreSQL", _read_setting(connection, "server_version") or "?", number >= 120_000, "12 or newer"
        )
    ]
    checks.append(_measure_skew(connection, "SELECT extract(epoch FROM clock_timestamp())", clock))
    off = [
        name for name in ("fsync", "full_page_writes", "synchronous_commit") if _read_setting(connection, name) == "off"
    ]
    lost = "set it to on: what was committed is lost, or the database is damaged, when the machine stops"
    checks += [Diagnosis(_DURABILITY, Level.WARNING, f"{name} is off", lost) for name in off]
    if not off:
        # The storage itself sets synchronous_commit for each connection.
        checks.append(ok(_DURABILITY, "a commit waits for the disk"))
    return checks


def _read_setting(connection: Connection, name: str) -> str | None:
    found = connection.execute(text("SELECT current_setting(:name, true)"), {"name": name}).scalar()
    return None if found is None else str(found)


def _check_mysql(connection: Connection, clock: Clock) -> list[Diagnosis]:
    version = str(connection.execute(text("SELECT VERSION()")).scalar())
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    maria = "mariadb" in version.lower()
    needed, first = ("MariaDB", (10, 6)) if maria else ("MySQL", (8, 0))
    checks = [_judge_version(needed, version, numbers >= first, f"{first[0]}.{first[1]} or newer")]
    checks.append(_measure_skew(connection, "SELECT UNIX_TIMESTAMP(NOW(6))", clock))
    asked = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'innodb_doublewrite', "
    rows = connection.execute(text(asked + "'log_bin', 'sync_binlog', 'max_allowed_packet', 'read_only')")).all()
    found = {str(name): str(value) for name, value in rows}
    lossy = {
        "innodb_flush_log_at_trx_commit": (found.get("innodb_flush_log_at_trx_commit") not in ("1", None), "1"),
        "innodb_doublewrite": (found.get("innodb_doublewrite") == "OFF", "ON"),
        "sync_binlog": (found.get("log_bin") == "ON" and found.get("sync_binlog") == "0", "1"),
    }
    bad = [(name, good) for name, (is_bad, good) in lossy.items() if is_bad]
    for name, good in bad:
        message = f"{name} is {found[name]}: what was committed may be lost when the machine stops"
        checks.append(Diagnosis(_DURABILITY, Level.WARNING, message, f"set {name}={good}"))
    if not bad:
        checks.append(ok(_DURABILITY, "a commit waits for the disk"))
    packet = int(found.get("max_allowed_packet", PACKET))
    if packet < PACKET:
        message = f"{packet:,} bytes: a head, or the events of a step, may have a quarter of it at most"
        checks.append(Diagnosis("max_allowed_packet", Level.WARNING, message, f"set max_allowed_packet={PACKET}"))
    if found.get("read_only", "OFF") not in ("OFF", "0"):
        checks.append(Diagnosis("database", Level.FAILURE, "it is read_only", "connect to the primary"))
    return checks


def _check_sqlite(connection: Connection) -> list[Diagnosis]:
    # A version that is too old was refused before.
    checks = [ok(_VERSION, f"SQLite {sqlite3.sqlite_version}")]
    if connection.execute(text("PRAGMA synchronous")).scalar() == _SYNCHRONOUS_NORMAL:
        message = "synchronous is normal: a power cut may undo what was committed last"
        checks.append(Diagnosis(_DURABILITY, Level.WARNING, message, "set `synchronous` to full"))
    else:
        checks.append(ok(_DURABILITY, "a commit waits for the disk"))
    path = connection.execute(text("SELECT file FROM pragma_database_list WHERE name = 'main'")).scalar()
    free = shutil.disk_usage(Path(str(path)).parent).free
    if free < FREE:
        checks.append(Diagnosis("disk", Level.WARNING, f"{free // 1024**2:,} MiB are free", "make room"))
    else:
        checks.append(ok("disk", f"{free // 1024**3:,} GiB are free"))
    return checks


def _check_schema(connection: Connection, tables: Tables) -> Diagnosis:
    if not inspect(connection).has_table(tables.meta.name, schema=tables.schema):
        return Diagnosis(_SCHEMA, Level.WARNING, "there are no tables yet", "the first worker makes them")
    stored = connection.execute(select(tables.meta.c.schema_version).where(tables.meta.c.id == 1)).scalar()
    if stored is None or stored < SCHEMA_VERSION:
        message = f"version {stored or 0}, and this release has {SCHEMA_VERSION}"
        return Diagnosis(_SCHEMA, Level.WARNING, message, "the first worker of this release migrates it")
    if stored > SCHEMA_VERSION:
        message = f"version {stored} is of a newer release; this release knows {SCHEMA_VERSION} at most"
        return Diagnosis(_SCHEMA, Level.FAILURE, message, "upgrade infinitic, or use another database")
    return ok(_SCHEMA, f"version {stored}")


def _judge_version(kind: str, version: str, good: bool, needed: str) -> Diagnosis:
    told = version if version.lower().startswith(kind.lower()) else f"{kind} {version}"
    if good:
        return ok(_VERSION, told)
    return Diagnosis(_VERSION, Level.FAILURE, f"{told} is too old", f"{kind} {needed} is needed")


def _measure_skew(connection: Connection, statement: str, clock: Clock) -> Diagnosis:
    before = clock.now()
    theirs = float(connection.execute(text(statement)).scalar_one())
    return skew(_CLOCK, theirs - (before + clock.now()) / 2)
