"""What the workflow engine wants to be sent. The outbox of a transition is a list of these.

They refer to events of the history by the sequence of their segment instead of copying payloads; `render` makes
messages of them, after the transition is committed or when a successor takes the instance over.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infinitic.messages.client import ReplyTo, WorkflowInfo


class _Effect(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    pass


class SendTask(_Effect, frozen=True, tag="task"):
    """Send an attempt of a task. `request` and `failure` are sequences of segments; `failure` 0: none so far."""

    position: int
    request: int
    retry_sequence: int = 0
    retry_index: int = 0
    failure: int = 0


class Answer(_Effect, frozen=True, tag="answer"):
    """Tell a client how a method ended. `ended` is the sequence of the segment that says so."""

    reply_to: ReplyTo
    method_id: str
    ended: int


class Confirm(_Effect, frozen=True, tag="confirm"):
    """Tell a client that its signal or command has been applied."""

    reply_to: ReplyTo


class ArmWake(_Effect, frozen=True, tag="wake"):
    """Wake the instance at this instant."""

    due: float


class ActivateElsewhere(_Effect, frozen=True, tag="activate"):
    """Have another worker run this activation. `pending` is the first segment with stimuli for it."""

    activation: int
    pending: int


class Refuse(_Effect, frozen=True, tag="refuse"):
    """Tell a client that there is no such instance, or that it is closed."""

    reply_to: ReplyTo


Effect = SendTask | Answer | Confirm | ArmWake | ActivateElsewhere | Refuse


class Tell(msgspec.Struct, frozen=True):
    """Tell a client what is known of the instance. Never part of an outbox: the instance does not change."""

    reply_to: ReplyTo
    info: WorkflowInfo


class Postpone(msgspec.Struct, frozen=True):
    """Publish the input again, to be delivered at the instant `at`, with this header.

    It may have overtaken the start of its instance; or it is a wake that came `early`: so many
    seconds before the instant for which it was published, by this clock.
    """

    at: float
    header: str
    value: str
    early: float = 0.0


class Bury(msgspec.Struct, frozen=True):
    """Publish the input to the dead letters, for this reason."""

    reason: str


Reply = Tell | Refuse | Answer | Confirm
"""Sent without being kept: the instance does not change by it."""

Handling = Postpone | Bury
"""What is done with the input itself, instead of taking it."""


class Outbox(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The effects of a transition, and when it was made: whenever they become messages, those say this instant.

    Release 0.1 kept no instant: `at` is None then.
    """

    at: float | None
    effects: Sequence[Effect]


_WITH_INSTANT = b"\x92\xcb"
"""How an outbox begins that says when it was made: an array of two, then a float."""
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Outbox)
_decoder_0_1 = msgspec.msgpack.Decoder(list[Effect])


def encode(at: float, effects: Sequence[Effect]) -> bytes:
    """The outbox of a transition that was made at this instant."""
    return _encode(Outbox(float(at), effects))


def decode(data: bytes) -> Outbox:
    """An outbox from its bytes. Raises what msgspec raises."""
    if not data.startswith(_WITH_INSTANT):  # in a list of effects an array comes first
        return Outbox(None, _decoder_0_1.decode(data))
    return _decoder.decode(data)
