"""Reads a part of the body of an input, also if the rest of it cannot be decoded.

So who waits for an answer can be told, and what was claimed can be freed.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, Whole
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.client import ReplyTo


class UniqueStart(msgspec.Struct, frozen=True, tag="start", tag_field="t"):
    """What a start says of its custom id, also if the rest of it cannot be decoded."""

    custom_id: Name = msgspec.field(name="n")
    epoch: Whole = msgspec.field(name="k", default=0)


_decode_unique_start = msgspec.json.Decoder(UniqueStart).decode


def read_unique_start(body: bytes) -> UniqueStart | None:
    """Read the custom id of a start from a body that may be no input otherwise.

    Returns:
        None if it is no start, or has no custom id.
    """
    try:
        found = _decode_unique_start(body)
        check_name("custom_id", found.custom_id)
    except (ValueError, RecursionError, UsageError):
        return None
    return found


class _Asker(msgspec.Struct, frozen=True):
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    stop: bool = msgspec.field(name="z", default=False)


_decode_request = msgspec.json.Decoder(_Asker).decode


def read_requester(body: bytes) -> ReplyTo | None:
    """Read who waits for an answer to a body that may be no input otherwise.

    Returns:
        None if nobody waits, or the body does not tell.
    """
    try:
        asked = _decode_request(body)
        if asked.reply_to is None or asked.stop:
            return None
        check_name("client", asked.reply_to.client)
        check_name("request", asked.reply_to.request)
    except (ValueError, RecursionError, UsageError):
        return None
    return asked.reply_to
