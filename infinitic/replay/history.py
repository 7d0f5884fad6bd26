"""Makes a live instance of its history.

Activations are fed in order, each with the commands that it led to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from infinitic.messages import commands
from infinitic.messages.events import (
    Abandoned,
    Activated,
    Event,
    Partial,
    RemoteError,
    Reopened,
    RunStarted,
    Started,
    Stimulus,
    TaskError,
    TaskResult,
    TaskTimeout,
    UnseenEvent,
)
from infinitic.replay.rerunning import Rerun
from infinitic.replay.undone import Undone

_COMMANDS = (
    commands.ScheduleTask,
    commands.StartTimer,
    commands.RecordInline,
    commands.CancelPosition,
    commands.CompleteMethod,
    commands.FailMethod,
    commands.CancelMethod,
    commands.RefuseCall,
    commands.RecordPatch,
    commands.ContinueRun,
    commands.StartChild,
    commands.CallRemote,
    commands.SignalRemote,
)


def cut_to_run(happened: Sequence[Event], run: int | None = None) -> Sequence[Event]:
    """Cut off what belongs to other runs.

    Args:
        happened: events of an instance, in order.
        run: the run that is wanted; None: the last one.
    """
    found, current = happened, 0
    for index, event in enumerate(happened):
        if isinstance(event, RunStarted):
            if run == current:
                return happened[len(happened) - len(found) : index]
            found, current = happened[index:], event.run
    return found


class Replayed(Protocol):
    """What a history is fed to: an `Instance`, or a reader that runs no code."""

    def activate(
        self, at: float, stimuli: Sequence[Stimulus], recorded: deque[commands.Command], /, *, each: bool
    ) -> object:
        """Do what `Instance.activate` does."""
        ...

    def note_start(self, started: Started, /) -> object:
        """Do what `Instance.note_start` does."""
        ...

    def pass_over(self) -> object:
        """Do what `Instance.pass_over` does."""
        ...

    def note_reopened(self, reopened: Reopened, /) -> object:
        """Do what `Instance.note_reopened` does."""
        ...


class Replay:
    """Feeds the history to an instance, as it comes from the storage.

    An activation runs once its commands are complete: when the next one opens, or at the end.

    Args:
        instance: what is fed.
        undone: what later events of this history undo; None: nothing.

    Attributes:
        pending: at the end, the stimuli that the code was not handed yet.
        failed: the activation that is to be run again next; None: none is.
        recorded: the commands of activations that were not run.
    """

    def __init__(self, instance: Replayed, undone: Undone | None = None) -> None:
        self.failed: Activated | None = None
        self._late = 0.0
        self._instance = instance
        self._undone = undone
        self._opened: Activated | None = None
        self._stimuli: list[Stimulus] = []
        self.recorded: deque[commands.Command] = deque()
        self.pending: list[Stimulus] = []

    def feed(self, events: Iterable[Event]) -> None:
        """Events of the next segment. Raises as `Instance.activate` does."""
        for event in events:
            # Most events are of the first kinds.
            if isinstance(event, Activated):
                self._flush()
                if self._undone is not None and self._undone.passes_over(event.number):
                    # Its stimuli and commands are kept for the one that runs it again.
                    self.failed = self.failed or event
                    self._instance.pass_over()
                else:
                    self._opened, self._stimuli, self.pending = event, self.pending, []
            elif isinstance(event, TaskResult):
                self.pending.append(event)
            elif isinstance(event, _COMMANDS):
                if self._undone is None or not self._undone.skips(event):
                    self.recorded.append(event)
            elif isinstance(event, Partial):
                if self._opened is None:
                    continue
                self._stimuli, left = self._stimuli[: event.handed], self._stimuli[event.handed :]
                self.pending = [*left, *self.pending]
            elif isinstance(event, Abandoned):
                if event.unanswered:
                    self._opened = None
            elif isinstance(event, RunStarted):
                # The run before is over, and nobody makes it again.
                self._opened, self._stimuli, self.pending = None, [], []
                self.recorded, self.failed = deque(), None
            elif isinstance(event, Started):
                self._instance.note_start(event)
            elif isinstance(event, Reopened):
                self._flush()
                self._instance.note_reopened(event)
                if self._undone is not None:
                    self._undone.pass_by(event)
                    # The next activation may tell how many of the others it was handed.
                    self.pending = self._undone.leave_out(self.pending, 0, until_now=True)
                    if event.rerun and self.failed is not None:
                        self._late = max(event.at - self.failed.at, 0.0)
            elif not isinstance(event, UnseenEvent):
                if self._undone is not None and isinstance(event, TaskError | TaskTimeout | RemoteError):
                    self._undone.note(event)
                self.pending.append(event)

    def finish(self, *, unanswered: bool) -> tuple[Activated, list[Stimulus]] | None:
        """The history is at its end.

        `pending` are then the stimuli that the code was not handed yet.

        `unanswered` says that the last activation was opened, and nobody has told yet what the code
        asked for: it is returned with its stimuli instead of being run.
        """
        opened, self._opened = (self._opened, None) if unanswered else (None, self._opened)
        self._flush()
        if self._undone is not None:
            self.pending = self._undone.leave_out(self.pending, 0)
        return None if opened is None else (opened, self._choose_stimuli(opened))

    @property
    def rerun(self) -> Rerun | None:
        """At the end: what the next activation has to repeat first; None: nothing."""
        return None if self.failed is None else Rerun(self.recorded, self._late)

    def _choose_stimuli(self, opened: Activated) -> list[Stimulus]:
        return self._stimuli if self._undone is None else self._undone.leave_out(self._stimuli, opened.number)

    def _flush(self) -> None:
        if self._opened is not None:
            opened = self._opened
            self._instance.activate(opened.at, self._choose_stimuli(opened), self.recorded, each=opened.each)
            self.recorded = deque()
            self._opened = self.failed = None
