"""What the errors of SQLite and of files mean for the one who called."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from infinitic.errors import TransportError
from infinitic.transport import TransportUnavailable

_WAIT = {
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_INTERRUPT: "the call was interrupted",
    sqlite3.SQLITE_IOERR: "the disk has failed to read or write",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_FULL: "the disk is full. Make room; nothing that was accepted is lost, and work goes on by itself",
}
_CORRECT = {
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened. Create its directory, or check the permissions",
    sqlite3.SQLITE_PERM: "access is denied. Check the permissions of the file",
    sqlite3.SQLITE_READONLY: "the file cannot be written. Check the permissions of the file and its directory",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database. Use another path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged. Stop all workers, and restore it from a backup",
}
CLOSED_TO_WRITERS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}
"""These are about the file as a whole, and pass when somebody has corrected it."""
BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM}
"""After these, the connection is opened anew."""


class StatementFailed(TransportError):
    """SQLite has refused a statement: nothing is known to be wrong with the file as a whole."""


def read_code(error: BaseException) -> int:
    """The primary code of an error of SQLite; 0 for anything else."""
    if not isinstance(error, sqlite3.Error):
        return 0
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translate(error: sqlite3.Error | OSError, path: Path) -> TransportError:
    """Make the error of the port.

    Args:
        error: what SQLite, or the operating system, said.
        path: the database file.
    """
    if isinstance(error, OSError):
        return _translate_system(error, path)
    code = read_code(error)
    if code in _WAIT:
        return TransportUnavailable(f"SQLite at {path}: {_WAIT[code]} ({error})")
    if code in _CORRECT:
        return TransportError(f"SQLite at {path}: {_CORRECT[code]} ({error})")
    return StatementFailed(f"SQLite at {path}: {error}")


def _translate_system(error: OSError, path: Path) -> TransportError:
    if isinstance(error, FileNotFoundError):
        return TransportError(f"SQLite at {path}: its directory is missing. Create it, or use another path ({error})")
    if isinstance(error, PermissionError):
        return TransportError(
            f"SQLite at {path}: access is denied. The user of this process must be able to write the file and its "
            f"directory ({error})"
        )
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return TransportError(f"SQLite at {path}: use the path of a file in a directory that exists ({error})")
    return TransportUnavailable(f"SQLite at {path}: {error}")
