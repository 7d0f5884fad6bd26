"""In a probe: the recorded commands that the code does not give again, and need not."""

from __future__ import annotations

from collections import deque

from infinitic.definitions.workflows import ReplayCheck
from infinitic.messages.commands import CancelPosition, Command, FailMethod, RecordPatch
from infinitic.replay import divergence
from infinitic.replay.patches import Patches


class Skipping:
    """Skips the ends and cancellations that were caused by what a probe leaves out.

    Args:
        check: how closely commands are compared.
        patches: the changes that the instance has.

    Attributes:
        skipped: the commands so far.
        check: how closely commands are compared.
    """

    def __init__(self, check: ReplayCheck, patches: Patches) -> None:
        self.skipped: list[FailMethod | CancelPosition] = []
        self.check = check
        self._patches = patches

    def skip(self, recorded: deque[Command] | None, asked: Command | None) -> None:
        """Skip those that come next, up to what the code asks for.

        Args:
            recorded: what the history holds for this activation. What is skipped is removed.
            asked: what the code asks for; None: nothing of these kinds.
        """
        while recorded:
            following = recorded[0]
            if isinstance(following, RecordPatch):
                self._patches.pass_by(recorded)
                continue
            if not isinstance(following, FailMethod | CancelPosition):
                return
            if (
                asked is not None
                and type(asked) is type(following)
                and divergence.is_same_command(following, asked, self.check)
            ):
                return
            self.skipped.append(following)
            recorded.popleft()

    def meet_patch(self, recorded: deque[Command] | None) -> None:
        """Take note that the code asks for a change of itself. Here it means nothing."""
