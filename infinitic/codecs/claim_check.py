"""Keeps large payloads outside, and sends where they are: the pattern "claim check"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from infinitic.codec.payloads import PayloadCodec
from infinitic.codecs.files import FileStore
from infinitic.codecs.store import ObjectStore
from infinitic.errors import DecodingError, UsageError

NAME = "claim-check"
"""The header with the name of the object."""

DEFAULT_ABOVE = 256 * 1024
"""Bytes of a payload that travels as it is, at most."""

_NAMES = re.compile("[0-9a-f]{64}")


class ClaimCheck(PayloadCodec):
    """Keeps large payloads in a store, and sends only where they are.

    So a value may be larger than a message, and the history stays small::

        codec = ClaimCheck("/mnt/payloads")  # or an ObjectStore of your own
        worker = Worker(transport, storage, codec=codec)
        client = Client(transport, codec=codec)

    The name of an object is the hash of its content. So a payload that is encoded again, after a
    crash for instance, is the same object, and one that was changed is found out.

    In a chain it comes last: compression and encryption before it hold for what is kept outside.
    (Encryption never gives the same twice. Each time that a payload is encoded then makes an object
    of its own.)

    Clients and tasks read and write in threads. Workflow code reads and writes where it runs, on
    the event loop: what is large there holds up all other workflows of its worker for that time. So
    let workflows hand large values on as rarely as possible.

    Objects are never removed by this: see `FileStore.remove_unused`.

    Args:
        store: where payloads are kept, or the directory for a `FileStore`.
        above_bytes: payloads with more bytes than this are kept outside.

    Raises:
        UsageError: there is no such directory, or the size cannot be one.
    """

    __slots__ = ("_above", "store")

    blocking = True

    def __init__(self, store: ObjectStore | str | Path, above_bytes: int = DEFAULT_ABOVE) -> None:
        given: Any = above_bytes
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise UsageError(f"above_bytes must be a whole number of bytes, got {above_bytes!r}")
        self.store = store if isinstance(store, ObjectStore) else _open_directory(store)
        """Where payloads are kept."""
        self._above = above_bytes

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Keep a payload outside, if it is large.

        Raises:
            Exception: the store cannot be reached.
        """
        if len(data) <= self._above:
            return data
        name = sha256(data).hexdigest()
        self.store.put(name, data)
        headers[NAME] = name
        return b""

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """Fetch a payload, if it is kept outside.

        Raises:
            DecodingError: there is no such object, or its content was changed.
            Exception: the store cannot be reached.
        """
        name = headers.get(NAME)
        if name is None:
            return data
        if _NAMES.fullmatch(name) is None:
            raise DecodingError(f"{name!r} is not the name of an object")
        found = self.store.get(name)
        if found is None:
            raise DecodingError(f"the object {name} is missing from {self.store!r}")
        if sha256(found).hexdigest() != name:
            raise DecodingError(f"the object {name} in {self.store!r} was changed")
        return found


def _open_directory(given: str | Path) -> FileStore:
    directory: Any = given
    if not isinstance(directory, str | Path):
        raise UsageError(f"ClaimCheck takes an ObjectStore or a directory, got {given!r}")
    if not Path(directory).is_dir():
        raise UsageError(f"{directory} is not a directory: make it, or mount it")
    return FileStore(directory)
