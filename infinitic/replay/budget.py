"""Counts what workflow code asks for, against the limits of one activation.

All that the code asks for in one activation goes into one commit, so its bytes are bounded. They
are counted in two parts: since the code last rested, and before that in this activation. What is
too large by itself is refused. What is only too large together with what came before is not: the
stimulus that led to it gets an activation of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.limits import Limits
from infinitic.messages.commands import CancelPosition, Command

COMMAND_BYTES = 100
"""About what a command takes beside its payload."""


class Budget:
    """The bytes that the code of one instance may still ask for.

    Attributes:
        limits: the limits of this activation; None where nothing is bounded.
        later: the limits of an activation that repeats what its history holds, behind that.
        asked: bytes that were asked for since the code last rested.
        refused: bytes that were refused since then.
    """

    __slots__ = ("_asked_before", "_room", "asked", "later", "limits", "refused")

    def __init__(self) -> None:
        self.limits: Limits | None = None
        self.later: Limits | None = None
        self.asked = 0
        self.refused = 0
        # Bytes in this activation, until the code last rested.
        self._asked_before = 0
        # How many bytes `take` may count; -1 where the rarer cases must be looked at.
        self._room = -1

    def begin(self, limits: Limits | None, *, recording: bool) -> None:
        """Begin an activation. In replay nothing is refused but what was refused then.

        Args:
            limits: the limits of what may be asked for; None for none.
            recording: whether the activation is run for the first time.
        """
        self.limits = limits
        self._room = limits.activation if limits is not None and recording else -1
        self._asked_before = 0

    def end_stimulus(self, commands: int, *, recording: bool) -> bool:
        """The code rests after a stimulus.

        Args:
            commands: how many commands the stimulus led to.
            recording: whether the activation is run for the first time.

        Returns:
            False if the code has asked for as much as one activation should lead to.
        """
        self._asked_before += self.asked + COMMAND_BYTES * commands
        if self.limits is not None:
            if self._asked_before >= self.limits.enough:
                return False
            if recording:
                self._room = self.limits.activation - self._asked_before
        return True

    def take(self, size: int) -> bool:
        """Count bytes if there is clearly room for them: the usual case. If not, ask `count`."""
        asked = self.asked + size
        if asked > self._room or self.limits is None or size > self.limits.call:
            return False
        self.asked = asked
        return True

    def count(self, name: str, size: int, *, is_call: bool = True) -> str | None:
        """Count bytes, unless they are too many.

        Args:
            name: what the bytes are, for the reason.
            size: how many they are.
            is_call: whether the limit of a single call holds for them, too.

        Returns:
            Why they are refused; None if they are counted.
        """
        limits = self.limits
        asked = self.asked + size
        if limits is not None and is_call and size > limits.call:
            return f"{name}: {size:,} bytes are above the limit of {limits.call:,} bytes"
        if limits is not None and asked > limits.activation:
            return (
                f"{name}: with its {size:,} bytes, what is asked for at once has {asked:,} bytes, "
                f"above the limit of {limits.activation:,} bytes"
            )
        self.asked = asked
        return None

    @property
    def is_exceeded(self) -> bool:
        """True if what was counted fits by itself, but not with what came before it."""
        return self.limits is not None and self.asked + self._asked_before > self.limits.activation


def count_asked(commands: Sequence[Command], before: int, most: int) -> int:
    """Count what code has asked for since it rested.

    What it cancels does not count. It may have asked for that in many activations, and has to be
    able to end.

    Args:
        commands: those of the activation.
        before: how many there were when the code last rested.
        most: how many are allowed. They are only looked at if there are more.
    """
    asked = len(commands) - before
    if asked > most:
        asked -= sum(type(each) is CancelPosition for each in commands[before:])
    return asked
