"""What a workflow did, step by step: its tasks, timers, signals and inline calls.

`Simulation.steps` gives the steps of one instance. `list_steps` makes them of its head and history,
and touches nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from infinitic.clock import to_datetime
from infinitic.codec import unset_fields
from infinitic.codec.payloads import Coder
from infinitic.engines.state import WorkflowHead
from infinitic.errors import ExceptionDetail
from infinitic.messages.events import Event
from infinitic.replay.run import RunStep, RunStepKind, RunStepStatus
from infinitic.replay.run_reader import run_of

StepKind = RunStepKind


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
        kind: "task", "timer", "signal" (that came), "inline", "child" (a workflow that it
            started), "call" (of a method of another instance) or "send" (a signal to another
            instance).
        name: of a task "Flights.book", of a child or a call "Invoice.issue", of a signal its
            channel, of one that was sent "Invoice.paid", of an inline call its function; of a timer
            "timer".
        arguments: those of the task, child or call, as plain JSON: what arrives where a value was
            sent. Of a signal its value, of a timer the instant at which it is due (a datetime). The
            history does not hold those of an inline call.
        named_arguments: the arguments of the task, child or call that can only be given by name.
        attempts: how many attempts of the task were sent; 0 for other kinds.
        is_local: whether the task ended as a local one, inside the step of its workflow.
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
    is_local: bool = False

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
        if self.is_local:
            parts.append("local")
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
    return [_make_step(step, head.at or head.started_at, coder) for step in run_of(head, segments).steps]


class _NamedCall(msgspec.Struct):
    positional: list[msgspec.Raw] = msgspec.field(name="a", default_factory=list[msgspec.Raw])
    named: dict[str, msgspec.Raw] = msgspec.field(name="k", default_factory=dict[str, msgspec.Raw])


_CALL_DECODER: msgspec.json.Decoder[list[msgspec.Raw] | _NamedCall] = msgspec.json.Decoder(
    list[msgspec.Raw] | _NamedCall
)


def _make_step(step: RunStep, now: float, coder: Coder | None) -> Step:
    """Make a step of what the document of a run tells.

    Args:
        step: a step of the document.
        now: the time that the code of the instance has seen last.
        coder: decodes payloads.
    """
    started_at = step.at
    arguments: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    match step.kind:
        case "task" | "child" | "call":
            arguments, named = _decode_arguments(step.arguments, coder)
        case "timer":
            arguments = (to_datetime(step.due or 0.0),)
        case "signal":
            # It came before, but here counts when the code got it.
            started_at = now if step.ended_at is None else step.ended_at
            arguments = (_decode(step.arguments, coder),)
        case "send":
            arguments = (_decode(step.arguments, coder),)
        case "inline":
            pass
    return Step(
        kind=step.kind,
        name=step.name,
        arguments=arguments,
        named_arguments=named,
        attempts=sum(attempt.status is not RunStepStatus.WAITING for attempt in step.attempts),
        outcome=_make_outcome(step, coder),
        started_at=to_datetime(started_at),
        ended_at=None if step.ended_at is None else to_datetime(step.ended_at),
        is_local=bool(step.attempts) and step.attempts[-1].is_local,
    )


def _make_outcome(step: RunStep, coder: Coder | None) -> StepOutcome:
    match step.status:
        case RunStepStatus.COMPLETED:
            return StepCompleted(_decode(step.value, coder))
        case RunStepStatus.FAILED:
            detail = step.failure or ExceptionDetail("", "")
            return StepFailed(detail.short_name, detail.message)
        case RunStepStatus.TIMED_OUT:
            return StepTimedOut()
        case RunStepStatus.CANCELED:
            return StepCanceled()
        case RunStepStatus.OPEN | RunStepStatus.WAITING:
            return StepOpen()


def _decode_arguments(data: msgspec.Raw, coder: Coder | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode positional and named arguments: see `Signature`."""
    call = _CALL_DECODER.decode(_reveal(data, coder))
    if isinstance(call, list):
        call = _NamedCall(call)
    named = {name: _decode_plain(bytes(value)) for name, value in call.named.items()}
    return tuple(_decode_plain(bytes(value)) for value in call.positional), named


def _decode(data: msgspec.Raw, coder: Coder | None) -> Any:
    return _decode_plain(_reveal(data, coder)) if bytes(data) else None


def _decode_plain(data: bytes) -> Any:
    """Decode JSON text, without what may stand beside the value."""
    return msgspec.json.decode(unset_fields.split(data)[0]) if data else None


def _reveal(data: msgspec.Raw, coder: Coder | None) -> bytes:
    return bytes(data) if coder is None else coder.decode(data)
