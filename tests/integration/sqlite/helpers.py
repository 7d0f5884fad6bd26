"""What the tests of the SQLite transport share: connections, and a look at the tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic_transports.sqlite import SqliteTransport, SqliteTransportSettings

EMPTY_IN_THE_END = ("bodies", "queue", "lanes", "pending", "consumers", "sessions")
"""Tables in which nothing is left when all messages are settled, and everybody has left."""


def connect(path: Path, **settings: object) -> SqliteTransport:
    """Make a connection. Commits do not wait for the disk."""
    return SqliteTransport(SqliteTransportSettings.model_validate({"path": path, "synchronous": "normal", **settings}))


def make_topic(ordering: Ordering = Ordering.SHARED) -> Topic:
    """Make a topic with a name of its own."""
    return Topic(f"test:{new_id()}", ordering, "main")


def count_rows(path: Path) -> dict[str, int]:
    """Count the rows of the tables that must be empty in the end."""
    connection = sqlite3.connect(path)
    try:
        return {
            table: connection.execute(f"SELECT count(*) FROM infinitic_{table}").fetchone()[0]
            for table in EMPTY_IN_THE_END
        }
    finally:
        connection.close()


NOTHING = dict.fromkeys(EMPTY_IN_THE_END, 0)
