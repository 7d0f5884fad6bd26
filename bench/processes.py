"""CPU time of processes and their children, and who listens on a port. Linux only, by /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENS = "0A"


def measure_cpu(roots: Iterable[int]) -> float:
    """Seconds of CPU that processes have used, with their children, also those that have ended.

    Args:
        roots: process ids.
    """
    families = _find_children()
    total, seen, waiting = 0.0, set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            waiting += families.get(pid, ())
            fields = _read_stat(pid)
            # utime, stime, and those of children that have ended.
            total += sum(map(int, fields[11:15])) / _TICKS if fields else 0.0
    return total


def measure_memory(pid: int) -> float:
    """MiB of memory of a process that is in use now (resident)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def find_listener(port: int) -> int | None:
    """Find the process that listens on a port; None if it is not on this machine, or not ours.

    A server with several processes is the one that was started first.
    """
    inodes = {f"socket:[{fields[9]}]" for fields in _read_sockets() if fields[3] == _LISTENS and _port(fields) == port}
    for pid in _list_processes():
        with suppress(OSError):
            for file in Path(f"/proc/{pid}/fd").iterdir():
                if str(file.readlink()) in inodes:
                    return pid
    return None


def _port(fields: list[str]) -> int:
    return int(fields[1].rpartition(":")[2], 16)


def _read_sockets() -> Iterator[list[str]]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                yield line.split()


def _list_processes() -> list[int]:
    return sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _read_stat(pid: int) -> list[str]:
    """The fields of a process behind its name: state, parent, and so on. Empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _find_children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in _list_processes():
        fields = _read_stat(pid)
        if fields:
            found.setdefault(int(fields[1]), []).append(pid)
    return found
