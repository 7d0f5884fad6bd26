"""Counts the instructions of W1 to W4, and those of the floor, if valgrind is there.

Times swing with the load of a machine, instructions do not. A program runs twice, and what the
larger run needs more belongs to the workflows that it runs more. So imports and the start of the
worker do not count.

    python -m bench --only instructions
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.report import Report

_COUNTED = re.compile(r"I\s+refs:\s*([\d,]+)")


class Measured(NamedTuple):
    """A workload, and the two sizes whose difference is counted."""

    title: str
    work: str
    small: int
    large: int
    has_floor: bool = False


MEASURED = (
    Measured("W1 a workflow of three tasks", "w1", 200, 700, has_floor=True),
    Measured("W2 a workflow of 100 parallel tasks", "w2", 2, 6, has_floor=True),
    Measured("W3 a step", "w3", 1_000, 3_000),
    Measured("W4 a workflow that falls asleep", "w4", 1_000, 3_000),
)


def is_possible() -> bool:
    """Whether valgrind is installed."""
    return shutil.which("valgrind") is not None


def count_instructions(module: str, *arguments: str) -> int:
    """Count the instructions of a whole run of a program, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={Path(folder, 'out')}"]
        done = subprocess.run(
            [*command, sys.executable, "-m", module, *arguments],
            check=True,
            capture_output=True,
            text=True,
            # Sets and dicts of texts have another order in each run otherwise.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    counted = _COUNTED.search(done.stderr)
    if counted is None:
        raise RuntimeError(f"valgrind has counted nothing: {done.stderr[-500:]}")
    return int(counted[1].replace(",", ""))


def count_each(module: str, measured: Measured) -> float:
    """Count the instructions of one workflow, or of one step."""
    small, large = (count_instructions(module, measured.work, str(size)) for size in (measured.small, measured.large))
    return (large - small) / (measured.large - measured.small)


def report_instructions(report: Report) -> None:
    """Add a row for each workload, and what part of them the floor needs."""
    for measured in MEASURED:
        ours = count_each("bench.workloads", measured)
        report.add(measured.title, "thousand instructions", [ours / 1000])
        if measured.has_floor:
            floor = count_each("bench.floor", measured)
            report.add(measured.title, "thousand instructions of the floor", [floor / 1000])
            goal = "≥ 0.65" if measured.work == "w1" else ""
            report.add(measured.title, "times the floor, by instructions", [floor / ours], goal)
