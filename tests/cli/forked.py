"""Runs many command lines in a terminal that is set up once: each in a fork of one interpreter.

The interpreter sets up its streams when it starts, as the environment says. A fork has them as they
are then, with its own standard output and error behind them, and ends as every interpreter does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_LIMIT = 300.0


class Ended(NamedTuple):
    """How one command line has ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run_each(commands: Sequence[Sequence[str]], cwd: Path, *, stdout: str | None = None, **environ: str) -> list[Ended]:
    """Run each of these command lines of `infinitic`.

    Args:
        commands: The arguments of each.
        cwd: The folder in which they run. What they print is kept there.
        stdout: A file that takes the standard output, or "gone": a pipe that nobody reads.
        environ: The environment, beside that of the test without its locale.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps([[*each] for each in commands]), stdout or ""],
        cwd=cwd,
        env=kept | environ,
        stdout=subprocess.PIPE,
        timeout=_LIMIT,
        check=True,
    )
    codes: list[int] = json.loads((cwd / "codes").read_bytes())
    return [
        Ended(code, (cwd / f"{number}.out").read_bytes(), (cwd / f"{number}.err").read_bytes())
        for number, code in enumerate(codes)
    ]


_PROGRAM = """
import json, os, sys
from infinitic.cli import main
from infinitic.cli.app import COMMANDS, load_command
import typer.rich_utils

def open_output(number, target):
    if target == "gone":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open(target or f"{number}.out", os.O_WRONLY | os.O_CREAT)

commands, target = json.loads(sys.argv[1]), sys.argv[2]
for each in COMMANDS:
    load_command(each)
codes = []
for number, arguments in enumerate(commands):
    open(f"{number}.out", "w").close()
    child = os.fork()
    if not child:
        os.dup2(open_output(number, target), 1)
        os.dup2(os.open(f"{number}.err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["infinitic", *arguments]
        break
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    with open("codes", "w") as file:
        json.dump(codes, file)
    sys.exit()
main()
"""
