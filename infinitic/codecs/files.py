"""A store of `ClaimCheck` in a directory that all workers and clients share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from infinitic.codecs.store import ObjectStore
from infinitic.ids import new_id

_UNFINISHED = ".part"
"""The end of the name of a file that is being written."""


class FileStore(ObjectStore):
    """Keeps objects as files of a directory, for instance of a network file system.

    A file is written beside its place, and moved there when it is complete and on disk. So a crash
    leaves no half of an object, and two writers do no harm.

    The time of a file says when it was last written or read: `remove_unused` goes by it.

    Args:
        directory: it must exist: a file system that is not mounted must not look like an empty one.
    """

    __slots__ = ("directory",)

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def __repr__(self) -> str:
        return f"FileStore({str(self.directory)!r})"

    def put(self, name: str, data: bytes) -> None:
        """Keep an object. See `ObjectStore.put`."""
        path = self._find_path(name)
        if self._mark(path, len(data)):
            return
        path.parent.mkdir(exist_ok=True)
        written = path.with_name(f"{name}.{new_id()[:16]}{_UNFINISHED}")
        try:
            with written.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                written.unlink()
            raise
        _sync_directory(path.parent)
        _sync_directory(self.directory)

    def get(self, name: str) -> bytes | None:
        """Find an object. See `ObjectStore.get`."""
        path = self._find_path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if self.directory.is_dir():
                return None
            raise
        # The time is all that may be wrong then: the file system is read-only, for instance.
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def remove_unused(self, seconds: float) -> int:
        """Remove the objects that were neither written nor read for some time.

        Call it now and then, from one place. It also removes what dead writers have left. An object
        that comes back into use while it is being removed may be lost, so leave plenty of time.

        Args:
            seconds: longer than any workflow with such a payload lives, with its retention.

        Returns:
            How many were removed.
        """
        removed = 0
        oldest = self._now() - seconds
        for path in self.directory.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        return removed

    def _now(self) -> float:
        """The time of the file system, whose clock may be another one."""
        with tempfile.TemporaryFile(dir=self.directory) as file:
            return os.fstat(file.fileno()).st_mtime

    def _find_path(self, name: str) -> Path:
        return self.directory / name[:2] / name

    def _mark(self, path: Path, size: int) -> bool:
        """Note that an object is needed. False if it has to be written."""
        try:
            if path.stat().st_size != size:
                return False
        except FileNotFoundError:
            return False
        try:
            os.utime(path)
        except (FileNotFoundError, PermissionError):
            # It was removed just now. Or it is another user's: its time is not ours to change, and
            # it would be removed too early. A file of our own takes its place.
            return False
        return True


def _sync_directory(path: Path) -> None:
    """Have the entries of a directory on disk, where that can be asked for."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
