"""To the workflow tag engine: who has a tag, what to send to all of them, who holds a custom id.

The key of a message is the tag, as `make_tag_key` writes it, or the custom id, as
`make_custom_id_key` does. So all that concerns one tag is handled in order.

All times are in seconds since the Unix epoch.

On the wire: at when the message was first published, copied by whoever forwards it · i id of the
instance · w version of the change · o id of the operation · n the message to each instance ·
a the last id that was reached · l limit · r whom to answer · s the start of the instance ·
d the messages for its tags · k epoch of the instance.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from infinitic.bounds import Name, Seconds, Whole
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.client import ReplyTo
from infinitic.messages.decoding import UndecodableMessage, make_decoder

ADDED_BY_CLIENT = 0
"""The version of a tag that a client adds, before the start of the instance."""
REMOVED_AS_UNKNOWN = 1
"""The version with which a tag of an unknown instance is removed.

A start that comes late wins over it.
"""


def version_added(epoch: int) -> int:
    """The version with which an instance adds its tags.

    Higher versions win, in whatever order changes come. An epoch counts how often an instance was
    run anew, so these versions need no clock.

    Args:
        epoch: that of the instance.
    """
    return 2 * epoch + 2


def version_removed(epoch: int) -> int:
    """The version with which an instance removes its tags when it closes in this epoch."""
    return 2 * epoch + 3


def version_claimed(epoch: int) -> int:
    """The version with which an instance claims its custom id."""
    return 2 * epoch


def version_freed(epoch: int) -> int:
    """The version with which an instance frees its custom id when it closes in this epoch."""
    return 2 * epoch + 1


class _TagMessage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="t", gc=False):
    made_at: Seconds = msgspec.field(name="at")


class AddTag(_TagMessage, frozen=True, kw_only=True, tag="add_tag"):
    """Note that an instance has this tag. Clients send it before a start, engines at the start.

    `made_at` is when the start was made. A duplicate has the same version, and changes nothing. One
    that is older than the deduplication window goes to the dead letters: that the tag was removed
    may be forgotten by now.
    """

    id: Name = msgspec.field(name="i")
    version: Whole = msgspec.field(name="w", default=ADDED_BY_CLIENT)


class RemoveTag(_TagMessage, frozen=True, kw_only=True, tag="remove_tag"):
    """Note that an instance has this tag or custom id no more. Engines send it.

    A duplicate has the same version, and changes nothing.
    """

    id: Name = msgspec.field(name="i")
    version: Whole = msgspec.field(name="w")


class ByTag(_TagMessage, frozen=True, kw_only=True, tag="by_tag"):
    """Send a message to every instance that has this tag. Clients and engines send it.

    The tag engine handles it in pages: it sends the message to some instances, and `ByTag` with the
    last id to itself. Each instance recognises a duplicate by the operation, which is the
    deduplication id of the message to it.
    """

    operation: Name = msgspec.field(name="o")
    input: msgspec.Raw = msgspec.field(name="n")
    after: str = msgspec.field(name="a", default="")


class GetIds(_TagMessage, frozen=True, kw_only=True, tag="get_ids"):
    """Tell which instances have this tag, or hold this custom id. Clients send it.

    The answer is a page of ids that come behind `after`. A duplicate is answered once more.
    """

    reply_to: ReplyTo = msgspec.field(name="r")
    after: str = msgspec.field(name="a", default="")
    limit: Whole = msgspec.field(name="l", default=1000)


class StartUnique(_TagMessage, frozen=True, kw_only=True, tag="start_unique"):
    """Start an instance with this custom id, unless an instance that runs holds it.

    Clients and parents send it. The answer to a client is the id of the instance that holds the
    custom id. A parent waits for that instance from then on. A duplicate is told what the first one
    was told: the storage keeps that.
    """

    id: Name = msgspec.field(name="i")
    start: msgspec.Raw = msgspec.field(name="s")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class Reclaim(_TagMessage, frozen=True, kw_only=True, tag="reclaim"):
    """Start an instance whose start was a dead letter, unless another one holds its custom id.

    `infinitic dead-letters replay` sends it in place of the start, since the custom id may have
    been freed and claimed by another instance. Then this message goes to the dead letters.

    A duplicate is told what the first one was told.
    """

    id: Name = msgspec.field(name="i")
    start: msgspec.Raw = msgspec.field(name="s")


class ToHolder(_TagMessage, frozen=True, kw_only=True, tag="to_holder"):
    """Send a message to the instance that holds this custom id. Engines send it for instances.

    If nobody holds it, `reply_to` is told that the workflow is unknown. A duplicate goes to nobody
    who has claimed the custom id later. The instance recognises it by the operation, which is the
    deduplication id of the message.
    """

    operation: Name = msgspec.field(name="o")
    input: msgspec.Raw = msgspec.field(name="n")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class CancelUnique(_TagMessage, frozen=True, kw_only=True, tag="cancel_unique"):
    """Cancel or terminate a child that has this custom id. The engine of its parent sends it.

    It goes the way of the `StartUnique` of the child. If the child has merely attached to another
    instance, that one goes on. The child recognises a duplicate by the deduplication id of the
    message.
    """

    id: Name = msgspec.field(name="i")
    input: msgspec.Raw = msgspec.field(name="n")


class ClaimAgain(_TagMessage, frozen=True, kw_only=True, tag="claim_again"):
    """Claim the custom id of a closed instance again, which an operator wants to re-open.

    Its engine sends it. The request of the operator goes back to the instance, and says whether the
    custom id was claimed. A duplicate may be told otherwise, and the instance recognises that.
    """

    id: Name = msgspec.field(name="i")
    epoch: Whole = msgspec.field(name="k")
    input: msgspec.Raw = msgspec.field(name="n")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


TagMessage = AddTag | RemoveTag | ByTag | GetIds | StartUnique | Reclaim | ToHolder | CancelUnique | ClaimAgain

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(TagMessage), "message of a tag")

_TAG = "t:"
_CUSTOM_ID = "c:"


class ReadKey(NamedTuple):
    """What the key of a message stands for: a tag, or a custom id if `unique`."""

    name: str
    unique: bool


def make_tag_key(tag: str) -> str:
    """Make the key of messages about a tag."""
    return _TAG + tag


def make_custom_id_key(custom_id: str) -> str:
    """Make the key of messages about a custom id."""
    return _CUSTOM_ID + custom_id


def read_key(key: str | None) -> ReadKey:
    """Read the tag or custom id from the key of a message.

    Raises:
        UndecodableMessage: the key is none of a tag or custom id.
    """
    kind, name = (key or "")[:2], (key or "")[2:]
    if kind not in (_TAG, _CUSTOM_ID):
        raise UndecodableMessage(f"The key of the message must be that of a tag or custom id, got {key!r}")
    try:
        check_name("The tag or custom id in the key of the message", name)
    except UsageError as error:
        raise UndecodableMessage(str(error)) from None
    return ReadKey(name, kind == _CUSTOM_ID)
