"""Begins and ends transactions: what may wait for the disk, or for other programs."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from infinitic_transports.sqlite.locks import Turnstile
from infinitic_transports.sqlite.opening import BUSY_MILLISECONDS


def begin_patiently(connection: sqlite3.Connection) -> None:
    """Begin, and wait for a program that knows nothing of our lock."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute("PRAGMA busy_timeout = 0")


def commit_and_leave(connection: sqlite3.Connection, turnstile: Turnstile) -> None:
    """Commit, or undo it all, and let the lock between processes go."""
    try:
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    finally:
        turnstile.leave()


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo what was written, if a transaction is open."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def make_checkpoint(connection: sqlite3.Connection) -> None:
    """Move what was committed from the log to the file, so that the log does not grow."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
