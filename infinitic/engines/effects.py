"""What the workflow engine wants to be sent. The outbox of a transition is a list of effects.

They name events of the history by the sequence of their segment, instead of copying payloads.
`render` makes messages of them before the transition is committed, and once more when another
worker takes the instance over. Names of classes and fields are not stored; tags and the order of
fields are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infinitic.engines.state import OpenBlock
from infinitic.messages.client import AskAgain, Queried, QueryFailed, ReplyTo, WorkflowInfo
from infinitic.messages.outcomes import WorkflowStatus


class _Effect(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    pass


class SendTask(_Effect, frozen=True, tag="task"):
    """Send an attempt of a task to the executors of its service.

    Attributes:
        position: that of the task.
        request: the sequence of the segment that holds its `ScheduleTask`.
        retry_sequence: how often an operator asked for the task again.
        retry_index: the number of the attempt, from 0.
        failure: the sequence of the segment with the failed attempt before; 0: there is none.
        doubt: `DIED` if a process may have died with it while it ran as a local task: that counts
            as a death. `RUNS` if it runs already, as a local task that took long: who gets it asks
            the others first. 0: neither.
    """

    position: int
    request: int
    retry_sequence: int = 0
    retry_index: int = 0
    failure: int = 0
    doubt: int = 0


DIED = 1
"""A `SendTask.doubt`: a process may have died with it."""
RUNS = 2
"""A `SendTask.doubt`: it runs already."""


class Answer(_Effect, frozen=True, tag="answer"):
    """Tell a requester how a method ended.

    Attributes:
        reply_to: the client, or the instance that waits.
        method_id: the method.
        ended: the sequence of the segment that holds its end.
    """

    reply_to: ReplyTo
    method_id: str
    ended: int


class Confirm(_Effect, frozen=True, tag="confirm"):
    """Tell a client that its signal or command has been applied."""

    reply_to: ReplyTo


class ArmWake(_Effect, frozen=True, tag="wake"):
    """Wake the instance at the time `due`, in seconds since the Unix epoch."""

    due: float


class ActivateElsewhere(_Effect, frozen=True, tag="activate"):
    """Have another worker run the code of this activation.

    Attributes:
        activation: its number.
        pending: the sequence of the first segment with stimuli for it.
    """

    activation: int
    pending: int


class Refuse(_Effect, frozen=True, tag="refuse"):
    """Tell a requester that there is no such instance, or that it is closed."""

    reply_to: ReplyTo


class CancelSent(_Effect, frozen=True, tag="cancel"):
    """Have what was sent for these positions stopped: they are closed, and wait for no result.

    Attributes:
        blocks: the positions, with the segments that hold their requests.
        repeated: those of them that an operator asked for again: position and retry sequence. It is
            0 for all others.
        run: the run that has asked for it, if another one has begun in the same transition.
        waiting: further positions, of tasks that wait for their next attempt. Nobody has them, but
            they may have tags. Only instances that have tagged a task list them.
    """

    blocks: tuple[OpenBlock, ...]
    repeated: tuple[tuple[int, int], ...] = ()
    run: int | None = None
    waiting: tuple[OpenBlock, ...] = ()


class TellCanceled(_Effect, frozen=True, tag="canceled"):
    """Tell who has called a method of a cancelled instance that it does not begin."""

    reply_to: ReplyTo


class Tag(_Effect, frozen=True, tag="tags"):
    """Tell the tag engine that the instance has its tags, or has them and its custom id no more.

    Attributes:
        started: the sequence of the segment that holds its `Started`.
        epoch: that of the instance. It says which of two changes is the later one.
        live: whether the instance runs.
    """

    started: int
    epoch: int
    live: bool


class Reject(_Effect, frozen=True, tag="reject"):
    """Tell a client why the engine does not do what it asked for."""

    reply_to: ReplyTo
    reason: str


class ProbeElsewhere(_Effect, frozen=True, tag="probe"):
    """Have another worker run the probe that the head names."""


class ClaimCustomId(_Effect, frozen=True, tag="claim"):
    """Have the tag engine claim the custom id of a closed instance again, before it is re-opened.

    Attributes:
        started: the sequence of the segment that holds its `Started`.
        request: what comes back if it is claimed, as it travels.
    """

    started: int
    request: bytes


class RemoveMember(msgspec.Struct, frozen=True):
    """Tell the tag engine that this instance, which a message found by a tag, does not run.

    It is never part of an outbox, because the instance does not change by it.

    Attributes:
        tag: the tag.
        version: that of the change, see `infinitic.messages.tags`.
        unique: whether it is a custom id.
    """

    tag: str
    version: int
    unique: bool = False


class SendRemote(_Effect, frozen=True, tag="remote"):
    """Send what the code asks of another instance: a start, a method call or a signal.

    Attributes:
        position: that of the request.
        request: the sequence of the segment that holds it.
        retry_sequence: how often an operator asked for it again.
        run: the run that has asked for it, if another one has begun in the same transition.
    """

    position: int
    request: int
    retry_sequence: int = 0
    run: int | None = None


class TellReopened(_Effect, frozen=True, tag="reopened"):
    """Tell an instance that what it waited for has failed, but runs again."""

    reply_to: ReplyTo


class TellListeners(_Effect, frozen=True, tag="events"):
    """Tell event listeners what the transition did: what is in its segment, and these facts.

    It is the last effect of an outbox, and only there if the worker publishes events.

    Attributes:
        run: the run before the transition.
        ran: the activation whose commands the segment holds; None: it holds none.
        retried: whether a stalled instance was told to run again.
        stalled: why it stalls from now on; None if it does not.
        ended: how the instance has closed; None if it has not.
    """

    run: int = 0
    ran: int | None = None
    retried: bool = False
    stalled: str | None = None
    ended: WorkflowStatus | None = None


Effect = (
    SendTask
    | Answer
    | Confirm
    | ArmWake
    | ActivateElsewhere
    | Refuse
    | CancelSent
    | TellCanceled
    | Tag
    | SendRemote
    | Reject
    | ProbeElsewhere
    | ClaimCustomId
    | TellReopened
    | TellListeners
)


class Tell(msgspec.Struct, frozen=True):
    """Tell a client what is known of the instance.

    It is never part of an outbox, because the instance does not change by the question.
    """

    reply_to: ReplyTo
    info: WorkflowInfo


class Defer(msgspec.Struct, frozen=True):
    """Tell a client to ask again later, because too many wait for the method.

    It is never part of an outbox, because the instance does not change by the question.

    Attributes:
        reply_to: the client.
        seconds: how long it should wait.
    """

    reply_to: ReplyTo
    seconds: float


class Respond(msgspec.Struct, frozen=True):
    """Send a client a response that is ready: the answer to a query.

    It is never part of an outbox, because the instance does not change by the question.
    """

    reply_to: ReplyTo
    response: Queried | QueryFailed | AskAgain


class Postpone(msgspec.Struct, frozen=True):
    """Publish the input again, to be delivered later.

    It may have overtaken the start of its instance, or it is a wake that came too early.

    Attributes:
        at: when, in seconds since the Unix epoch.
        header: the name of a header that is set in the copy.
        value: its text.
        early: by how many seconds a wake came before its time, by this clock.
    """

    at: float
    header: str
    value: str
    early: float = 0.0


class SendToDeadLetters(msgspec.Struct, frozen=True):
    """Publish the input to the dead letters. The `reason` is for people."""

    reason: str


class ClaimFirst(msgspec.Struct, frozen=True):
    """Have the tag engine asked whether the instance of a start has its custom id still.

    Attributes:
        asked: how often it is asked, with this time.
    """

    asked: int


Reply = Tell | Refuse | Answer | Confirm | Defer | Respond | RemoveMember
"""What is sent without being stored, because the instance does not change by it."""

Handling = Postpone | SendToDeadLetters | ClaimFirst
"""What is done with an input instead of taking it."""


class Outbox(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The effects of a transition.

    Attributes:
        at: when the transition was made, in seconds since the Unix epoch. Messages say this time,
            whenever they are made. None: release 0.1 wrote the outbox, and stored no time.
        effects: what to send, in order.
    """

    at: float | None
    effects: Sequence[Effect]


_WITH_INSTANT = b"\x92\xcb"
"""The beginning of an outbox that says when it was made: an array of two, then a float."""
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Outbox)
_decoder_0_1 = msgspec.msgpack.Decoder(list[Effect])


def encode(at: float, effects: Sequence[Effect]) -> bytes:
    """Encode the outbox of a transition.

    Args:
        at: when the transition was made, in seconds since the Unix epoch.
        effects: what to send, in order.
    """
    return _encode(Outbox(float(at), effects))


def decode(data: bytes) -> Outbox:
    """Decode an outbox, also one of release 0.1.

    Raises:
        msgspec.MsgspecError: these bytes are no outbox. `ValueError` and `RecursionError` say the
            same.
    """
    # A list of effects begins otherwise: its first item is an array.
    if not data.startswith(_WITH_INSTANT):
        return Outbox(None, _decoder_0_1.decode(data))
    return _decoder.decode(data)
