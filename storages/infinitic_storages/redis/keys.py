"""Keys and marks as bytes: exact, and in the order of (name, id), since Redis sorts bytes."""

from __future__ import annotations

from infinitic.storage import StateKey

MAX_PART = 255
"""Bytes of UTF-8 of a name, and of an id."""

SEPARATOR = b"\0\0"  # sorts before anything that could follow within a name
_NUL = b"\0\xff"


def encode_name(name: str) -> bytes | None:
    """None for what no name can be: too long, or a lone surrogate."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return None
    return None if len(encoded) > MAX_PART else encoded.replace(b"\0", _NUL)


def encode_key(key: StateKey) -> bytes | None:
    """The member that names an instance in sorted sets, and ends its keys. None for what no key can be."""
    name = encode_name(key.name)
    if name is None or encode_name(key.id) is None:
        return None
    return name + SEPARATOR + key.id.encode()


def decode_key(member: bytes) -> StateKey:
    """The inverse of `encode_key`."""
    name, _, id_ = member.partition(SEPARATOR)
    return StateKey(name.replace(_NUL, b"\0").decode(), id_.decode())


def encode_mark(member: bytes, mark: str) -> bytes:
    """A mark of a key in the one sorted set of all marks; the length in front keeps keys apart."""
    return len(member).to_bytes(2, "big") + member + mark.encode("utf-8", "surrogatepass")
