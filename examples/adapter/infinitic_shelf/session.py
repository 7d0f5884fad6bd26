"""One connection to the file of queues: its lock, which shows that it lives, and its socket.

Each session has a file that it holds locked. The system releases the lock when the process dies,
however it dies. So whoever can lock the file of another session knows that it is dead, and gives
back what it had in hand. Sessions wake each other by datagrams on loopback. These may be lost: a
slow look beside them makes up for it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from infinitic.errors import TransportError, UsageError
from infinitic.transport import TransportUnavailable
from infinitic_shelf.queues import SCHEMA, Queues

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often a session looks for dead ones, and a consumer for messages that nobody told it of."""

BUSY_SECONDS = 10.0
"""Seconds to wait until other processes have ended their transactions."""


class Session:
    """A connection. Its methods run in one thread, one after the other, and to their end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database: sqlite3.Connection | None = None
        self._lock = -1
        self._looked = -LOOK_SECONDS
        self.number = 0
        self.socket: socket.socket | None = None

    def run(self, verb: Callable[[Queues], T]) -> T:
        """Run a verb in a transaction, and wake others after the commit.

        Raises:
            TransportUnavailable: the file is busy, or the disk is full. If it was the commit that
                failed, its outcome is unknown.
            TransportError: it is no file of queues.
        """
        try:
            database = self._database or self._open()
            queues = Queues(database)
            database.execute("BEGIN IMMEDIATE")
            try:
                self._end_dead_sessions(queues)
                result = verb(queues)
                ports = queues.find_ports(queues.woken)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except (OSError, sqlite3.OperationalError) as error:
            raise TransportUnavailable(f"{self._folder}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise TransportError(f"{self._folder / 'queues.db'} cannot be used: {error}") from error
        except UnicodeEncodeError as error:
            raise UsageError(f"Text is not Unicode: {error}") from error
        assert self.socket is not None
        for port in ports:
            with suppress(OSError):
                self.socket.sendto(b"", ("127.0.0.1", port))
        return result

    def close(self) -> None:
        """Leave. If that fails, the others find out that this session is dead."""
        if self._database is not None:
            with suppress(TransportError):
                self.run(lambda queues: queues.end_session(self.number))
            self._path(self.number).unlink(missing_ok=True)
        self.drop()

    def drop(self) -> None:
        """Do what the system does when a process dies, and nothing else."""
        if self._database is not None:
            self._database.close()
        if self.socket is not None:
            self.socket.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._database, self.socket, self._lock = None, None, -1

    def _open(self) -> sqlite3.Connection:
        self._folder.mkdir(parents=True, exist_ok=True)
        # With isolation_level=None, the driver begins no transactions by itself.
        database = sqlite3.connect(
            self._folder / "queues.db", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                database.execute(statement)
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.setblocking(False)
            self.socket.bind(("127.0.0.1", 0))
            self.number = Queues(database).add_session(self.socket.getsockname()[1])
            # It is locked before anybody can see it.
            self._lock = os.open(self._path(self.number), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            database.execute("COMMIT")
        except BaseException:
            self.drop()
            database.close()
            raise
        self._database = database
        return database

    def _end_dead_sessions(self, queues: Queues) -> None:
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for number in queues.list_sessions():
            if number != self.number and not self._lives(number):
                queues.end_session(number)
                self._path(number).unlink(missing_ok=True)

    def _lives(self, number: int) -> bool:
        try:
            lock = os.open(self._path(number), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _path(self, number: int) -> Path:
        return self._folder / f"session-{number}.lock"
