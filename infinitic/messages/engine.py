"""To the workflow state engine: everything that may change an instance, keyed by its id.

On the wire: at when the message was first published, copied by whoever forwards it · m method · a arguments ·
r whom to answer · i id · c channel · v value · p position · rs retry sequence · ri retry index · q sequence of the
segment that holds the request · x meta · f failure · d delay · u run.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole
from infinitic.errors import TaskFailure, UsageError
from infinitic.ids import check_name
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import Command
from infinitic.messages.decoding import make_decoder


class _Input(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="t", gc=False):
    made_at: Seconds = msgspec.field(name="at")


class Start(_Input, frozen=True, kw_only=True, tag="start"):
    """Create the instance and run its first method."""

    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})


class CallMethod(_Input, frozen=True, kw_only=True, tag="call"):
    """Run one more method on a running instance."""

    method_id: Name = msgspec.field(name="i")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class Signal(_Input, frozen=True, kw_only=True, tag="signal"):
    """Hand a value to a channel of a running instance."""

    signal_id: Name = msgspec.field(name="i")
    channel: Name = msgspec.field(name="c")
    value: msgspec.Raw = msgspec.field(name="v")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class TaskCompleted(_Input, frozen=True, kw_only=True, tag="task_completed"):
    """A task returned this value."""

    position: Whole = msgspec.field(name="p")
    value: msgspec.Raw = msgspec.field(name="v")
    run: Whole = msgspec.field(name="u", default=0)


class TaskFailed(_Input, frozen=True, kw_only=True, tag="task_failed"):
    """A task failed for good. Counts only if this attempt was sent last; release 0.1 did not say which one it was."""

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole | None = msgspec.field(name="ri", default=None)


class AttemptFailed(_Input, frozen=True, kw_only=True, tag="attempt_failed"):
    """An attempt failed; its retry policy wants another one `delay` seconds later."""

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    delay: Seconds = msgspec.field(name="d")
    sequence: Whole = msgspec.field(name="q")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole = msgspec.field(name="ri", default=0)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})


class Wake(_Input, frozen=True, kw_only=True, tag="wake"):
    """Look at the timers. `due` is the instant for which this wake was armed."""

    due: float = msgspec.field(name="d")


class Cancel(_Input, frozen=True, kw_only=True, tag="cancel"):
    """Cancel the whole instance."""

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class Wait(_Input, frozen=True, kw_only=True, tag="wait"):
    """Answer when this method ends, or at once if it has. `method_id` None: the first method.

    `single` says that the client numbers its requests, and has one at a time for a method: this one takes the place of
    those before. `stop`: it waits no more.
    """

    reply_to: ReplyTo = msgspec.field(name="r")
    method_id: NoName | None = msgspec.field(name="i", default=None)
    single: bool = msgspec.field(name="o", default=False)
    stop: bool = msgspec.field(name="z", default=False)


class Describe(_Input, frozen=True, kw_only=True, tag="describe"):
    """Tell what is known of the instance."""

    reply_to: ReplyTo = msgspec.field(name="r")


class RetryWorkflowTask(_Input, frozen=True, kw_only=True, tag="retry_workflow_task"):
    """Run the activation again at which the instance stalled, with today's code."""

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class Decision(_Input, frozen=True, kw_only=True, tag="decision"):
    """What workflow code that ran elsewhere asks for, or why it cannot run.

    n number of the activation · w version · s retention in seconds · g digest of the commands · c commands ·
    e why the instance stalls · k epoch of the activation; absent: release 0.1, which knows none ·
    h how many of the stimuli were handed over; absent: all, the others wait for the next activation ·
    u what background tasks raised and nobody awaited
    """

    activation: Whole = msgspec.field(name="n")
    version: Whole = msgspec.field(name="w", default=0)
    retention: Seconds = msgspec.field(name="s", default=0.0)
    digest: str = msgspec.field(name="g", default="")
    commands: tuple[Command, ...] = msgspec.field(name="c", default=())
    stalled: str | None = msgspec.field(name="e", default=None)
    epoch: Whole | None = msgspec.field(name="k", default=None)
    handed: Whole | None = msgspec.field(name="h", default=None)
    failures: tuple[str, ...] = msgspec.field(name="u", default=())


Input = (
    Start
    | CallMethod
    | Signal
    | TaskCompleted
    | TaskFailed
    | AttemptFailed
    | Wake
    | Cancel
    | Wait
    | Describe
    | RetryWorkflowTask
    | Decision
)

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Input), "input of an instance")


class _Asked(msgspec.Struct, frozen=True):
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    stop: bool = msgspec.field(name="z", default=False)


_decode_asked = msgspec.json.Decoder(_Asked).decode


def read_requester(body: bytes) -> ReplyTo | None:
    """Who waits for an answer to a body that may be no input otherwise. None: nobody, or it does not tell."""
    try:
        asked = _decode_asked(body)
        if asked.reply_to is None or asked.stop:
            return None
        check_name("client", asked.reply_to.client)
        check_name("request", asked.reply_to.request)
    except (ValueError, RecursionError, UsageError):
        return None
    return asked.reply_to
