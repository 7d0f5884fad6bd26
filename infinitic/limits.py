"""What fits into a message.

That is how much of it users may fill, and how much workflow code may ask for at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from infinitic.errors import PayloadTooLargeError

ENVELOPE = 16 * 1024
"""Bytes of a message that are kept free for names, ids and a failure, beside what users give."""
MARGIN = 1024
"""Bytes by which a message stays below the limit of its broker, for headers."""
ENOUGH = 1024 * 1024
"""After so many bytes of commands, the stimuli that still wait are left to the next activation."""
CARRIED = 64 * 1024
"""Bytes of stimuli that travel to an executor. It reads larger ones from the storage."""
STALL_REASON = 8 * 1024
"""Bytes of the reason for which an instance is stalled: it is in its head."""
MAX_DEPTH = 500
"""How deep the body of a message may be nested.

The decoder follows about 1,000 levels, and the history adds some.
"""
MAX_VALUE_DEPTH = 200
"""How deep the arguments of a call, a signal or a result may be nested.

Codecs in Python take two of 1,000 frames for a level. At the call nobody knows how many are left at
the receiver. Those of pydantic follow 255 levels.
"""
MAX_OPEN = 100_000
"""How many tasks, children, calls and timers of an instance may be open at once."""
MAX_METHODS = 10_000
"""How many methods of an instance may run at once."""
MAX_WAITERS = 100
"""How many clients may wait for one method in the head. Others ask again from time to time."""
MAX_VERSION = 2**31 - 1
"""The highest version of a workflow."""


def compute_value_limit(max_payload: int) -> int:
    """Compute how many bytes arguments, tags and meta may have together, or one value.

    Args:
        max_payload: bytes that a message may have.
    """
    return max(max_payload - ENVELOPE, 0)


def compute_body_limit(max_payload: int) -> int:
    """Compute how many bytes the body of a message may have.

    Args:
        max_payload: bytes that a message may have with its headers.
    """
    return max(max_payload - MARGIN, 0)


def measure_extra(tags: Sequence[str] = (), meta: Mapping[str, bytes] | None = None) -> int:
    """Measure how many bytes tags and meta take in a message. Values of meta are base64 there."""
    return (len(msgspec.json.encode(tags)) if tags else 0) + (len(msgspec.json.encode(meta)) if meta else 0)


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ALIKE = bytes.maketrans(b"{}", b"[]")


def is_deeper(data: bytes, levels: int) -> bool:
    """Whether valid JSON is nested deeper than so many levels.

    Strings are cut out only if there are too many brackets in them.
    """
    if len(data) <= 2 * levels or data.count(b"[") + data.count(b"{") <= levels or not _remove_pairs(data, levels):
        return False
    return bool(_remove_pairs(_STRING.sub(b"", data), levels))


def _remove_pairs(text: bytes, levels: int) -> bytes:
    """Remove the innermost pairs of brackets, level by level. Returns what brackets are left."""
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
"""What is wrong with a value nested deeper than `MAX_VALUE_DEPTH`, and what to do about it."""


def describe_too_deep(what: str) -> str:
    """Describe a value that is nested deeper than `MAX_VALUE_DEPTH`. `what` names it for people."""
    return f"{what}: {TOO_DEEP}"


class _Arguments(msgspec.Struct):
    a: list[msgspec.Raw] = []
    k: dict[str, msgspec.Raw] = {}


_positional = msgspec.json.Decoder(list[msgspec.Raw])
_named = msgspec.json.Decoder(_Arguments)


def describe_largest_argument(arguments: bytes) -> str:
    """Describe the largest of these arguments, for the end of a sentence.

    Returns:
        Nothing if there is only one, or a payload codec has encoded them.
    """
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
    """Check that a message can carry encoded arguments, or a value.

    Args:
        what: what they are, for people.
        data: as they travel.
        extra: bytes of meta that go with them.
        limit: bytes that both may have together.

    Raises:
        PayloadTooLargeError: they are too large, or nested too deep.
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
    """How much workflow code may ask for, in bytes.

    The code is refused something only if what it asks for between two waits is too much for an
    activation of its own. How many stimuli travel together does not matter.

    Attributes:
        call: for one call.
        activation: for one activation.
        enough: after so much, the activation ends when the code waits next. The stimuli that are
            left go to the next activation.
    """

    call: int
    activation: int
    enough: int

    @classmethod
    def stored(cls, max_payload: int, max_value: int) -> Limits:
        """Make the limits for code whose commands are stored, with stimuli of up to one message.

        Args:
            max_payload: bytes that a message may have.
            max_value: bytes that a value in the storage may have.
        """
        return cls.of(max_payload, max(max_value - max_payload, max_value // 2))

    @classmethod
    def sent(cls, max_payload: int) -> Limits:
        """Make the limits for code whose commands are sent in one message.

        Args:
            max_payload: bytes that a message may have.
        """
        return cls.of(max_payload, compute_body_limit(max_payload))

    @classmethod
    def of(cls, max_payload: int, total: int) -> Limits:
        """Make limits.

        Args:
            max_payload: bytes that a message may have.
            total: bytes that the commands of one activation may have.
        """
        enough = min(ENOUGH, total // 4)
        return cls(compute_value_limit(max_payload), max(total - ENVELOPE, 0), enough)
