"""Opens the file: checks where it is and whose it is, and makes the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from infinitic_transports.sqlite.errors import translate
from infinitic_transports.sqlite.locks import Turnstile
from infinitic_transports.sqlite.places import check_place, find_peers_folder
from infinitic_transports.sqlite.schema import check_library, check_owner, migrate
from infinitic_transports.sqlite.settings import Waiting

T = TypeVar("T")

BUSY_MILLISECONDS = 5000
"""How long a program that knows nothing of our lock may hold the file."""


def make_turnstile(path: Path) -> Turnstile:
    """Check the place of the file, make the folder of locks and sockets, and open its lock.

    Args:
        path: the database file.

    Raises:
        TransportError: it cannot be there.
        OSError: the folder cannot be made.
    """
    check_library()
    check_place(path)
    folder = find_peers_folder(path)
    folder.mkdir(exist_ok=True)
    return Turnstile(folder)


def open_database(path: Path, waiting: Waiting) -> sqlite3.Connection:
    """Open the file, and make or migrate the tables. The caller has the lock of the turnstile.

    Args:
        path: the database file.
        waiting: when a commit waits for the disk.

    Raises:
        TransportError: it is not ours.
        sqlite3.Error: it cannot be opened.
    """
    connection = connect(path)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        # Before anything is changed in it.
        check_owner(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {waiting.value}")
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, path)
        connection.execute("COMMIT")
        if waiting is Waiting.NORMAL:
            # A checkpoint waits for the disk, so it is made in a thread.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        # What runs on the loop does not wait.
        connection.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """Connect to the file. Transactions are begun by hand."""
    # It is used on the loop and in one thread, never at once.
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def read_file(path: Path, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
    """Read something, with a connection of its own. Nothing is written or made.

    Args:
        path: the database file.
        work: reads.
        nothing: what it returns if the file is missing, or has no tables of ours.

    Raises:
        TransportError: the file cannot be used.
    """
    check_library()
    check_place(path)
    if not path.exists():
        return nothing
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_MILLISECONDS / 1000)
        try:
            return work(connection) if check_owner(connection, path) else nothing
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error
