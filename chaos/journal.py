"""What clients have done, in a file that outlives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a client has done, or was about to do.

    Attributes:
        number: the number of the workflow.
        what: "started" (value: the id), "sending", "sent", "asked", "cancelling" or "ended" (value:
            the outcome).
        value: see `what`.
    """

    number: int
    what: str
    value: Any = None


class Journal:
    """The journal of one share of the workflows. A new client goes on where the last one was.

    Args:
        path: the file. It may exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[int, list[JournalEntry]] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                self._keep(msgspec.json.decode(line, type=JournalEntry))

    def add(self, number: int, what: str, value: object = None) -> None:
        """Note something, at once."""
        entry = JournalEntry(number, what, value)
        # One write, so that a kill leaves a whole line or none.
        with self._path.open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self._keep(entry)

    def find(self, number: int, what: str) -> list[Any]:
        """Find the values that were noted, oldest first."""
        return [entry.value for entry in self._entries.get(number, ()) if entry.what == what]

    def has(self, number: int, what: str, value: object = None) -> bool:
        """True if this was noted; with a value: if it was noted with this value."""
        found = self.find(number, what)
        return bool(found) if value is None else value in found

    def count(self, what: str) -> int:
        """Count the workflows of which this was noted."""
        return sum(1 for number in self._entries if self.has(number, what))

    def list_started(self) -> Iterator[tuple[int, str]]:
        """Give number and id of each workflow that was started."""
        for number in sorted(self._entries):
            for workflow_id in self.find(number, "started"):
                yield number, workflow_id

    def _keep(self, entry: JournalEntry) -> None:
        self._entries.setdefault(entry.number, []).append(entry)
