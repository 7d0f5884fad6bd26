"""What workflow code asks for: part of the history, and of the `Decision` of a workflow executor.

The code never sends a command as a message of its own. In replay, each command is compared with the
one in the history.

On the wire: p position · s service · m method or task · a arguments · g tags · x meta · o total
timeout · d due · v value · n name · f failure · i method id · e reason · w workflow · k instance ·
c channel · u custom id.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Whole
from infinitic.messages.outcomes import MethodFailure


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    pass


class ScheduleTask(_Command, frozen=True, tag="task"):
    """Run a task.

    `timeout_at` is when the workflow stops waiting for it, in seconds since the Unix epoch.
    """

    position: Whole = msgspec.field(name="p")
    service: Name = msgspec.field(name="s")
    task: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    tags: tuple[str, ...] = msgspec.field(name="g", default=())
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    timeout_at: float | None = msgspec.field(name="o", default=None)


class StartTimer(_Command, frozen=True, tag="timer"):
    """Set a timer.

    Attributes:
        position: its position.
        due: when it fires, in seconds since the Unix epoch.
        method: the id of the method that waits for it; empty: the first one. None if code does not
            wait for it, as for the limit of `asyncio.timeout`, or if release 0.1 set it: such a
            timer cannot be completed before its time.
    """

    position: Whole = msgspec.field(name="p")
    due: float = msgspec.field(name="d")
    method: NoName | None = msgspec.field(name="m", default=None)


class RecordInline(_Command, frozen=True, tag="inline"):
    """Record what an inline function returned or raised. In replay it is not called again."""

    position: Whole = msgspec.field(name="p")
    name: str = msgspec.field(name="n")
    value: msgspec.Raw = msgspec.field(name="v", default=msgspec.Raw())
    failure: MethodFailure | None = msgspec.field(name="f", default=None)


class CancelPosition(_Command, frozen=True, tag="cancel"):
    """Forget the task or timer of this position: nobody waits for it any more."""

    position: Whole = msgspec.field(name="p")


class CompleteMethod(_Command, frozen=True, tag="completed"):
    """End a method that returned this value."""

    method_id: Name = msgspec.field(name="i")
    value: msgspec.Raw = msgspec.field(name="v")


class FailMethod(_Command, frozen=True, tag="failed"):
    """End a method that raised."""

    method_id: Name = msgspec.field(name="i")
    failure: MethodFailure = msgspec.field(name="f")


class CancelMethod(_Command, frozen=True, tag="canceled"):
    """End a method that was cancelled with its workflow."""

    method_id: Name = msgspec.field(name="i")


class RefuseCall(_Command, frozen=True, tag="refused"):
    """Record that a call, or the result of a method, was too large.

    The code was told so, and in replay it is told the same. It uses up no position. `name` says
    what was refused.
    """

    name: str = msgspec.field(name="n")
    reason: str = msgspec.field(name="e")


class RecordPatch(_Command, frozen=True, tag="patch"):
    """Record that the instance has a change of its code.

    `name` is the id of the change. It uses up no position, and belongs to no place: in replay the
    code need not ask for it again.
    """

    name: Name = msgspec.field(name="n")


class StartChild(_Command, frozen=True, tag="child"):
    """Start an instance of a workflow, and wait for the end of its first method.

    Its id derives from the parent and the position: see `ids.remote_id`. If another instance holds
    the custom id, none is started, and the parent waits for that one.

    Attributes:
        position: that of the request.
        workflow: the name of the workflow.
        method: the name of its first method.
        arguments: those of the method.
        meta: what the child finds in its context.
        timeout_at: when the parent stops waiting for it, in seconds since the Unix epoch.
        tags: those of the child.
        custom_id: that of the child; empty: it has none.
    """

    position: Whole = msgspec.field(name="p")
    workflow: Name = msgspec.field(name="w")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    timeout_at: float | None = msgspec.field(name="o", default=None)
    tags: tuple[str, ...] = msgspec.field(name="g", default=())
    custom_id: NoName = msgspec.field(name="u", default="")


class CallRemote(_Command, frozen=True, tag="call"):
    """Run a method of another instance, and wait for its end.

    Attributes:
        position: that of the request.
        workflow: the name of the workflow.
        workflow_id: the id of the instance; empty: it is the one that holds `custom_id`.
        method: the name of the method.
        arguments: those of the method.
        meta: what the method finds in its context.
        timeout_at: when the caller stops waiting for it, in seconds since the Unix epoch.
        custom_id: that of the instance, if its id is empty.
        patient: whether the instance is a child whose start goes another way, and may be far
            behind.
    """

    position: Whole = msgspec.field(name="p")
    workflow: Name = msgspec.field(name="w")
    workflow_id: NoName = msgspec.field(name="k")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    timeout_at: float | None = msgspec.field(name="o", default=None)
    custom_id: NoName = msgspec.field(name="u", default="")
    patient: bool = msgspec.field(name="h", default=False)


class SignalRemote(_Command, frozen=True, tag="signal"):
    """Send a signal to other instances. Nothing is waited for, so the position is not open.

    It goes to the instance with this id. If that is empty, it goes to all that have the tag, or to
    the one that holds the custom id. `patient` says that the instance is a child whose start goes
    another way, and may be far behind.
    """

    position: Whole = msgspec.field(name="p")
    workflow: Name = msgspec.field(name="w")
    workflow_id: NoName = msgspec.field(name="k")
    channel: Name = msgspec.field(name="c")
    value: msgspec.Raw = msgspec.field(name="v")
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    tag: NoName = msgspec.field(name="g", default="")
    custom_id: NoName = msgspec.field(name="u", default="")
    patient: bool = msgspec.field(name="h", default=False)


class ContinueRun(_Command, frozen=True, tag="continue"):
    """End the first method of this run, and start the next run with a method, once all is settled.

    `method_id` is that of the first method, which goes on in the next run.
    """

    method_id: Name = msgspec.field(name="i")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")


EndMethod = CompleteMethod | FailMethod | CancelMethod
Remote = StartChild | CallRemote | SignalRemote
"""What one instance asks of another one."""
Command = (
    ScheduleTask
    | StartTimer
    | RecordInline
    | CancelPosition
    | CompleteMethod
    | FailMethod
    | CancelMethod
    | RefuseCall
    | RecordPatch
    | StartChild
    | CallRemote
    | SignalRemote
    | ContinueRun
)
