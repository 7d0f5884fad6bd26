"""For both benchmarks: run a program for its figures, and print a table with their spread."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

Figures = dict[str, float]


def run(module: str, *arguments: str) -> Figures:
    """The figures that one program prints."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("@result "))
    figures: Figures = json.loads(line.removeprefix("@result "))
    return figures


def spread(values: list[float]) -> str:
    """Median, and lowest to highest if there are several."""
    median = _show(statistics.median(values))
    return median if len(values) == 1 else f"{median}  ({_show(min(values))} to {_show(max(values))})"


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Report:
    """Rows of figures, with what they should be."""

    def __init__(self, title: str) -> None:
        self.table = Table("", "figure", "median (lowest to highest)", "goal", title=title)
        self.figures: dict[str, list[float]] = {}

    def add(self, name: str, what: str, values: list[float], goal: str = "") -> None:
        self.table.add_row(name, what, spread(values), goal)
        self.figures[f"{name} {what}"] = values

    def publish(self, output: Path) -> None:
        """Print the table, and write all figures to a JSON file."""
        Console().print(self.table)
        output.parent.mkdir(parents=True, exist_ok=True)
        machine = {"python": platform.python_version(), "system": platform.platform()}
        output.write_text(json.dumps({"machine": machine, "figures": self.figures}, indent=2) + "\n")
