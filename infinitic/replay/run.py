"""What an instance did, as one document: its methods, its steps and their attempts, with times.

`run_reader.run_of` makes it of a head and a history. It is what people look at: `Client.read_run`,
`infinitic describe --timeline` and `Simulation.steps` show it. No engine uses it.

All times are in seconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace

from infinitic.errors import ExceptionDetail
from infinitic.messages.events import Event
from infinitic.messages.outcomes import Cause, WorkflowStatus

RunStepKind = Literal["task", "timer", "signal", "inline", "child", "call", "send"]


NOTHING = msgspec.Raw()
"""In place of a payload that is left out."""


def drop_payloads(happened: Iterable[Event]) -> list[Event]:
    """Leave arguments and values out of the events of a segment.

    What waits may be many megabytes. An event that is kept would keep all bytes of its segment.
    """
    kept: list[Event] = []
    for event in happened:
        payloads = {name: NOTHING for name in ("arguments", "value") if hasattr(event, name)}
        kept.append(replace(event, **payloads) if payloads else event)
    return kept


class RunStepStatus(StrEnum):
    """What has become of a step, or of an attempt, as far as the history tells."""

    WAITING = "waiting"
    """Only of an attempt: it waits for its delay, and was not sent yet."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"


class _Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    pass


class RunAttempt(_Facts, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of a task.

    Where an older release ran it, the history does not tell when it began and ended.

    Attributes:
        number: counts from 1.
        status: open: it was sent, and nothing was heard of it.
        sent_at: when it was sent, or will be.
        began_at: when a worker began it, by the time of the sender and the milliseconds that the
            worker has measured; None: not yet, or not known.
        ended_at: when it ended, likewise.
        worker: the worker that ran it; empty if that is not known.
        failure: what it raised.
        is_delegated: whether its function has returned, and somebody outside ends the task.
        is_local: whether it ran as a local task, inside the step of its workflow.
    """

    number: int
    status: RunStepStatus
    sent_at: float | None = None
    began_at: float | None = None
    ended_at: float | None = None
    worker: str = ""
    failure: ExceptionDetail | None = None
    is_delegated: bool = False
    is_local: bool = False


class RunStep(_Facts, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that the instance did, or that happened to it.

    Attributes:
        kind: "task", "timer", "signal" (that came), "inline", "child" (a workflow that it
            started), "call" (of a method of another instance) or "send" (a signal to another
            instance).
        name: of a task "Flights.book", of a child or a call "Invoice.issue", of a signal its
            channel, of one that was sent "Invoice.paid", of an inline call its function; of a timer
            "timer".
        status: how it ended, as far as the code knows.
        activation: the number of the activation in which the code asked for it, or got the signal;
            0: the code has not got the signal yet.
        at: when that was. Of a signal: when it came.
        ended_at: when the code learned of its end; None: it does not know of any.
        ended_in: the number of that activation. What the code asked for in it, it asked for because
            of this step, or of others that ended in it.
        position: where the code asked for it; None for a signal that came.
        id: that of the task, or of the other instance.
        attempts: those of the task, in order.
        due: when a timer fires, or the total timeout of a task, child or call is over.
        arguments: those of a task, child or call, or the value of a signal, as they are in the
            history: a payload codec may have coded them. Empty if payloads were left out.
        value: what a task, child, call or inline call returned, likewise.
        failure: what it raised.
        tags: those of the task.
        meta: that of the task, child, call or signal.
        by: who sent the signal.
    """

    kind: RunStepKind
    name: str
    status: RunStepStatus = RunStepStatus.OPEN
    activation: int = 0
    at: float
    ended_at: float | None = None
    ended_in: int = 0
    position: int | None = None
    id: str = ""
    attempts: tuple[RunAttempt, ...] = ()
    due: float | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    value: msgspec.Raw = msgspec.Raw()
    failure: ExceptionDetail | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, bytes] = {}
    by: str = ""


class RunMethod(_Facts, frozen=True, kw_only=True, omit_defaults=True):
    """A method of the instance that was called.

    Attributes:
        id: that of the method. The first one has the id of the instance.
        name: its name.
        status: how it ended.
        called_at: when the engine took the call; None: an older release took it.
        by: who called it.
        meta: what the caller gave along.
        activation: the number of the activation in which its code began; 0: it has not begun.
        began_at: when that was.
        ended_at: when it ended.
        arguments: its arguments, as they are in the history. Empty if payloads were left out.
        value: what it returned, likewise.
        failure: what it raised.
        cause: the task or workflow behind that, if there is one.
    """

    id: str
    name: str
    status: WorkflowStatus = WorkflowStatus.RUNNING
    called_at: float | None = None
    by: str = ""
    meta: dict[str, bytes] = {}
    activation: int = 0
    began_at: float | None = None
    ended_at: float | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    value: msgspec.Raw = msgspec.Raw()
    failure: ExceptionDetail | None = None
    cause: Cause | None = None


class Run(_Facts, frozen=True, kw_only=True, omit_defaults=True):
    """What an instance did. Two are equal if their facts are.

    Attributes:
        workflow_id: the id of the instance.
        workflow_name: the name of its workflow.
        version: that of its code; None until it has run.
        number: which run of the workflow it is, from 0.
        status: what has become of the instance.
        started_at: when it started.
        closed_at: when it closed; None while it is open.
        stalled: why the engine cannot run its code; None if it can.
        parked: whether its messages go to the dead letters.
        canceled_at: when it was cancelled or terminated; None: it was not.
        canceled_by: who did that: the name of a client, or the id of an instance.
        termination: why it was terminated, for people; empty: nobody said why, or it was not.
        meta: what the client that started it gave along.
        tags: those that it was started with.
        custom_id: the one that it was started with; empty: there is none.
        methods: those that were called, in order.
        steps: in the order in which the code asked for them. A signal stands where the code got it;
            those that it has not got yet come last.
        activations: how often the code was resumed.
        transitions: how many segments the history has.
        background_failures: see `WorkflowInfo`.
    """

    workflow_id: str
    workflow_name: str
    version: int | None = None
    number: int = 0
    status: WorkflowStatus
    started_at: float
    closed_at: float | None = None
    stalled: str | None = None
    parked: bool = False
    canceled_at: float | None = None
    termination: str = ""
    canceled_by: str = ""
    meta: dict[str, bytes] = {}
    tags: tuple[str, ...] = ()
    custom_id: str = ""
    methods: tuple[RunMethod, ...] = ()
    steps: tuple[RunStep, ...] = ()
    activations: int = 0
    transitions: int = 0
    background_failures: tuple[str, ...] = ()
