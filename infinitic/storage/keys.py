"""What names an instance in a storage."""

from __future__ import annotations

import msgspec


class StateKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one instance.

    Keys are compared exactly: ``a``, ``A``, ``a `` and the two spellings of ``é`` are five keys,
    and ``\\0`` is a character like any other. A change for a key that is too long is `Refused`.

    Attributes:
        name: the name of the workflow, any Unicode text of up to 255 bytes of UTF-8.
        id: the id of the instance, likewise.
    """

    name: str
    id: str
