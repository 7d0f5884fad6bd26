"""Reads from the history of an instance what the head does not know: tasks that failed, methods.

An operator asks for it when a failed task is to run again. It is never read in a usual step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from infinitic.messages.commands import (
    CallRemote,
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    ContinueRun,
    FailMethod,
    RecordInline,
    RecordPatch,
    RefuseCall,
    ScheduleTask,
    SignalRemote,
    StartChild,
    StartTimer,
)
from infinitic.messages.events import (
    Activated,
    Event,
    MethodStarted,
    RemoteError,
    RemoteResult,
    Reopened,
    TaskCanceled,
    TaskError,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.messages.outcomes import WorkflowStatus

_FOLLOWING = (
    ScheduleTask,
    StartTimer,
    RecordInline,
    CompleteMethod,
    CancelMethod,
    RefuseCall,
    RecordPatch,
    ContinueRun,
    StartChild,
    CallRemote,
    SignalRemote,
)
"""Commands of code that goes on."""


class SurveyedTask(msgspec.Struct, gc=False):
    """A task of the history, or a child or call of another instance.

    Attributes:
        position: its position.
        request: the sequence of the segment with its request.
        service: its service, or the other workflow.
        task: its name, or the method of the other workflow.
        total_timeout: for how many seconds the workflow waits for it; None: without limit.
        retry_sequence: how often an operator has asked for it again.
        timed_out: if it has failed: whether its total timeout was over.
        remote: whether it is a child or a call.
        tags: those of the task.
    """

    position: int
    request: int
    service: str
    task: str
    total_timeout: float | None
    retry_sequence: int = 0
    timed_out: bool = False
    remote: bool = False
    tags: tuple[str, ...] = ()


class SurveyedTimer(msgspec.Struct, gc=False):
    """A timer of the history.

    Attributes:
        due: when it fires, in seconds since the Unix epoch.
        asked_at: when the code asked for it, likewise.
        method: see `StartTimer`.
    """

    due: float
    asked_at: float
    method: str | None


class SurveyedMethod(msgspec.Struct, gc=False):
    """A method of the history: its name, and how it has ended."""

    name: str
    status: WorkflowStatus = WorkflowStatus.RUNNING
    ended: int = 0


class Survey:
    """Reads a history, segment by segment. It keeps what is open, and what it is asked to keep.

    Args:
        kept: positions of tasks and timers to keep, also once they are done. All that an earlier
            re-opening names must be among them.

    Attributes:
        open: the tasks, children and calls that are open, by position.
        failed: the tasks that have failed for good, by position.
        failed_remotes: the children and calls that have failed, by position.
        timers: the timers that are open, by position.
        kept_tasks: those of `kept` that are tasks, children or calls.
        kept_timers: those of `kept` that are timers.
        methods: the methods that run or have failed, and the first one, by id, in the order in
            which they were called.
        failing: the activation in which the first method has failed; None: it has not.
        following: what the code has asked for since then, but for cancellations and the failures of
            other methods; None: nothing.
    """

    def __init__(self, kept: Collection[int] = ()) -> None:
        self.open: dict[int, SurveyedTask] = {}
        self.failed: dict[int, SurveyedTask] = {}
        self.failed_remotes: dict[int, SurveyedTask] = {}
        self.timers: dict[int, SurveyedTimer] = {}
        self.kept_tasks: dict[int, SurveyedTask] = {}
        self.kept_timers: dict[int, SurveyedTimer] = {}
        self.methods: dict[str, SurveyedMethod] = {}
        self._kept = kept
        self.failing: Activated | None = None
        self.following: Command | None = None
        self._first = ""
        self._at = self._begun_at = self._reopened_at = 0.0
        self._activated: Activated | None = None

    def read(self, sequence: int, happened: Iterable[Event]) -> None:
        """Read the events of the next segment.

        Args:
            sequence: its sequence.
            happened: its events.
        """
        for event in happened:
            if self.failing is not None and isinstance(event, _FOLLOWING) and self.following is None:
                self.following = event
            match event:
                case Activated():
                    self._at, self._activated = event.at, event
                    self._begun_at, self._reopened_at = max(event.at, self._reopened_at), 0.0
                case ScheduleTask():
                    self._add_task(sequence, event, event.service, event.task).tags = event.tags
                case StartChild() | CallRemote():
                    self._add_task(sequence, event, event.workflow, event.method).remote = True
                case RemoteError():
                    remote = self.open.pop(event.position, None)
                    if remote is not None:
                        self.failed_remotes[event.position] = remote
                case TaskResult() | RemoteResult() | CancelPosition() | TaskCanceled():
                    self.open.pop(event.position, None)
                    self.timers.pop(event.position, None)
                case TaskError() | TaskTimeout():
                    task = self.open.pop(event.position, None)
                    if task is not None and not task.remote:
                        task.timed_out = isinstance(event, TaskTimeout)
                        self.failed[event.position] = task
                case StartTimer():
                    timer = self.timers[event.position] = SurveyedTimer(event.due, self._at, event.method)
                    if event.position in self._kept:
                        self.kept_timers[event.position] = timer
                case TimerFired():
                    self.timers.pop(event.position, None)
                case MethodStarted():
                    self._first = self._first or event.method_id
                    self.methods[event.method_id] = SurveyedMethod(event.method)
                case CompleteMethod() | CancelMethod() | FailMethod():
                    self._end(event, sequence)
                case Reopened():
                    self._reopen(event)
                case _:
                    pass

    def _add_task(
        self, sequence: int, event: ScheduleTask | StartChild | CallRemote, service: str, name: str
    ) -> SurveyedTask:
        total = None if event.timeout_at is None else event.timeout_at - self._begun_at
        task = self.open[event.position] = SurveyedTask(event.position, sequence, service, name, total)
        if event.position in self._kept:
            self.kept_tasks[event.position] = task
        return task

    def _end(self, event: CompleteMethod | CancelMethod | FailMethod, sequence: int) -> None:
        if isinstance(event, FailMethod) and event.method_id == self._first:
            self.failing = self._activated
        if not isinstance(event, FailMethod) and event.method_id != self._first:
            self.methods.pop(event.method_id, None)
            return
        method = self.methods.get(event.method_id)
        if method is not None:
            failed = isinstance(event, FailMethod)
            completed = isinstance(event, CompleteMethod)
            ended = WorkflowStatus.COMPLETED if completed else WorkflowStatus.CANCELED
            method.status = WorkflowStatus.FAILED if failed else ended
            method.ended = sequence

    def _reopen(self, event: Reopened) -> None:
        for each in event.tasks:
            failed = self.failed.pop(each.position, None) or self.failed_remotes.pop(each.position, None)
            task = failed or self.kept_tasks[each.position]
            task.retry_sequence = each.retry_sequence
            self.open[each.position] = task
        for timer in event.timers:
            before = self.kept_timers[timer.position]
            again = SurveyedTimer(timer.due, event.at, before.method)
            self.timers[timer.position] = self.kept_timers[timer.position] = again
        if event.rerun:
            # Total timeouts of what is new count from here.
            self._reopened_at = event.at
        for method_id in event.methods:
            if method_id == self._first:
                self.failing = self.following = None
            method = self.methods.get(method_id)
            if method is not None:
                method.status, method.ended = WorkflowStatus.RUNNING, 0


def list_running(survey: Survey, reopened: Sequence[str]) -> list[tuple[str, SurveyedMethod]]:
    """List the first method, and those that run or are re-opened, as they stand in a head.

    Args:
        survey: of the whole history.
        reopened: the ids of methods whose failure is undone.
    """
    found: list[tuple[str, SurveyedMethod]] = []
    for index, (method_id, method) in enumerate(survey.methods.items()):
        if method_id in reopened:
            method = SurveyedMethod(method.name)
        if index == 0 or method.status is WorkflowStatus.RUNNING:
            found.append((method_id, method))
    return found
