"""Checks the file, for `infinitic doctor`. It only reads."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from infinitic.diagnosis import Diagnosis, Level, ok
from infinitic_transports.sqlite.opening import read_file
from infinitic_transports.sqlite.schema import SCHEMA_VERSION, check_owner
from infinitic_transports.sqlite.settings import Waiting

FREE = 1024**3
LARGE_LOG = 256 * 1024**2


def diagnose(path: Path, waiting: Waiting) -> list[Diagnosis]:
    """Check version, durability, schema and disk.

    Args:
        path: the database file.
        waiting: when a commit waits for the disk.

    Raises:
        TransportError: it cannot be used.
    """
    schema = _check_schema(path)
    checks = [ok("broker version", f"SQLite {sqlite3.sqlite_version}")]
    if waiting is Waiting.NORMAL:
        message = "synchronous is normal: a power cut may undo what was accepted last"
        checks.append(Diagnosis("durability", Level.WARNING, message, "set `synchronous` to full"))
    else:
        checks.append(ok("durability", "a commit waits for the disk"))
    checks.append(schema)
    free = shutil.disk_usage(path.parent).free
    if free < FREE:
        checks.append(Diagnosis("disk", Level.WARNING, f"{free // 1024**2:,} MiB are free", "make room"))
    else:
        checks.append(ok("disk", f"{free // 1024**3:,} GiB are free"))
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > LARGE_LOG:
        message = f"{log.name} has {log.stat().st_size // 1024**2:,} MiB"
        remedy = "end programs that keep the file open for reading: they hold it back"
        checks.append(Diagnosis("log", Level.WARNING, message, remedy))
    return checks


def _check_schema(path: Path) -> Diagnosis:
    version = read_file(path, lambda connection: check_owner(connection, path), 0)
    if not version:
        return Diagnosis("schema", Level.WARNING, "there are no tables yet", "the first worker makes them")
    if version < SCHEMA_VERSION:
        message = f"version {version}, and this release has {SCHEMA_VERSION}"
        return Diagnosis("schema", Level.WARNING, message, "the first worker of this release migrates it")
    return ok("schema", f"version {version}")
