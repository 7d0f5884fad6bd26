"""A configuration file with broker and database in memory, shared by all commands of a test."""

from __future__ import annotations

from pathlib import Path

TEXT = """\
transport: {{in_memory: {{name: '{name}'}}}}
storage: {{in_memory: {{name: '{name}'}}}}
services:
  - name: Flights
    executor: {{class: infinitic.cli.demo.booking.Flights}}
workflows:
  - name: Trip
    executor: {{class: infinitic.cli.demo.booking.Trip}}
    state_engine: {{}}
"""


def write_in_memory_file(folder: Path) -> str:
    """Write the file, and return its path. The folder is also the name of its broker."""
    file = folder / "infinitic.yml"
    file.write_text(TEXT.format(name=folder))
    return str(file)
