"""Keys and deduplication ids as bytes. They are exact, and sort by name and id, as Redis does."""

from __future__ import annotations

from infinitic.storage import StateKey, TagKey, TagKind
from infinitic.storage.checks import MAX_KEY_PART

SEPARATOR = b"\0\0"  # sorts before anything that could follow within a name
_NUL = b"\0\xff"
_KINDS = {TagKind.WORKFLOW: b"w", TagKind.CUSTOM_ID: b"c", TagKind.TASK: b"t"}


def encode_name(name: str) -> bytes | None:
    """Encode a name or an id; None if it is too long, or has a lone surrogate."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return None
    return None if len(encoded) > MAX_KEY_PART else encoded.replace(b"\0", _NUL)


def encode_key(key: StateKey) -> bytes | None:
    """Encode a key as the member of sorted sets that names it. Its Redis keys end with it, too.

    None if it cannot be a key.
    """
    name = encode_name(key.name)
    if name is None or encode_name(key.id) is None:
        return None
    return name + SEPARATOR + key.id.encode()


def decode_key(member: bytes) -> StateKey:
    """The inverse of `encode_key`."""
    name, _, id_ = member.partition(SEPARATOR)
    return StateKey(name.replace(_NUL, b"\0").decode(), id_.decode())


def encode_deduplication_id(member: bytes, id_: str) -> bytes:
    """Encode a deduplication id as a member of the one sorted set of them all.

    The length in front tells where the key ends.

    Args:
        member: the encoded key.
        id_: the deduplication id.
    """
    return len(member).to_bytes(2, "big") + member + id_.encode("utf-8", "surrogatepass")


def encode_tag_key(key: TagKey) -> bytes:
    """Encode the key of a tag, which has been checked.

    The length of the name tells where the tag begins.
    """
    name = key.name.encode()
    return b"%b%c%b%b" % (_KINDS[key.kind], len(name), name, key.tag.encode())


def encode_number(value: float | None) -> str:
    """Encode a number so that it is read back exactly. None is the empty text."""
    return "" if value is None else repr(float(value))
