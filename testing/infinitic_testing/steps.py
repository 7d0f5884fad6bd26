"""What a workflow did, step by step: its tasks, timers, signals and inline calls.

`Simulation.steps` gives the steps of one instance. `list_steps` makes them of its head and history,
and touches nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from infinitic.clock import to_datetime
from infinitic.codec import unset_fields
from infinitic.codec.payloads import Coder
from infinitic.engines.state import WorkflowHead
from infinitic.messages.commands import CancelPosition, Command, RecordInline, ScheduleTask, StartTimer
from infinitic.messages.events import (
    AttemptError,
    Event,
    SignalReceived,
    Stimulus,
    TaskError,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.replay.history import Replay

StepKind = Literal["task", "timer", "signal", "inline"]


class StepCompleted(msgspec.Struct, frozen=True, tag="completed"):
    """The step ended, with this value.

    Attributes:
        value: the result of a task or of an inline call, as plain JSON. None for a timer that fired
            and for a signal.
    """

    value: Any = None


class StepFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The step raised, and no attempt is left.

    Attributes:
        error: the name of the exception class, without its module.
        message: the text of the exception.
    """

    error: str
    message: str


class StepTimedOut(msgspec.Struct, frozen=True, tag="timed_out"):
    """The total timeout of the task ended first."""


class StepCanceled(msgspec.Struct, frozen=True, tag="canceled"):
    """The workflow does not wait for the task or timer any more: it has cancelled it."""


class StepOpen(msgspec.Struct, frozen=True, tag="open"):
    """The step has not ended, as far as the code of the workflow knows."""


StepOutcome = StepCompleted | StepFailed | StepTimedOut | StepCanceled | StepOpen


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a workflow did, or that happened to it. Steps are equal if their facts are.

    Attributes:
        kind: "task", "timer", "signal" or "inline".
        name: of a task "Flights.book", of a signal its channel, of an inline call its function; of
            a timer "timer".
        arguments: those of the task, as plain JSON: what arrives where a value was sent. Of a
            signal its value, of a timer the instant at which it is due (a datetime). The history
            does not hold those of an inline call.
        named_arguments: the arguments of the task that can only be given by name.
        attempts: how many attempts of the task were sent; 0 for other kinds.
        outcome: how it ended.
        started_at: when the code asked for it, or the signal was handed to the code.
        ended_at: when the code learned of its end; None if it does not know of any.

    Example::

        handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
        await handle.result()
        flight, hotel = sim.steps(handle)
        assert (flight.name, flight.attempts) == ("Flights.book", 2)
        assert hotel.outcome == StepCompleted("H7")
    """

    kind: StepKind
    name: str
    arguments: tuple[Any, ...] = ()
    named_arguments: dict[str, Any] = {}
    attempts: int = 0
    outcome: StepOutcome
    started_at: datetime
    ended_at: datetime | None = None

    def __repr__(self) -> str:
        """For example ``<task Flights.book('Paris') completed with 'AF1', 2 attempts, …>``."""
        if self.kind == "timer":
            due = self.arguments[0] if self.arguments else None
            call = f"timer due {due.isoformat() if isinstance(due, datetime) else due}"
        else:
            given = [*map(repr, self.arguments), *(f"{name}={value!r}" for name, value in self.named_arguments.items())]
            call = f"{self.kind} {self.name}({', '.join(given)})"
        parts = [f"{call} {_describe_outcome(self.outcome)}"]
        if self.attempts != (self.kind == "task"):
            parts.append(f"{self.attempts} attempts")
        parts.append(f"from {self.started_at.isoformat()}")
        if self.ended_at is not None and self.ended_at != self.started_at:
            parts.append(f"for {self.ended_at - self.started_at}")
        return f"<{', '.join(parts)}>"


def _describe_outcome(outcome: StepOutcome) -> str:
    match outcome:
        case StepCompleted(None):
            return "completed"
        case StepCompleted():
            return f"completed with {outcome.value!r}"
        case StepFailed():
            return f"failed with {outcome.error}{f': {outcome.message}' if outcome.message else ''}"
        case StepTimedOut():
            return "timed out"
        case StepCanceled():
            return "cancelled"
        case StepOpen():
            return "open"


def list_steps(head: WorkflowHead, segments: Iterable[Sequence[Event]], coder: Coder | None = None) -> list[Step]:
    """List what an instance did, in the order in which its code asked for it.

    A signal stands where it was handed to the code. Those that the code has not got yet come last.

    Args:
        head: that of the instance.
        segments: the events of its whole history, segment by segment.
        coder: decodes payloads; None if no payload codec is used.

    Raises:
        DecodingError: the coder can never decode a payload.
        PayloadUnavailable: the coder cannot decode a payload now.
    """
    reading = _Reading(coder)
    replay = Replay(reading)
    failures = Counter[int]()
    for events in segments:
        replay.feed(events)
        failures.update(event.position for event in events if isinstance(event, AttemptError))
    # If another worker runs the code and has not answered yet, the code has not got its stimuli.
    opened = replay.finish(unanswered=head.deciding != 0)
    for stimulus in [*([] if opened is None else opened[1]), *replay.pending]:
        if isinstance(stimulus, SignalReceived):
            reading.add_signal(stimulus, head.at or head.started_at)
    waiting = {retry.position for retry in head.retries if retry.due is not None}
    return [_make_step(draft, failures, waiting) for draft in reading.steps]


class _NamedCall(msgspec.Struct):
    positional: list[msgspec.Raw] = msgspec.field(name="a", default_factory=list[msgspec.Raw])
    named: dict[str, msgspec.Raw] = msgspec.field(name="k", default_factory=dict[str, msgspec.Raw])


_CALL_DECODER: msgspec.json.Decoder[list[msgspec.Raw] | _NamedCall] = msgspec.json.Decoder(
    list[msgspec.Raw] | _NamedCall
)


def _decode_plain(data: bytes) -> Any:
    """Decode JSON text, without what may stand beside the value."""
    return msgspec.json.decode(unset_fields.split(data)[0]) if data else None


class _Draft:
    """A step that may still change."""

    __slots__ = ("arguments", "ended_at", "kind", "name", "named", "outcome", "position", "started_at")

    def __init__(self, kind: StepKind, name: str, position: int, started_at: float) -> None:
        self.kind: StepKind = kind
        self.name = name
        self.position = position
        self.arguments: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}
        self.outcome: StepOutcome = StepOpen()
        self.started_at = started_at
        self.ended_at: float | None = None

    def end(self, outcome: StepOutcome, at: float | None) -> None:
        """The first end counts."""
        if self.outcome == StepOpen():
            self.outcome, self.ended_at = outcome, at


class _Reading:
    """Notes what an instance did. A `Replay` feeds it, and no code runs.

    Attributes:
        steps: what it did so far, in order.
    """

    def __init__(self, coder: Coder | None) -> None:
        self.steps: list[_Draft] = []
        self._coder = coder
        self._by_position: dict[int, _Draft] = {}

    def activate(self, at: float, stimuli: Sequence[Stimulus], recorded: Iterable[Command], *, each: bool) -> None:
        """Note one activation, and what it asked for."""
        for stimulus in stimuli:
            self._take_stimulus(stimulus, at)
        for command in recorded:
            self._take_command(command, at)

    def add_signal(self, signal: SignalReceived, at: float) -> _Draft:
        draft = _Draft("signal", signal.channel, -1, at)
        draft.arguments = (self._decode(signal.value),)
        self.steps.append(draft)
        return draft

    def _take_stimulus(self, stimulus: Stimulus, at: float) -> None:
        match stimulus:
            case TaskResult():
                self._end(stimulus.position, StepCompleted(self._decode(stimulus.value)), at)
            case TaskError():
                detail = stimulus.failure.exception
                self._end(stimulus.position, StepFailed(detail.short_name, detail.message), at)
            case TaskTimeout():
                self._end(stimulus.position, StepTimedOut(), at)
            case TimerFired():
                self._end(stimulus.position, StepCompleted(), at)
            case SignalReceived():
                self.add_signal(stimulus, at).end(StepCompleted(), at)
            case _:
                pass

    def _take_command(self, command: Command, at: float) -> None:
        match command:
            case ScheduleTask():
                draft = self._add(_Draft("task", f"{command.service}.{command.task}", command.position, at))
                draft.arguments, draft.named = self._decode_arguments(command.arguments)
            case StartTimer():
                self._add(_Draft("timer", "timer", command.position, at)).arguments = (to_datetime(command.due),)
            case RecordInline():
                draft = self._add(_Draft("inline", command.name, command.position, at))
                if command.failure is None:
                    draft.end(StepCompleted(self._decode(command.value)), at)
                else:
                    detail = command.failure.exception
                    draft.end(StepFailed(detail.short_name, detail.message), at)
            case CancelPosition():
                self._end(command.position, StepCanceled(), at)
            case _:
                pass

    def _add(self, draft: _Draft) -> _Draft:
        self.steps.append(draft)
        self._by_position[draft.position] = draft
        return draft

    def _end(self, position: int, outcome: StepOutcome, at: float) -> None:
        draft = self._by_position.get(position)
        if draft is not None:
            draft.end(outcome, at)

    def _decode_arguments(self, data: msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode positional and named arguments: see `Signature`."""
        call = _CALL_DECODER.decode(self._reveal(data))
        if isinstance(call, list):
            call = _NamedCall(call)
        named = {name: _decode_plain(bytes(value)) for name, value in call.named.items()}
        return tuple(_decode_plain(bytes(value)) for value in call.positional), named

    def _decode(self, data: msgspec.Raw) -> Any:
        return _decode_plain(self._reveal(data))

    def _reveal(self, data: msgspec.Raw) -> bytes:
        return bytes(data) if self._coder is None else self._coder.decode(data)


def _make_step(draft: _Draft, failures: Mapping[int, int], waiting: set[int]) -> Step:
    """Make a step of a draft.

    Args:
        draft: what is known of it.
        failures: how many attempts have failed, by position.
        waiting: the positions whose next attempt waits for its delay: it was not sent yet.
    """
    attempts = 0
    if draft.kind == "task":
        attempts = failures.get(draft.position, 0) + (draft.position not in waiting)
    return Step(
        kind=draft.kind,
        name=draft.name,
        arguments=draft.arguments,
        named_arguments=draft.named,
        attempts=attempts,
        outcome=draft.outcome,
        started_at=to_datetime(draft.started_at),
        ended_at=None if draft.ended_at is None else to_datetime(draft.ended_at),
    )
