"""A small disk for the data of one server, which can be filled.

It is a file system in memory, of its own, mounted on a folder. That takes the right to mount, which
root has. Where it is not allowed, the folder is an ordinary one, and no disk is filled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_STEP = 16 * 1024 * 1024
_FILLER = "filler"


class SmallDisk:
    """A folder with a disk of its own, if that is allowed here.

    Attributes:
        folder: where it is. It is made.
        can_fill: whether it has a disk of its own.

    Args:
        folder: where it shall be.
        size: bytes of the disk.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "infinitic-chaos", str(folder)]
        try:
            self.can_fill = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            self.can_fill = False

    @contextmanager
    def filled(self, part: float) -> Generator[None]:
        """Within this, the disk is full.

        Args:
            part: how full it is at least, up to 1.0: not a byte is free.
        """
        filler = self.folder / _FILLER
        file = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            self._fill(file, part)
            yield
        finally:
            os.close(file)
            filler.unlink()

    def _fill(self, file: int, part: float) -> None:
        usage = shutil.disk_usage(self.folder)
        written, step = int(usage.total * part) - usage.used, _STEP
        if part < 1.0:
            os.posix_fallocate(file, 0, max(1, written))
            return
        written = 0
        while step:
            try:
                os.posix_fallocate(file, written, step)
                written += step
            except OSError:
                step //= 2

    def remove(self) -> None:
        """Take the disk away, with all that is on it. The folder stays."""
        if self.can_fill:
            # Lazily: a server that was just killed may hold a file for an instant.
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=True)
            self.can_fill = False
