"""The history of an instance: what happened to it, and what its code asked for, in order.

*Stimuli* are handed to the instance, all that wait, when it is resumed; `Activated` marks that moment. The
commands of an activation follow its `Activated`. When the code runs on another worker, stimuli of the next activation
may lie between. Replay needs nothing else.

On the wire, besides the names of `messages.commands`: k failed attempts · w when · n number · e one by one ·
h handed over.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, Seconds, Whole
from infinitic.errors import TaskFailure
from infinitic.messages.commands import Command


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    pass


class MethodStarted(_Event, frozen=True, tag="m"):
    """A method was called."""

    method_id: Name = msgspec.field(name="i")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")


class TaskResult(_Event, frozen=True, tag="r"):
    """A task returned."""

    position: Whole = msgspec.field(name="p")
    value: msgspec.Raw = msgspec.field(name="v")


class TaskError(_Event, frozen=True, tag="e"):
    """A task failed for good."""

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")


class TaskTimeout(_Event, frozen=True, tag="o"):
    """The total timeout of a task is over."""

    position: Whole = msgspec.field(name="p")


class TimerFired(_Event, frozen=True, tag="f"):
    """A timer is due."""

    position: Whole = msgspec.field(name="p")


class SignalReceived(_Event, frozen=True, tag="s"):
    """A signal came."""

    channel: Name = msgspec.field(name="c")
    value: msgspec.Raw = msgspec.field(name="v")


class CancelRequested(_Event, frozen=True, tag="x"):
    """Somebody asked to cancel the instance."""


class AttemptError(_Event, frozen=True, tag="k"):
    """An attempt of a task failed and will be followed by another one. Not a stimulus: the code is not told."""

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    meta: dict[str, bytes] = msgspec.field(name="x", default={})


class Activated(_Event, frozen=True, tag="a"):
    """The instance was resumed, with all stimuli that waited. `at` is what its code sees as the time.

    `each` says that they were handed over one by one, each until the code came to rest. Release 0.1 handed over all
    at once, and wrote no such mark; for a single stimulus both are the same, and the mark is left out.
    """

    number: Whole = msgspec.field(name="n")
    at: Seconds = msgspec.field(name="w")
    each: bool = msgspec.field(name="e", default=False)


class Partial(_Event, frozen=True, tag="p"):
    """Of the stimuli of the last activation only the first `handed` were handed over: the others wait for the next one.

    It comes before the commands of that activation.
    """

    handed: Whole = msgspec.field(name="h")


Stimulus = MethodStarted | TaskResult | TaskError | TaskTimeout | TimerFired | SignalReceived | CancelRequested
Event = Stimulus | AttemptError | Activated | Partial | Command

encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(list[Event])


def decode(data: bytes) -> list[Event]:
    """Events from JSON text. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    return _decoder.decode(data)
