"""What of a history does not count any more, because an operator has re-opened its instance.

`Reopened` says what it undoes. A replay must know that before it comes to the place. So it is given
all re-openings at its begin, and leaves out what they undo.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from infinitic.messages.commands import CancelPosition, Command, FailMethod
from infinitic.messages.events import Event, RemoteError, Reopened, Stimulus, TaskError, TaskTimeout

_PROBED = 2**53
"""In place of the number of a re-opening: all that a history holds of this task is left out."""


class Undone:
    """Tells a replay what to leave out.

    The same task may fail and be asked for several times. So each re-opening counts only for what
    comes before it. They are counted from 1 on, in the order of the history.

    Args:
        reopenings: all of the history, in order.
        probed: positions of tasks whose failures are left out as well: a replay shows whether the
            code goes on as the history says.
        rerun: the first activation that is not run, since a probe runs it; 0: all are.

    Attributes:
        activations: for each task that is probed, the number of the activation that handed its last
            failure to the code.
    """

    def __init__(self, reopenings: Iterable[Reopened] = (), probed: Collection[int] = (), rerun: int = 0) -> None:
        self.activations: dict[int, int] = {}
        self._passed = 0
        self._failures: dict[int, list[int]] = {}
        self._cancellations: dict[int, int] = {}
        self._methods: dict[str, int] = {}
        # The first activation that does not count, and the re-opening that says so.
        self._reruns: list[tuple[int, int]] = [(rerun, _PROBED)] if rerun else []
        # By identity, since two failures of a task may be equal: which re-opening undoes it.
        self._left_out: dict[int, int] = {}
        for number, each in enumerate(reopenings, 1):
            for task in each.tasks:
                if task.canceled:
                    self._cancellations[task.position] = number
                else:
                    self._failures.setdefault(task.position, []).append(number)
            if each.rerun:
                self._reruns.append((each.rerun, number))
            for timer in each.timers:
                self._cancellations[timer.position] = number
            for position in each.cancellations:
                self._cancellations[position] = number
            for method_id in each.methods:
                self._methods[method_id] = number
        for position in probed:
            self._failures.setdefault(position, []).append(_PROBED)

    def pass_by(self, reopened: Reopened) -> None:
        """Note that the replay has come to a re-opening: what follows is not undone by it."""
        self._passed += 1

    def skips(self, command: Command) -> bool:
        """Tell whether a recorded command is undone by a later re-opening."""
        if isinstance(command, CancelPosition):
            return self._cancellations.get(command.position, 0) > self._passed
        if isinstance(command, FailMethod):
            return self._methods.get(command.method_id, 0) > self._passed
        return False

    def note(self, failure: TaskError | TaskTimeout | RemoteError) -> None:
        """Note a failure that the replay has come to. It is handed to the code later, if at all."""
        for number in self._failures.get(failure.position, ()):
            if number > self._passed:
                self._left_out[id(failure)] = number
                return

    def passes_over(self, activation: int) -> bool:
        """Tell whether an activation does not count, since a later one runs its code again."""
        return any(first <= activation and number > self._passed for first, number in self._reruns)

    def leave_out(self, stimuli: Sequence[Stimulus], activation: int, *, until_now: bool = False) -> list[Stimulus]:
        """Choose those stimuli that are not undone.

        Args:
            stimuli: what the history holds for an activation.
            activation: its number; 0: the code was handed them in none so far.
            until_now: whether only those re-openings count that the replay has come to.
        """
        kept: list[Stimulus] = []
        for stimulus in stimuli:
            number = self._left_out.get(id(stimulus))
            if number is None or (until_now and number > self._passed):
                kept.append(stimulus)
                continue
            # Another object may get this identity later.
            del self._left_out[id(stimulus)]
            if number == _PROBED and isinstance(stimulus, TaskError | TaskTimeout | RemoteError):
                self.activations[stimulus.position] = activation
        return kept


def find_undone(history: Iterable[Event]) -> Undone | None:
    """Find what is undone of a history that is whole in memory; None if nothing is."""
    reopenings = [event for event in history if isinstance(event, Reopened)]
    return Undone(reopenings) if reopenings else None
