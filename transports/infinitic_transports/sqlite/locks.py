"""Locks on files. They end with the process that holds them, however it ends.

Linux and macOS have `flock`, which belongs to an open file: two of them in one process exclude each
other, and a child gets none unless it inherits the open file. Windows locks a byte of an open file,
with the same effect. A kind of lock that the kernel does not queue is tried again, every few
milliseconds.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from threading import Event
from weakref import WeakSet

if sys.platform == "win32":
    import msvcrt

    def lock_file(descriptor: int, *, wait: bool) -> bool:
        """Lock an open file. False: another one has it, and `wait` is False."""
        pause = Event()
        while True:
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
                pause.wait(0.002)
            else:
                return True

    def unlock_file(descriptor: int) -> None:
        """Unlock an open file that is locked."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def lock_file(descriptor: int, *, wait: bool) -> bool:
        """Lock an open file. False: another one has it, and `wait` is False."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock_file(descriptor: int) -> None:
        """Unlock an open file that is locked."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def open_lock(path: Path) -> int:
    """Open a file that is there to be locked. It is made if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


class Inherited(ABC):
    """What has open files that are locked. A child that is forked closes them."""

    @abstractmethod
    def close_in_child(self) -> None:
        """Close the files: in the child they would keep the lock of the parent after its end."""


_inherited: WeakSet[Inherited] = WeakSet()


def note_inherited(what: Inherited) -> None:
    """Close its files in each child that is forked from now on."""
    _inherited.add(what)


def _close_inherited() -> None:
    for each in list(_inherited):
        each.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class Turnstile(Inherited):
    """A lock between processes that those who wait get in turn.

    There are two files. Who waits for the second has the first. So one who has just let the second
    go cannot take it again before the one who waits: the first is in the way.

    Args:
        folder: where the two files are.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = open_lock(folder / "gate.lock")
        try:
            self._room = open_lock(folder / "writer.lock")
        except BaseException:
            os.close(self._gate)
            raise
        note_inherited(self)

    def try_enter(self) -> bool:
        """Take the lock if nobody has it or waits for it."""
        if not lock_file(self._gate, wait=False):
            return False
        try:
            return lock_file(self._room, wait=False)
        finally:
            unlock_file(self._gate)

    def enter(self) -> None:
        """Take the lock. It may wait, so call it in a thread."""
        lock_file(self._gate, wait=True)
        try:
            lock_file(self._room, wait=True)
        finally:
            unlock_file(self._gate)

    def leave(self) -> None:
        """Let the lock go."""
        unlock_file(self._room)

    def close(self) -> None:
        """Close the files. A lock that is held ends with them. Idempotent."""
        gate, room = self._gate, self._room
        self._gate = self._room = -1
        for each in (gate, room):
            with suppress(OSError):
                os.close(each)

    def close_in_child(self) -> None:
        self.close()
