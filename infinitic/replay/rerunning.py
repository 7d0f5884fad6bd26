"""Running an activation again that has failed, with today's code (`retry_workflow_task`, S34).

The code is handed once more what it was handed from that activation on, at the time of that
activation. First it has to ask for what the history holds, so nothing runs twice. Behind that it
goes on as in an activation of its own: what it asks for is new, and positions go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from infinitic.definitions.workflows import ReplayCheck
from infinitic.errors import InfiniticError
from infinitic.limits import Limits
from infinitic.messages.commands import (
    CallRemote,
    CancelPosition,
    Command,
    FailMethod,
    RecordPatch,
    ScheduleTask,
    StartChild,
)
from infinitic.replay.recorder import Recorder
from infinitic.replay.skipping import Skipping
from infinitic.replay.stops import StopActivation


class Rerun:
    """What the next activation of an instance has to repeat first.

    Args:
        recorded: the commands that the history holds.
        late: seconds between the time that the code sees and the re-opening. Total timeouts of what
            is new count from the re-opening.
    """

    def __init__(self, recorded: deque[Command], late: float = 0.0) -> None:
        self._recorded = recorded
        self._late = late

    def begin(self, recorder: Recorder, limits: Limits | None) -> list[Command]:
        """Begin the activation. Returns the list to which its commands are added."""
        return recorder.begin_again(self._recorded, limits)

    def finish(self, recorder: Recorder, commands: Sequence[Command]) -> list[Command]:
        """End the activation. Returns those of its commands that are new."""
        return [self._renew(command) for command in commands[recorder.repeated :]]

    def _renew(self, command: Command) -> Command:
        if isinstance(command, ScheduleTask | StartChild | CallRemote) and command.timeout_at is not None:
            return replace(command, timeout_at=command.timeout_at + self._late)
        return command


class GoesBeyond(InfiniticError):
    """A probe is over: the code asks for something that the history does not hold."""


class EndSkipping(Skipping):
    """Skips the ends and cancellations that today's code does not ask for, in a failed activation.

    It stops the code once it asks for something new: that is for the activation itself. So a probe
    calls no function of `inline`. Arguments are compared as well: otherwise new code might get the
    result of what other code has asked for.

    Args:
        recorder: that of the instance.
        check: how closely commands are compared in the other activations.
        waiting: what the code waits for, by position.

    Attributes:
        repeated: the ends of methods that the code asks for again.
        open: what the code waited for when it was stopped.
    """

    def __init__(self, recorder: Recorder, check: ReplayCheck, waiting: Mapping[int, object]) -> None:
        super().__init__(ReplayCheck.NONE if check is ReplayCheck.NONE else ReplayCheck.STRICT, recorder.patches)
        self.repeated: list[FailMethod] = []
        self.open = waiting
        self._recorder = recorder
        recorder.skipping = self

    def skip(self, recorded: deque[Command] | None, asked: Command | None) -> None:
        """Skip as in any probe. Stop the code if nothing is left that it could ask for."""
        super().skip(recorded, asked)
        if not recorded:
            self._stop()
        if isinstance(asked, FailMethod):
            self.repeated.append(asked)

    def meet_patch(self, recorded: deque[Command] | None) -> None:
        """Stop if the code asks for a change where the failure was: it will get it."""
        if all(isinstance(each, FailMethod | CancelPosition | RecordPatch) for each in recorded or ()):
            self.skip(recorded, None)

    def _stop(self) -> None:
        if self._recorder.fault is None:
            # Code that is stopped may cancel other code.
            self.open = dict(self.open)
            self._recorder.fault = GoesBeyond("The code goes beyond its history")
        raise StopActivation


class Rerunnable:
    """A part of `Instance`: one of its activations may run again.

    Attributes:
        activations: how many activations it has run, or passed over.
        rerun: what the next activation has to repeat first; None: nothing.
    """

    activations: int
    rerun: Rerun | None = None

    def pass_over(self) -> None:
        """Pass over an activation: a later one hands over what it did."""
        self.activations += 1
