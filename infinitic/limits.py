"""What fits into a message: how much of it users may fill, and how much workflow code may ask for at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from infinitic.errors import PayloadTooLargeError

ENVELOPE = 16 * 1024
"""Bytes of a message that are kept free for what goes with arguments, tags and meta: names, ids, a failure."""
MARGIN = 1024
"""Bytes by which a message stays below the limit of its broker, for headers."""
ENOUGH = 1024 * 1024
"""Bytes that are asked for in one activation before what waits is left to the next one."""
CARRIED = 64 * 1024
"""Bytes of stimuli that travel to an executor; it reads larger ones from storage."""
STALL_REASON = 8 * 1024
"""Bytes of the reason for which an instance is stalled: it is in its head."""
MAX_DEPTH = 500
"""How deep the body of a message may be nested: the decoder follows about 1,000 levels, and history adds some."""
MAX_VALUE_DEPTH = 200
"""How deep the arguments of a call, a signal or a result may be nested.

Codecs in Python take two frames a level, of 1,000, and how many are left at the receiver nobody knows at the call.
Those of pydantic follow 255 levels.
"""
MAX_VERSION = 2**31 - 1
"""The highest version of a workflow."""


def compute_value_limit(max_payload: int) -> int:
    """Bytes for arguments, tags and meta together, or for one value, where a message may have `max_payload`."""
    return max(max_payload - ENVELOPE, 0)


def compute_body_limit(max_payload: int) -> int:
    """Bytes that the body of a message may have."""
    return max(max_payload - MARGIN, 0)


def measure_extra(tags: Sequence[str] = (), meta: Mapping[str, bytes] | None = None) -> int:
    """Bytes of tags and meta in a message: bytes are base64 there."""
    return (len(msgspec.json.encode(tags)) if tags else 0) + (len(msgspec.json.encode(meta)) if meta else 0)


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ALIKE = bytes.maketrans(b"{}", b"[]")


def is_deeper(data: bytes, levels: int) -> bool:
    """Whether valid JSON is nested deeper than that. Strings are cut out only if brackets in them are in the way."""
    if len(data) <= 2 * levels or data.count(b"[") + data.count(b"{") <= levels or not _remove_pairs(data, levels):
        return False
    return bool(_remove_pairs(_STRING.sub(b"", data), levels))


def _remove_pairs(text: bytes, levels: int) -> bytes:
    """The brackets that are left when the innermost pairs are removed, level by level, as often as is allowed."""
    brackets = text.translate(_ALIKE, _NOT_BRACKETS)
    for _ in range(levels):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    return brackets


TOO_DEEP = (
    f"nested deeper than {MAX_VALUE_DEPTH} levels, or in itself: not every receiver could read it. Send a flat form of "
    "it (a list of nodes that name their parents, say), or JSON as a str"
)
"""What is wrong with a value that is nested deeper than `MAX_VALUE_DEPTH`, and what to do about it."""


def describe_too_deep(what: str) -> str:
    """The error for a value that is nested deeper than `MAX_VALUE_DEPTH`."""
    return f"{what}: {TOO_DEEP}"


class _Arguments(msgspec.Struct):
    a: list[msgspec.Raw] = []
    k: dict[str, msgspec.Raw] = {}


_positional = msgspec.json.Decoder(list[msgspec.Raw])
_named = msgspec.json.Decoder(_Arguments)


def describe_largest_argument(arguments: bytes) -> str:
    """Which of these arguments is the largest, for people; empty if there is one, or a codec encoded them."""
    try:
        array = arguments.startswith(b"[")
        decoded = _Arguments(_positional.decode(arguments)) if array else _named.decode(arguments)
    except msgspec.MsgspecError:
        return ""
    sizes = {f"number {index + 1}": len(bytes(value)) for index, value in enumerate(decoded.a)}
    sizes |= {f"'{name}'": len(bytes(value)) for name, value in decoded.k.items()}
    if len(sizes) < 2:
        return ""
    largest = max(sizes, key=lambda name: sizes[name])
    return f"; the largest is argument {largest} with {sizes[largest]:,} bytes"


def check_value(what: str, data: bytes, extra: int, limit: int) -> None:
    """Raise `PayloadTooLargeError` for encoded arguments, or a value, that no message carries.

    Args:
        what: what they are, for people.
        data: as they travel.
        extra: bytes that go with them: meta.
        limit: bytes that both may have together.
    """
    if len(data) > 2 * MAX_VALUE_DEPTH and is_deeper(data, MAX_VALUE_DEPTH):
        raise PayloadTooLargeError(describe_too_deep(what))
    size = len(data) + extra
    if size > limit:
        beside = f" with its meta of {extra:,} bytes" if extra else ""
        raise PayloadTooLargeError(
            f"{what}: {size:,} bytes{beside} are above the limit of {limit:,} bytes{describe_largest_argument(data)}"
        )


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What workflow code may ask for, in bytes: in one call, and in one activation.

    After `enough` bytes an activation ends at the next rest, and what waits still is left to the next one. How many
    stimuli travel together decides nothing: the code is refused something only if what it asks for between two rests
    is too much for an activation of its own.
    """

    call: int
    activation: int
    enough: int

    @classmethod
    def stored(cls, max_payload: int, max_value: int) -> Limits:
        """Limits where all that is asked for is stored at once, with stimuli of up to one message."""
        return cls.of(max_payload, max(max_value - max_payload, max_value // 2))

    @classmethod
    def sent(cls, max_payload: int) -> Limits:
        """Limits where all that is asked for is sent in one message."""
        return cls.of(max_payload, compute_body_limit(max_payload))

    @classmethod
    def of(cls, max_payload: int, total: int) -> Limits:
        """Limits where a message may have `max_payload` bytes, and all that is asked for at once `total` bytes."""
        enough = min(ENOUGH, total // 4)
        return cls(compute_value_limit(max_payload), max(total - ENVELOPE, 0), enough)
