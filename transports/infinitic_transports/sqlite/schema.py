"""The tables of the broker, their version, and whether a file may be used at all.

All numbers come from one counter, `next_number`, and are never used twice. So a number of a
consumer or of a message that is gone means nothing for ever.

- `topics`, `subscriptions`: what exists. The `consumer` of an ephemeral subscription is its only
  one.
- `sessions`, `consumers`: who is connected. A session is one connection of one process.
- `bodies`: what was published. `uses` counts the rows of `queue` and `pending` that need it.
- `queue`: what waits or is in hand, one row for each subscription, in the order of `seq`. Those
  with a key have a lane. `attempt` is that of the delivery in hand, or of the next one.
- `lanes`: the keys that have rows in `queue`. A lane that has a `consumer` is locked as a whole:
  nobody else gets anything of it. `held` counts its rows in hand. `place` is its place in the line,
  and null if it has nothing to give now; `due` is when it will have something again.
- `pending`: what joins `queue` when it is due.

The storage `sqlite` may have its tables in the same file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from infinitic.errors import TransportError

OLDEST = (3, 35, 0)
"""The first SQLite with RETURNING."""

APPLICATION_ID = 0x496E6669
"""It stands in the header of a file that the broker has made: `Infi`."""

_TABLES = """
CREATE TABLE infinitic_topics (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, ordering TEXT NOT NULL, main BLOB);
CREATE TABLE infinitic_subscriptions (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, name BLOB NOT NULL, consumer INTEGER);
CREATE UNIQUE INDEX infinitic_subscribed ON infinitic_subscriptions (topic, name);
CREATE TABLE infinitic_sessions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL, pid INTEGER NOT NULL,
    started_at REAL NOT NULL);
CREATE TABLE infinitic_consumers (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, subscription INTEGER NOT NULL);
CREATE TABLE infinitic_bodies (
    id INTEGER PRIMARY KEY, uses INTEGER NOT NULL, published_at REAL NOT NULL, name BLOB NOT NULL, key BLOB,
    headers BLOB, body BLOB NOT NULL);
CREATE TABLE infinitic_queue (
    seq INTEGER PRIMARY KEY, subscription INTEGER NOT NULL, lane INTEGER, consumer INTEGER, attempt INTEGER NOT NULL,
    body INTEGER NOT NULL, size INTEGER NOT NULL, due REAL);
CREATE INDEX infinitic_loose ON infinitic_queue (subscription, consumer, seq) WHERE lane IS NULL;
CREATE INDEX infinitic_in_lane ON infinitic_queue (lane, seq) WHERE lane IS NOT NULL;
CREATE TABLE infinitic_lanes (
    id INTEGER PRIMARY KEY, subscription INTEGER NOT NULL, key BLOB NOT NULL, consumer INTEGER, held INTEGER NOT NULL,
    place INTEGER, due REAL);
CREATE UNIQUE INDEX infinitic_keyed ON infinitic_lanes (subscription, key);
CREATE INDEX infinitic_line ON infinitic_lanes (subscription, consumer, place);
CREATE INDEX infinitic_blocked ON infinitic_lanes (due) WHERE due IS NOT NULL;
CREATE TABLE infinitic_pending (
    id INTEGER PRIMARY KEY, due REAL NOT NULL, subscription INTEGER NOT NULL, key BLOB, attempt INTEGER NOT NULL,
    body INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE INDEX infinitic_due ON infinitic_pending (due, id);
CREATE INDEX infinitic_delayed ON infinitic_pending (subscription);
"""


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)


STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create,)
"""Step n leads from version n to n + 1. Never change one that was released."""

SCHEMA_VERSION = len(STEPS)


def check_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Check that SQLite is new enough.

    Args:
        version: of the library.

    Raises:
        TransportError: it is too old.
    """
    if version < OLDEST:
        raise TransportError(
            f"SQLite {'.'.join(map(str, version))} is too old: {'.'.join(map(str, OLDEST))} is needed. "
            "Use a Python that was built with a newer one"
        )


def check_owner(connection: sqlite3.Connection, path: Path) -> int:
    """Check that a file is empty or ours, and return the version of its tables; 0: there are none.

    Args:
        connection: a connection to it.
        path: the file, for an error.

    Raises:
        TransportError: it belongs to another program, or to a newer release.
    """
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    ours = any(name.startswith("infinitic_") for name in tables)
    if mark not in (0, APPLICATION_ID) or (tables and not ours):
        raise TransportError(
            f"SQLite at {path}: the file belongs to another program. Use another path; a file that does not exist "
            "is created"
        )
    if "infinitic_broker" not in tables:
        return 0
    (version,) = connection.execute("SELECT schema_version FROM infinitic_broker").fetchone()
    if version > SCHEMA_VERSION:
        raise TransportError(
            f"SQLite at {path}: its schema has version {version}, and this release knows version {SCHEMA_VERSION} at "
            "most. Upgrade infinitic, or use another path"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables to `SCHEMA_VERSION`. The caller has begun a transaction.

    Args:
        connection: a connection to the file.
        path: the file, for an error.

    Raises:
        TransportError: it belongs to another program, or to a newer release.
    """
    version = check_owner(connection, path)
    if version == SCHEMA_VERSION:
        return
    if not version:
        connection.execute(
            "CREATE TABLE infinitic_broker (id INTEGER PRIMARY KEY CHECK (id = 1), schema_version INTEGER NOT NULL, "
            "catalog INTEGER NOT NULL, next_number INTEGER NOT NULL)"
        )
        connection.execute("INSERT INTO infinitic_broker VALUES (1, 0, 1, 1)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for number in range(version, SCHEMA_VERSION):
        STEPS[number](connection)
    connection.execute("UPDATE infinitic_broker SET schema_version = ?", (SCHEMA_VERSION,))
