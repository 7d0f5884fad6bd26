"""Ends all that a campaign has started, whatever became of the campaign itself.

It is a process of its own. It waits until its standard input ends: the campaign has closed it, or
has died. Then it kills each process whose command names the folder of the campaign, takes the small
disks away, and removes the folder.

python -m chaos.guard FOLDER
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PREFIX = "infinitic-chaos-"
"""How the names of the folders begin."""

PATIENCE = 30.0


def main(folder: Path) -> None:
    """Wait, and end it all.

    Args:
        folder: of the campaign. Nobody else has it in a command.
    """
    # A folder that is not one of ours could be named by the commands of others.
    assert folder.name.startswith(PREFIX), folder
    # Ctrl-C is for the campaign. It closes our input when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    deadline = time.monotonic() + PATIENCE
    while (found := find_processes(folder)) and time.monotonic() < deadline:
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    for disk in find_disks(folder):
        subprocess.run(["umount", "--lazy", disk], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def find_processes(folder: Path) -> list[int]:
    """Find the processes, other than this one, whose command names the folder."""
    found = list[int]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def find_disks(folder: Path) -> list[str]:
    """Find what is mounted in the folder."""
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return [line.split()[1] for line in mounts if line.split()[1].startswith(f"{folder}/")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
