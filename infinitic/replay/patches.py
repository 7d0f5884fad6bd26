"""Changes of workflow code that running instances have, or have not: `Workflow.patched`.

Code asks for a change by its id. An instance whose code gets there for the first time takes the
change, and records that. One whose code was there before the change was deployed has no such record
in its history, and goes on without it. The first answer holds, so an instance never changes its
mind.
"""

from __future__ import annotations

from collections import deque

from infinitic.messages.commands import Command, RecordPatch

_NONE: frozenset[str] = frozenset()
"""Most code asks for no change: a set for each instance would be in vain."""


class Patches:
    """The changes of one instance."""

    __slots__ = ("_answers", "_recorded")

    def __init__(self) -> None:
        self._answers: dict[str, bool] = {}
        self._recorded = _NONE

    def get(self, change_id: str) -> bool | None:
        """Whether the instance has a change; None if its code has not asked before."""
        return self._answers.get(change_id)

    def is_recorded(self, change_id: str) -> bool:
        """Whether the history up to here records that the instance has a change."""
        return change_id in self._recorded

    def list_unknown(self) -> tuple[str, ...]:
        """List the changes that the history records, and that the code has not asked for."""
        return tuple(sorted(self._recorded - self._answers.keys()))

    def settle(self, change_id: str, *, replaying: bool) -> bool:
        """Decide whether the instance has a change. In replay, the history tells."""
        answer = self._answers[change_id] = not replaying or change_id in self._recorded
        return answer

    def pass_by(self, recorded: deque[Command]) -> None:
        """Take the records that come next out of the history of an activation.

        They belong to no place: code that no longer asks for a change may go on.
        """
        while recorded:
            first = recorded[0]
            if not isinstance(first, RecordPatch):
                break
            self._recorded |= {first.name}
            recorded.popleft()
