"""Makes the `Run` of an instance: one pure function of its head and its history.

It reads a history as a replay does, and runs no code. Every beginning of a history gives a
document, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from msgspec import Raw
from msgspec.structs import replace

from infinitic import ids
from infinitic.engines.state import WorkflowHead
from infinitic.errors import (
    DeferredError,
    ExceptionDetail,
    RequestRefusedError,
    WorkflowTerminatedError,
    WorkflowUnknownError,
)
from infinitic.messages import commands
from infinitic.messages.attempts import Execution
from infinitic.messages.commands import Command
from infinitic.messages.events import (
    Abandoned,
    Activated,
    AttemptError,
    CancelRequested,
    Event,
    MethodStarted,
    Partial,
    RemoteError,
    RemoteResult,
    Reopened,
    SignalReceived,
    Started,
    Stimulus,
    TaskCanceled,
    TaskError,
    TaskHandedOver,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.messages.outcomes import RemoteStatus, WorkflowStatus
from infinitic.replay.history import Replay
from infinitic.replay.run import Run, RunAttempt, RunMethod, RunStep, RunStepKind, RunStepStatus, drop_payloads

_NONE = Raw()
_ANSWERS = (Partial, *get_args(Command))
_ENDS = ("status", "ended_at", "ended_in", "failure", "cause", "value")
"""The fields that tell of an end."""
_OPEN, _FAILED = RunStepStatus.OPEN, RunStepStatus.FAILED


def run_of(head: WorkflowHead, segments: Iterable[Sequence[Event]], *, payloads: bool = True) -> Run:
    """Make the document of what an instance did.

    Args:
        head: that of the instance.
        segments: the events of its history, segment by segment, from the first one on. If the last
            ones are left out, the document tells what was known before them.
        payloads: whether arguments and values are part of it. They may be large.
    """
    reader = RunReader(head, payloads=payloads)
    for events in segments:
        reader.feed(events)
    return reader.finish()


class RunReader:
    """Reads a history segment by segment, for those who do not have all of it in memory.

    Args:
        head: that of the instance.
        payloads: whether arguments and values are kept.
    """

    def __init__(self, head: WorkflowHead, *, payloads: bool = True) -> None:
        self._head = head
        self._payloads = payloads
        self._replay = Replay(self)
        self._activation = 0
        self._transitions = max(head.base - 1, 0)
        self._answered = True
        self._canceled_at: float | None = None
        self._terminated = False
        self._termination = ""
        self._canceled_by = ""
        self._tags: tuple[str, ...] = ()
        self._custom_id = ""
        # Drafts: fields of documents that may still change.
        self._methods: dict[str, dict[str, Any]] = {}
        self._steps: list[dict[str, Any]] = []
        self._by_position: dict[int, dict[str, Any]] = {}
        # What came of a step that the code had cancelled.
        self._second_ends: dict[int, dict[str, Any]] = {}
        self._attempts: dict[int, _Attempts] = {}

    def feed(self, events: Iterable[Event]) -> None:
        """Read the events of the next segment."""
        self._transitions += 1
        events = events if self._payloads else drop_payloads(events)
        for event in events:
            # How an attempt went is told when it is reported, whether or not the code was told.
            match event:
                case AttemptError():
                    self._attempts_of(event.position).fail(
                        event.failure.exception, event.failure.at, event.execution, event.next_at, local=event.local
                    )
                case TaskResult():
                    self._attempts_of(event.position).complete(event.execution, local=event.local)
                case TaskError():
                    self._attempts_of(event.position).fail(
                        event.failure.exception, event.failure.at, event.execution, None, local=event.local
                    )
                case TaskHandedOver():
                    self._attempts_of(event.position).hand_over(event.execution)
                case MethodStarted():
                    self._methods[event.method_id] = {
                        "id": event.method_id,
                        "name": event.method,
                        "called_at": event.at or None,
                        "by": event.by,
                        "meta": event.meta,
                    }
                    self._keep(self._methods[event.method_id], "arguments", event.arguments)
                case Activated():
                    self._answered = False
                case _ if isinstance(event, _ANSWERS):
                    self._answered = True
                case _:
                    pass
        self._replay.feed(events)
        for event in events:
            if isinstance(event, Abandoned):
                self._abandon(event)

    def pass_over(self) -> None:
        """Never asked for: what was undone later is a part of the document."""

    def note_reopened(self, event: Reopened, /) -> None:
        """Note that an operator has failed tasks run again: it is the only event of its segment."""
        for task in event.tasks:
            draft = self._by_position[task.position]
            self._attempts_of(task.position).ask_again(event.at, draft.get("status", _OPEN))
            draft["due"] = task.timeout_at
            if draft["kind"] == "child":
                draft["id"] = ids.remote_id(self._head.id, self._head.run, task.position, task.retry_sequence)
        for timer in event.timers:
            self._by_position[timer.position]["due"] = timer.due
        again = [task.position for task in event.tasks] + [timer.position for timer in event.timers]
        for position in (*again, *event.cancellations):
            draft, second = self._by_position[position], self._second_ends.pop(position, {})
            if position in again:
                second = {}
            elif draft.get("status") is not RunStepStatus.CANCELED:
                continue
            for name in _ENDS:
                draft.pop(name, None)
            draft |= second
        for method_id in event.methods:
            for name in _ENDS:
                self._methods[method_id].pop(name, None)

    def _abandon(self, event: Abandoned) -> None:
        """Note that the instance was terminated: it is the last event."""
        self._termination = event.reason
        self._terminated = True
        self._canceled_at, self._canceled_by = event.at or self._head.closed_at, event.by

    def _end_abandoned(self, at: float) -> None:
        """End what was open when the instance was terminated. No code was told."""
        for method in self._methods.values():
            if "status" not in method:
                method |= {"status": WorkflowStatus.TERMINATED, "ended_at": at}
        for draft in self._steps:
            if draft["kind"] != "signal":
                self._end(draft["position"], RunStepStatus.CANCELED, at)

    def finish(self) -> Run:
        """Make the document, once the history is at its end."""
        head = self._head
        # If another worker runs the code and has not answered yet, it has not got its stimuli. Of a
        # beginning of the history that is not known: there may be no answer, or an empty one.
        unanswered = head.deciding != 0 if self._transitions >= head.sequence else not self._answered
        opened = self._replay.finish(unanswered=unanswered)
        for stimulus in [*([] if opened is None else opened[1]), *self._replay.pending]:
            if isinstance(stimulus, SignalReceived):
                self._add_signal(stimulus, head.at or head.started_at)
        if self._terminated:
            self._end_abandoned(max(head.closed_at or 0.0, head.at))
        waiting = {retry.position: retry.due for retry in head.retries if retry.due is not None}
        return Run(
            workflow_id=head.id,
            workflow_name=head.name,
            version=head.version,
            number=head.run,
            status=head.status,
            started_at=head.started_at,
            closed_at=head.closed_at,
            stalled=head.stalled,
            parked=head.parked,
            canceled_at=self._canceled_at,
            termination=self._termination,
            canceled_by=self._canceled_by,
            meta=head.meta,
            tags=self._tags,
            custom_id=self._custom_id,
            methods=tuple(RunMethod(**draft) for draft in self._methods.values()),
            steps=tuple(self._make_step(draft, waiting) for draft in self._steps),
            activations=self._activation + (opened is not None),
            transitions=self._transitions,
            background_failures=head.failures,
        )

    # Called by the `Replay`, in the order in which the code was told, and asked.

    def note_start(self, started: Started) -> None:
        """Note what the instance was started with."""
        self._tags, self._custom_id = started.tags, started.custom_id

    def activate(self, at: float, stimuli: Sequence[Stimulus], recorded: Iterable[Command], *, each: bool) -> None:
        """Note one activation, and what the code asked for in it."""
        self._activation += 1
        for stimulus in stimuli:
            self._take_stimulus(stimulus, at)
        for command in recorded:
            self._take_command(command, at)

    def _take_stimulus(self, stimulus: Stimulus, at: float) -> None:
        match stimulus:
            case TaskResult():
                self._end(stimulus.position, RunStepStatus.COMPLETED, at, value=stimulus.value)
            case TaskError():
                self._end(stimulus.position, _FAILED, at, failure=stimulus.failure.exception)
            case TaskTimeout():
                self._end(stimulus.position, RunStepStatus.TIMED_OUT, at)
            case TimerFired():
                self._end(stimulus.position, RunStepStatus.COMPLETED, at)
            case RemoteResult():
                self._end(stimulus.position, RunStepStatus.COMPLETED, at, value=stimulus.value)
            case RemoteError(status=RemoteStatus.CANCELED) | TaskCanceled():
                self._end(stimulus.position, RunStepStatus.CANCELED, at)
            case RemoteError():
                self._end(stimulus.position, _FAILED, at, failure=_describe_remote(stimulus))
            case SignalReceived():
                draft = self._add_signal(stimulus, at)
                draft |= {
                    "status": RunStepStatus.COMPLETED,
                    "ended_at": at,
                    "activation": self._activation,
                    "ended_in": self._activation,
                }
            case MethodStarted():
                self._methods[stimulus.method_id] |= {"began_at": at, "activation": self._activation}
            case CancelRequested():
                if not stimulus.method_id and self._canceled_at is None:
                    self._canceled_at, self._canceled_by = stimulus.at or at, stimulus.by

    def _take_command(self, command: Command, at: float) -> None:
        match command:
            case commands.ScheduleTask():
                draft = self._add("task", f"{command.service}.{command.task}", command.position, at)
                draft["id"] = ids.task_id(self._head.id, self._head.run, command.position)
                self._keep(draft, "arguments", command.arguments)
                draft["due"] = command.timeout_at
                draft["tags"] = command.tags
                draft["meta"] = command.meta
            case commands.StartTimer():
                self._add("timer", "timer", command.position, at)["due"] = command.due
            case commands.RecordInline():
                self._add("inline", command.name, command.position, at)
                if command.failure is None:
                    self._end(command.position, RunStepStatus.COMPLETED, at, value=command.value)
                else:
                    self._end(command.position, _FAILED, at, failure=command.failure.exception)
            case commands.CancelPosition():
                self._end(command.position, RunStepStatus.CANCELED, at)
            case commands.CompleteMethod():
                self._end_method(command.method_id, WorkflowStatus.COMPLETED, at)
                self._keep(self._methods[command.method_id], "value", command.value)
            case commands.FailMethod():
                self._end_method(
                    command.method_id,
                    WorkflowStatus.FAILED,
                    at,
                    failure=command.failure.exception,
                    cause=command.failure.cause,
                )
            case commands.CancelMethod():
                self._end_method(command.method_id, WorkflowStatus.CANCELED, at)
            case commands.RefuseCall() | commands.RecordPatch() | commands.ContinueRun():
                pass
            case commands.StartChild() | commands.CallRemote() | commands.SignalRemote():
                self._take_remote(command, at)

    def _take_remote(self, command: commands.Remote, at: float) -> None:
        draft: dict[str, Any]
        match command:
            case commands.StartChild():
                draft = self._add("child", f"{command.workflow}.{command.method}", command.position, at)
                draft["id"] = ids.remote_id(self._head.id, self._head.run, command.position)
                draft["due"] = command.timeout_at
                draft["tags"] = command.tags
                self._keep(draft, "arguments", command.arguments)
            case commands.CallRemote():
                draft = self._add("call", f"{command.workflow}.{command.method}", command.position, at)
                draft["id"] = command.workflow_id
                draft["due"] = command.timeout_at
                self._keep(draft, "arguments", command.arguments)
            case commands.SignalRemote():
                draft = self._add("send", f"{command.workflow}.{command.channel}", command.position, at)
                draft["id"] = command.workflow_id
                self._keep(draft, "arguments", command.value)
                self._end(command.position, RunStepStatus.COMPLETED, at)
        draft["meta"] = command.meta

    def _add(self, kind: RunStepKind, name: str, position: int, at: float) -> dict[str, Any]:
        draft = {"kind": kind, "name": name, "position": position, "at": at, "activation": self._activation}
        self._steps.append(draft)
        self._by_position[position] = draft
        return draft

    def _add_signal(self, signal: SignalReceived, at: float) -> dict[str, Any]:
        draft: dict[str, Any] = {
            "kind": "signal",
            "name": signal.channel,
            "at": signal.at or at,
            "meta": signal.meta,
            "by": signal.by,
        }
        self._keep(draft, "arguments", signal.value)
        self._steps.append(draft)
        return draft

    def _end(
        self,
        position: int,
        status: RunStepStatus,
        at: float,
        *,
        value: Raw = _NONE,
        failure: ExceptionDetail | None = None,
    ) -> None:
        """The first end of a step counts, unless it is undone later."""
        draft = self._by_position.get(position)
        if draft is None:
            return
        end: dict[str, Any] = {"status": status, "ended_at": at, "ended_in": self._activation}
        if failure is not None:
            end["failure"] = failure
        else:
            self._keep(end, "value", value)
        if "status" in draft:
            self._second_ends[position] = end
        else:
            draft |= end

    def _end_method(self, method_id: str, status: WorkflowStatus, at: float, **facts: Any) -> None:
        self._methods[method_id] |= {"status": status, "ended_at": at, **facts}

    def _keep(self, draft: dict[str, Any], name: str, payload: Raw) -> None:
        if self._payloads and payload is not _NONE and bytes(payload):
            draft[name] = payload

    def _attempts_of(self, position: int) -> _Attempts:
        found = self._attempts.get(position)
        if found is None:
            found = self._attempts[position] = _Attempts()
        return found

    def _make_step(self, draft: dict[str, Any], waiting: dict[int, float]) -> RunStep:
        if draft["kind"] != "task":
            return RunStep(**draft)
        position = draft["position"]
        attempts = self._attempts_of(position).make(
            draft["at"], draft.get("status", _OPEN), draft.get("ended_at"), waiting.get(position)
        )
        return RunStep(**draft, attempts=attempts)


def _describe_remote(event: RemoteError) -> ExceptionDetail:
    """What a child or a call has failed with."""
    if event.failure is not None:
        return event.failure.exception
    error: type[DeferredError] = WorkflowUnknownError
    if event.status is RemoteStatus.REFUSED:
        error = RequestRefusedError
    elif event.status is RemoteStatus.TERMINATED:
        error = WorkflowTerminatedError
    return ExceptionDetail(f"{error.__module__}.{error.__name__}", event.reason)


class _Attempts:
    """The attempts of one task that were reported, in order, and when the next one is sent."""

    __slots__ = ("_handed_over", "_next_at", "_reported", "_settled")

    def __init__(self) -> None:
        # How the newest attempt went, if its function has returned and somebody outside ends it.
        self._handed_over: Execution | None = None
        self._reported: list[tuple[RunAttempt, Execution | None]] = []
        # When each attempt was sent, but for the first one; 0: that is not known.
        self._next_at: list[float] = []
        self._settled = False

    def complete(self, execution: Execution | None, *, local: bool = False) -> None:
        self._add(RunStepStatus.COMPLETED, execution, is_local=local)
        self._settled = True

    def fail(
        self, failure: ExceptionDetail, at: float, execution: Execution | None, next_at: float | None, *, local: bool
    ) -> None:
        """Note a failed attempt: what it raised, when, and how it went.

        `next_at` is when the next one is sent; None: there is none.
        """
        self._add(_FAILED, execution, failure=failure, ended_at=at or None, is_local=local)
        if next_at is None:
            self._settled = True
        else:
            self._next_at.append(next_at)

    def hand_over(self, execution: Execution | None) -> None:
        """Note that the function of a delegated task has returned."""
        self._handed_over = execution

    def ask_again(self, at: float, status: RunStepStatus) -> None:
        """Note that an operator has asked for the task once more.

        Args:
            at: when.
            status: what had become of the task. Its last attempt may not have been reported.
        """
        if not self._settled:
            self._add(status, None)
        self._settled = False
        self._next_at.append(at)

    def _add(self, status: RunStepStatus, execution: Execution | None, **facts: Any) -> None:
        handed_over, self._handed_over = self._handed_over, None
        if execution is None and handed_over is not None:
            execution, facts = handed_over, {**facts, "is_delegated": True}
        worker = "" if execution is None else execution.worker
        attempt = RunAttempt(number=len(self._reported) + 1, status=status, worker=worker, **facts)
        self._reported.append((attempt, execution))

    def make(
        self, asked_at: float, status: RunStepStatus, ended_at: float | None, due: float | None
    ) -> tuple[RunAttempt, ...]:
        """Make the attempts of a task.

        Args:
            asked_at: when the code asked for the task.
            status: what has become of the task, as far as the code knows.
            ended_at: when the code learned of its end.
            due: when the next attempt is sent, as the head knows it; None if it was sent.
        """
        made = [
            _date(attempt, execution, sent_at)
            for (attempt, execution), sent_at in zip(self._reported, [asked_at, *self._next_at], strict=False)
        ]
        if self._settled:
            return tuple(made)
        sent_at = self._next_at[-1] if self._next_at else asked_at
        if ended_at is not None and sent_at > ended_at:
            # The code gave the task up before this attempt was sent.
            return tuple(made)
        newest = RunAttempt(number=len(made) + 1, status=_OPEN, sent_at=sent_at or None)
        if due is not None:
            newest = replace(newest, status=RunStepStatus.WAITING, sent_at=due)
        elif status is not _OPEN:
            newest = replace(newest, status=status, ended_at=ended_at)
        if self._handed_over is not None:
            newest = replace(newest, worker=self._handed_over.worker, is_delegated=True)
            newest = _date(newest, self._handed_over, sent_at)
        return (*made, newest)


def _date(attempt: RunAttempt, execution: Execution | None, sent_at: float) -> RunAttempt:
    """Tell when an attempt was sent, began and ended.

    The clock of the sender tells the first, and all others follow from what the worker has
    measured. So they are in order, also if the clocks of two machines differ.
    """
    if not sent_at and execution is not None and attempt.ended_at is not None:
        sent_at = attempt.ended_at - (execution.queued + execution.ran) / 1000
    if execution is None or not sent_at:
        return replace(attempt, sent_at=sent_at or None)
    began_at = sent_at + execution.queued / 1000
    ended_at: float | None = began_at + execution.ran / 1000
    if attempt.is_delegated:  # its function has returned: somebody outside ends it, with another clock
        ended_at = max(attempt.ended_at, began_at) if attempt.ended_at else None
    return replace(attempt, sent_at=sent_at, began_at=began_at, ended_at=ended_at)
