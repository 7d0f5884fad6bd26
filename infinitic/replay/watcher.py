"""A look at each command of a replay, for tools of tests. The engine itself sets no watcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from infinitic.messages.commands import Command


class ReplayWatcher(Protocol):
    """Is shown each pair of commands that a replay compares. Give it to `Instance`."""

    def watch(self, recorded: Command, requested: Command, find_line: Callable[[], str | None]) -> bool:
        """Look at one command before it counts.

        Args:
            recorded: the command in the history, with payloads as the code gave them.
            requested: the command that the code gives now, likewise.
            find_line: finds the line of the user's code that gives it; None if it is not known.

        Returns:
            False if the difference between both ends the replay with `NonDeterminismError`.
        """
        ...

    def find_recorded_line(self, *, is_next: bool) -> str | None:
        """Find the line that gave a command when it was recorded; None if that is not known.

        Args:
            is_next: False for the command that was watched last, True for the one after it.
        """
        ...
