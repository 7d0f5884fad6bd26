"""Where the file is: on which kind of disk, on which machine, and what lies beside it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from infinitic.errors import TransportError

NETWORK = {
    *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.davfs2"),
    *("davfs", "gpfs", "orangefs", "pvfs2", "moosefs", "fuse.moosefs", "fuse.juicefs"),
}
"""Kinds of file systems on which locks and shared memory do not reach all who share a file."""

MOUNTS = Path("/proc/mounts")


def find_kind(folder: Path, mounts: str) -> str:
    """Find the kind of file system of a folder; empty if it is not known.

    Args:
        folder: an absolute path without links.
        mounts: what is mounted, as in `/proc/mounts`. Of a place, the last line counts.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, place, found, *_ = [*line.split(" "), "", "", ""]
        at = Path(place.encode().decode("unicode_escape") if "\\" in place else place)
        if folder.is_relative_to(at) and len(at.parts) >= best:
            best, kind = len(at.parts), found
    return kind


def check_place(path: Path, mounts: Path = MOUNTS) -> None:
    """Check that a file is, or will be, in a folder of a local disk.

    The kind of disk is known on Linux only.

    Args:
        path: the file.
        mounts: the file that says what is mounted.

    Raises:
        TransportError: it is on a network drive, or a directory, or its directory is missing.
    """
    if path.is_dir():
        raise TransportError(f"SQLite at {path}: this is a directory. Use the path of a file")
    folder = path.parent.resolve()
    if not folder.is_dir():
        raise TransportError(f"SQLite at {path}: its directory {folder} is missing. Create it, or use another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TransportError(
            f"SQLite at {path}: the user of this process may not write to {folder}. SQLite makes files beside the "
            "database: give it the permission"
        )
    if mounts.exists():
        kind = find_kind(folder, mounts.read_text(encoding="utf-8", errors="surrogateescape"))
        if kind in NETWORK:
            raise TransportError(
                f"SQLite at {path}: this is a network drive ({kind}), where SQLite may lose messages. Use a disk of "
                "this machine, or the transport 'pulsar' for several machines"
            )


def find_boot() -> str:
    """Name this run of the kernel. Processes of two names cannot see each other's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def find_host() -> str:
    """Name this machine, for people, and so that it is known again after it was started again."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    return f"{socket.gethostname()} {machine}".strip()


def find_peers_folder(path: Path) -> Path:
    """The folder of locks and sockets, beside the database file."""
    return path.with_name(f"{path.name}-peers")
