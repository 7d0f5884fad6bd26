"""The history of an instance as it grows: what was asked for, and what of it is still open."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.messages import commands, events
from infinitic.messages.events import Event

Request = commands.ScheduleTask | commands.StartTimer | commands.RecordInline | commands.Remote


_GOES_ON = (
    commands.ScheduleTask,
    commands.StartTimer,
    commands.RecordInline,
    commands.Remote,
    commands.CompleteMethod,
    commands.CancelMethod,
    commands.ContinueRun,
    commands.RecordPatch,
    commands.RefuseCall,
)
"""What code asks for that goes on."""


class ObservedHistory:
    """What follows from the events so far.

    Attributes:
        sequence: that of the last segment.
        activation: the number of the last activation.
        at: the time that the code saw in it, in seconds since the Unix epoch.
        requests: what was asked for, by position.
        open_tasks: positions of tasks, children and calls without a result.
        open_timers: when the open timers are due, by position.
        timeouts: when the total timeouts of what is in `open_tasks` are over, by position.
        settled: the sequence of the segment with the result of a task, child or call, by position.
        results: positions of tasks that have returned.
        attempts: how many attempts of a task have failed since it was asked for last, by position.
        sequences: how often an operator asked for a task again, by position.
        running: the ids of methods that run.
        calls: the ids of all methods, in the order of their calls.
        ends: how methods have ended, by id.
        former_ends: the ends of methods that were undone, by id.
        unseen: how many stimuli the code was not handed yet.
        handed: how many it was handed in the last activation.
        run: the number of the run.
        begun_in: the segment with which it began; 0: the first one.
        continues: whether the first method has asked for the next run, which has not begun.
        delegated: the tasks whose newest attempt has returned, and that somebody outside ends.
        carried: the methods that ran when this run began, until its first activation; then None.
        times: of each activation of this run, the time that the code saw, and how many stimuli it
            was handed.
        failed_in: the activation in which the first method has failed; 0: it has not.
        asked_since: whether the code has asked for more than ends and cancellations since then.
        reruns: whether the next activation runs a failed one again.
    """

    __slots__ = (
        "activation",
        "asked_since",
        "at",
        "attempts",
        "begun_in",
        "calls",
        "carried",
        "continues",
        "delegated",
        "ends",
        "failed_in",
        "former_ends",
        "handed",
        "open_tasks",
        "open_timers",
        "requests",
        "reruns",
        "results",
        "run",
        "running",
        "sequence",
        "sequences",
        "settled",
        "started",
        "timeouts",
        "times",
        "unseen",
    )

    def __init__(self) -> None:
        self.sequence = 0
        self.activation = 0
        self.at = 0.0
        self.requests: list[Request] = []
        self.open_tasks: set[int] = set()
        self.open_timers: dict[int, float] = {}
        self.timeouts: dict[int, float] = {}
        self.settled: dict[int, int] = {}
        self.results: set[int] = set()
        self.attempts: dict[int, int] = {}
        self.sequences: dict[int, int] = {}
        self.running: dict[str, None] = {}
        self.calls: dict[str, None] = {}
        self.ends: dict[str, commands.EndMethod | events.Abandoned] = {}
        self.started: events.Started | None = None
        self.former_ends: dict[str, list[commands.EndMethod | events.Abandoned]] = {}
        self.unseen = 0
        self.handed = 0
        self.times: dict[int, tuple[float, int]] = {}
        self.failed_in = 0
        self.asked_since = self.reruns = False
        self.run = 0
        self.begun_in = 0
        self.continues = False
        self.carried: dict[str, None] | None = None
        self.delegated: set[int] = set()

    def add(self, event: Event, sequence: int) -> None:
        """Add the next event.

        Args:
            event: the event.
            sequence: that of its segment.
        """
        if self.failed_in and isinstance(event, _GOES_ON):
            self.asked_since = True
        match event:
            case events.Activated():
                self.activation, self.at, self.reruns = event.number, event.at, False
                self.carried = None
                self.handed, self.unseen = self.unseen, 0
                self.times[event.number] = (event.at, self.handed)
            case events.Partial():
                self.unseen += self.handed - event.handed
                self.handed = event.handed
                self.times[self.activation] = (self.at, event.handed)
            case events.TaskHandedOver():
                self.delegated.add(event.position)
            case events.AttemptError():
                self.delegated.discard(event.position)
                self.attempts[event.position] = self.attempts.get(event.position, 0) + 1
            case commands.SignalRemote():
                self.requests.append(event)
            case commands.ScheduleTask() | commands.StartChild() | commands.CallRemote():
                self.requests.append(event)
                self.open_tasks.add(event.position)
                if event.timeout_at is not None:
                    self.timeouts[event.position] = event.timeout_at
            case commands.StartTimer():
                self.requests.append(event)
                self.open_timers[event.position] = event.due
            case commands.RecordInline():
                self.requests.append(event)
            case commands.CancelPosition():
                self._close(event.position)
            case commands.CompleteMethod() | commands.FailMethod() | commands.CancelMethod():
                if self.continues and event.method_id == next(iter(self.running), ""):
                    self.continues = False
                self.running.pop(event.method_id, None)
                self.ends[event.method_id] = event
                if isinstance(event, commands.FailMethod) and event.method_id == self.main:
                    self.failed_in, self.asked_since = self.activation, False
            case events.Started():
                self.started = event
            case commands.RefuseCall() | commands.RecordPatch():
                pass
            case events.Abandoned():
                self._abandon(event)
            case events.Reopened():
                self._reopen(event)
            case events.RunStarted():
                self._begin_run(sequence)
            case commands.ContinueRun():
                self.continues = True
            case _:
                self.unseen += 1
                self._add_stimulus(event, sequence)

    @property
    def main(self) -> str:
        """The id of the first method."""
        return next(iter(self.calls or self.running), "")

    def _reopen(self, event: events.Reopened) -> None:
        if self.main in event.methods:
            self.failed_in = 0
        if event.rerun:
            # All that was handed to the code since then is handed over once more.
            self.at, self.reruns = self.times[event.rerun][0], True
            self.unseen += sum(self.times[each][1] for each in range(event.rerun, self.activation + 1))
        for task in event.tasks:
            self.open_tasks.add(task.position)
            self.settled.pop(task.position, None)
            self.attempts.pop(task.position, None)
            self.delegated.discard(task.position)
            self.sequences[task.position] = task.retry_sequence
            if task.timeout_at is not None:
                self.timeouts[task.position] = task.timeout_at
        for timer in event.timers:
            self.open_timers[timer.position] = timer.due
        for method_id in event.methods:
            if method_id in self.ends:
                self.former_ends.setdefault(method_id, []).append(self.ends.pop(method_id))
        self.running = {each: None for each in self.calls if each in self.running or each in event.methods}

    def _add_stimulus(self, event: events.Stimulus, sequence: int) -> None:
        match event:
            case (
                events.TaskResult()
                | events.TaskError()
                | events.TaskTimeout()
                | events.RemoteResult()
                | events.RemoteError()
                | events.TaskCanceled()
            ):
                self.settled[event.position] = sequence
                self._close(event.position)
                if isinstance(event, events.TaskResult | events.RemoteResult):
                    self.results.add(event.position)
            case events.TimerFired():
                self._close(event.position)
            case events.MethodStarted():
                self.running[event.method_id] = None
                self.calls[event.method_id] = None
            case events.SignalReceived() | events.CancelRequested():
                pass

    def expect_run(self, run: int, happened: Sequence[Event]) -> None:
        """Begin with a run of which the one before is not known.

        Args:
            run: its number.
            happened: the events with which it begins.
        """
        self.run, self.continues = run - 1, True
        self.running = {event.method_id: None for event in happened if isinstance(event, events.MethodStarted)}

    def _begin_run(self, sequence: int) -> None:
        """What was before concerns the new run no more. What it is handed follows at once."""
        self.run += 1
        self.begun_in = sequence
        self.continues = False
        self.carried = dict(self.running)
        self.activation = self.unseen = self.handed = self.failed_in = 0
        self.times = {}
        self.requests, self.attempts, self.settled, self.sequences = [], {}, {}, {}
        for each in (self.open_tasks, self.open_timers, self.timeouts, self.running, self.results, self.delegated):
            each.clear()

    def _abandon(self, event: events.Abandoned) -> None:
        self.ends.update(dict.fromkeys(self.running, event))
        self.running.clear()
        self.open_tasks.clear()
        self.open_timers.clear()
        self.timeouts.clear()
        self.unseen = 0

    def _close(self, position: int) -> None:
        self.open_tasks.discard(position)
        self.timeouts.pop(position, None)
        self.open_timers.pop(position, None)


def cut_carried(happened: Sequence[Event]) -> Sequence[Event]:
    """Cut off what a new run gets of the run before. It has been taken already."""
    begun = next((index for index, each in enumerate(happened) if isinstance(each, events.RunStarted)), None)
    return happened if begun is None else happened[:begun]
