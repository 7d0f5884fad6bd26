"""The shelf on disk: one file of steps, to which new ones are appended.

Each step has its length and checksum. Every connection of every process keeps the rows in memory.
Before it does anything, it reads what others have appended. A lock file keeps them apart: `flock`
exists on Linux and macOS, but not on Windows, nor on every network drive.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from struct import Struct
from zlib import crc32

import msgspec

from infinitic.storage import StorageConfigurationError, StorageOutcomeUnknown, StorageUnavailable
from infinitic_shelf.rows import Rows, Step

MAGIC = b"infinitic-shelf 1\n"
"""The first line of a journal. A file with another number has another format."""

SLACK = 1_000_000
"""Bytes that are appended, at least, before the journal is compacted."""

# The length of a step, and its checksum.
_header = Struct(">QI")
_decoder = msgspec.msgpack.Decoder(Step)


class Journal:
    """A connection to the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "journal"
        self._file: FileIO | None = None
        self._rows = Rows()
        self._end = 0  # how far the rows are those of the file
        self._smallest = 0  # the size of the file when it was last written anew

    @contextmanager
    def opened(self) -> Generator[Rows]:
        """The rows as everybody has left them, and nobody else at work meanwhile."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _translate(error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._catch_up()
            except OSError as error:
                raise _translate(error) from error
            yield self._rows
        finally:
            # This releases the lock.
            os.close(lock)

    def append(self, step: Step) -> None:
        """Write a step, and apply it. It is durable when this returns.

        Raises:
            StorageOutcomeUnknown: writing failed. The step may be whole in the file; then others
                will apply it.
        """
        data = _frame(step)
        try:
            file = self._current()
            file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError as error:
            raise StorageOutcomeUnknown(f"Writing {self._path} failed: {error}") from error
        self._end += len(data)
        self._rows.apply(step)

    def compact(self) -> None:
        """Rewrite the journal without what was removed, if it is twice as long as needed."""
        if self._end > 2 * self._smallest + SLACK:
            try:
                self._rewrite(self._rows)
            except OSError as error:
                raise _translate(error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _catch_up(self) -> None:
        if not self._path.exists():
            self._rewrite(Rows())
        if self._file is None or not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
            self._open()
        file = self._current()
        size = os.fstat(file.fileno()).st_size
        if size == self._end:
            return
        file.seek(self._end)
        data = memoryview(file.readall())
        while data:
            if len(data) < _header.size:
                break
            length, checksum = _header.unpack_from(data)
            step, data = data[_header.size : _header.size + length], data[_header.size + length :]
            if length == 0 or len(step) < length:
                break
            if crc32(step) != checksum:
                if data:
                    raise StorageConfigurationError(f"{self._path} is damaged at byte {self._end}")
                break
            self._rows.apply(_decoder.decode(step))
            self._end += _header.size + length
            self._smallest = self._smallest or self._end
        if self._end < size:  # a process died while it wrote, and nobody was told that this was written
            file.truncate(self._end)
        os.fsync(file.fileno())  # or it died before it did this

    def _open(self) -> None:
        self.close()
        file = open(self._path, "r+b", buffering=0)  # noqa: SIM115
        if file.read(len(MAGIC)) != MAGIC:
            file.close()
            raise StorageConfigurationError(f"{self._path} is no journal of this release")
        self._file, self._rows, self._end, self._smallest = file, Rows(), len(MAGIC), 0

    def _current(self) -> FileIO:
        assert self._file is not None
        return self._file

    def _rewrite(self, rows: Rows) -> None:
        """The others see by the new file that it is another one, and so does this connection."""
        new = self._folder / "journal.new"
        with open(new, "wb") as file:
            file.write(MAGIC + _frame(rows.snapshot()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _frame(step: Step) -> bytes:
    data = msgspec.msgpack.encode(step)
    return _header.pack(len(data), crc32(data)) + data


def _translate(error: OSError) -> StorageConfigurationError | StorageUnavailable:
    """What waiting does not mend, and what it may."""
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError | IsADirectoryError):
        return StorageConfigurationError(str(error))
    return StorageUnavailable(str(error))
