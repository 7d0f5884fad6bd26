"""Keys, tags and deduplication ids as bytes. They are exact, and keys sort by name and id.

A key is one column, because MariaDB finds no index for a list of pairs. UTF-8 sorts as its
characters do.
"""

from __future__ import annotations

from hashlib import sha256

from infinitic.storage import StateKey, TagKey, TagKind
from infinitic.storage.checks import MAX_KEY_PART

MAX_KEY = 2 * MAX_KEY_PART + 2 + MAX_KEY_PART
MAX_DEDUPLICATION_ID = 512
MAX_TAG_KEY = 2 + 2 * MAX_KEY_PART

_SEPARATOR = b"\0\0"  # sorts before anything that could follow within a name
_NUL = b"\0\xff"
_KINDS = {TagKind.WORKFLOW: b"w", TagKind.CUSTOM_ID: b"c", TagKind.TASK: b"t"}


def encode_key(key: StateKey) -> bytes | None:
    """Encode a key; None if it is too long, or has a lone surrogate."""
    try:
        name, id_ = key.name.encode(), key.id.encode()
    except UnicodeEncodeError:
        return None
    if len(name) > MAX_KEY_PART or len(id_) > MAX_KEY_PART:
        return None
    return name.replace(b"\0", _NUL) + _SEPARATOR + id_


def encode_id_range(name: str, prefix: str) -> tuple[bytes, bytes] | None:
    """Encode what the keys of a name begin with whose ids begin with a prefix.

    Returns:
        The smallest key that may be one, and the smallest one behind all of them. None: no key can
        be one.
    """
    first = encode_key(StateKey(name, prefix))
    if first is None:
        return None
    # No byte of UTF-8 is 255, nor is the last one of the separator.
    return first, first[:-1] + bytes([first[-1] + 1])


def decode_key(key: bytes) -> StateKey:
    """The inverse of `encode_key`."""
    name, _, id_ = bytes(key).partition(_SEPARATOR)
    return StateKey(name.replace(_NUL, b"\0").decode(), id_.decode())


def encode_deduplication_id(id_: str) -> bytes:
    """The bytes of a deduplication id; of a long one, its digest.

    Indexes have limits, and ids are only compared for equality.
    """
    encoded = id_.encode("utf-8", "surrogatepass")
    return encoded if len(encoded) <= MAX_DEDUPLICATION_ID else b"\xff" + sha256(encoded).digest()


def encode_tag_key(key: TagKey) -> bytes:
    """Encode the key of a tag, which has been checked.

    The length of the name tells where the tag begins.
    """
    name = key.name.encode()
    return b"%b%c%b%b" % (_KINDS[key.kind], len(name), name, key.tag.encode())
