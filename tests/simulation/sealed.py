"""A chain of codecs as they are used in production, for simulations of all kinds."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping

from infinitic import PayloadCodec
from infinitic.codec.payloads import Coder
from infinitic.codecs.aes_gcm import AesGcm
from infinitic.codecs.claim_check import ClaimCheck
from infinitic.codecs.store import MemoryStore, ObjectStore

KEYS: dict[str, str | bytes] = {"old": bytes(32), "new": bytes(range(32))}


class Zip(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        headers["zip"] = "1"
        return zlib.compress(data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return zlib.decompress(data) if "zip" in headers else data


class FlakyStore(ObjectStore):
    """Loses the connection now and then.

    Args:
        puts: every which call of `put` fails.
        gets: every which call of `get` fails; 0: none. The checks of a simulation get objects, too.
    """

    def __init__(self, puts: int, gets: int = 0) -> None:
        self.inner = MemoryStore()
        self.failures = 0
        self.gets = gets
        self._puts = puts
        self._calls = itertools.count(1)

    def put(self, name: str, data: bytes) -> None:
        self._connect(self._puts)
        self.inner.put(name, data)

    def get(self, name: str) -> bytes | None:
        self._connect(self.gets)
        return self.inner.get(name)

    def _connect(self, period: int) -> None:
        if period and next(self._calls) % period == 0:
            self.failures += 1
            raise ConnectionError("the store is away")


def make_chain(store: ObjectStore, *, above_bytes: int = 50) -> list[PayloadCodec]:
    """Make a chain: compression, encryption by two keys in turn, and a claim check.

    Each run makes the same nonces.
    """
    numbers = itertools.count()
    ciphers = [AesGcm(KEYS, current, make_nonce=lambda size: next(numbers).to_bytes(size, "big")) for current in KEYS]
    return [Zip(), Turning(ciphers), ClaimCheck(store, above_bytes)]


class Turning(PayloadCodec):
    """Encrypts with another key each time, as while the key is being changed."""

    def __init__(self, ciphers: list[AesGcm]) -> None:
        self._ciphers = itertools.cycle(ciphers)

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return next(self._ciphers).encode(data, headers)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return next(self._ciphers).decode(data, headers)


class Sealed(PayloadCodec):
    """The whole chain in one codec, for ``infinitic simulate --codec``."""

    def __init__(self) -> None:
        self._coder = Coder(make_chain(MemoryStore()))

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return self._coder.encode(data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return self._coder.decode(data)
