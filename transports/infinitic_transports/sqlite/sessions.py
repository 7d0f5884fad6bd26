"""Who is connected, and who has died.

Each connection has a file that it keeps locked as long as it lives. The lock ends with the process,
however that ends. So a file that can be locked is that of a dead one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from infinitic.errors import TransportError
from infinitic.ids import new_id
from infinitic_transports.sqlite.locks import Inherited, lock_file, note_inherited, open_lock, unlock_file
from infinitic_transports.sqlite.places import find_boot, find_host

FOREIGN_SECONDS = 60.0
"""Seconds for which the file of a session on another machine counts as that of a living one."""

TOUCH_SECONDS = 15.0
"""Seconds between two signs of life, for other machines."""


class SessionFile(Inherited):
    """The file of this connection.

    Args:
        folder: where all such files are.

    Attributes:
        name: of the session; no two have the same.
    """

    def __init__(self, folder: Path) -> None:
        self.name = new_id()
        self.host, self.boot = find_host(), find_boot()
        self._path = derive_lock_path(folder, self.name)
        self._descriptor: int | None = open_lock(self._path)
        lock_file(self._descriptor, wait=False)
        note_inherited(self)

    def touch(self) -> None:
        """Give a sign of life to other machines. If the file is gone, others see that too."""
        with suppress(OSError):
            os.utime(self._path)

    def close(self, *, remove: bool = True) -> None:
        """End the session. Idempotent.

        Args:
            remove: False leaves the file, as a process does that dies.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(descriptor)

    def close_in_child(self) -> None:
        self.close(remove=False)


def derive_lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def derive_socket_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.sock"


def is_dead(folder: Path, name: str) -> bool:
    """True if the process of a session of this machine has ended.

    Args:
        folder: where the files are.
        name: of the session.
    """
    try:
        descriptor = os.open(derive_lock_path(folder, name), os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        # It cannot be told now.
        return False
    try:
        dead = lock_file(descriptor, wait=False)
        if dead:
            unlock_file(descriptor)
        return dead
    finally:
        os.close(descriptor)


def is_dead_elsewhere(folder: Path, name: str, host: str, now: float, path: Path) -> bool:
    """True if a session of another run of a kernel has ended.

    Args:
        folder: where the files are.
        name: of the session.
        host: its machine.
        now: seconds since the Unix epoch.
        path: the database file, for the error.

    Raises:
        TransportError: another machine uses the file.
    """
    if host == find_host():
        # This machine was started again.
        return True
    try:
        age = now - derive_lock_path(folder, name).stat().st_mtime
    except OSError:
        return True
    if age > FOREIGN_SECONDS:
        return True
    raise TransportError(
        f"SQLite at {path}: the machine {host.split(' ')[0]!r} uses this file, too, or did so {age:.0f} seconds ago. "
        "A SQLite file serves the processes of one machine. For several, use the transport 'pulsar'. If that machine "
        f"is gone, try again after {FOREIGN_SECONDS:.0f} seconds"
    )


def remove_files(folder: Path, name: str) -> None:
    """Remove what a dead session has left."""
    for path in (derive_lock_path(folder, name), derive_socket_path(folder, name)):
        with suppress(OSError):
            path.unlink()
