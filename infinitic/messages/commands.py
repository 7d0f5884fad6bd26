"""What workflow code asks for. In history, and in the decision of a workflow executor that runs elsewhere.

On the wire: p position · s service · m method or task · a arguments · g tags · x meta · o total timeout · d due ·
v value · n name · f failure · i method id · e reason.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, Whole
from infinitic.messages.outcomes import MethodFailure


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    pass


class ScheduleTask(_Command, frozen=True, tag="task"):
    """Run a task. `timeout_at` is the instant at which the workflow stops waiting for it."""

    position: Whole = msgspec.field(name="p")
    service: Name = msgspec.field(name="s")
    task: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    tags: tuple[str, ...] = msgspec.field(name="g", default=())
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    timeout_at: float | None = msgspec.field(name="o", default=None)


class StartTimer(_Command, frozen=True, tag="timer"):
    """Fire at an instant."""

    position: Whole = msgspec.field(name="p")
    due: float = msgspec.field(name="d")


class RecordInline(_Command, frozen=True, tag="inline"):
    """Remember what an inline function returned or raised."""

    position: Whole = msgspec.field(name="p")
    name: str = msgspec.field(name="n")
    value: msgspec.Raw = msgspec.field(name="v", default=msgspec.Raw())
    failure: MethodFailure | None = msgspec.field(name="f", default=None)


class CancelPosition(_Command, frozen=True, tag="cancel"):
    """Nobody waits any more for the task or timer of this position."""

    position: Whole = msgspec.field(name="p")


class CompleteMethod(_Command, frozen=True, tag="completed"):
    """A method returned."""

    method_id: Name = msgspec.field(name="i")
    value: msgspec.Raw = msgspec.field(name="v")


class FailMethod(_Command, frozen=True, tag="failed"):
    """A method raised."""

    method_id: Name = msgspec.field(name="i")
    failure: MethodFailure = msgspec.field(name="f")


class CancelMethod(_Command, frozen=True, tag="canceled"):
    """A method ended by the cancellation of its workflow."""

    method_id: Name = msgspec.field(name="i")


class RefuseCall(_Command, frozen=True, tag="refused"):
    """A call, or the result of a method, was too large, and the code was told so: in replay it is told the same.

    `name` is what was refused. No position is used up.
    """

    name: str = msgspec.field(name="n")
    reason: str = msgspec.field(name="e")


EndMethod = CompleteMethod | FailMethod | CancelMethod
Command = (
    ScheduleTask | StartTimer | RecordInline | CancelPosition | CompleteMethod | FailMethod | CancelMethod | RefuseCall
)
