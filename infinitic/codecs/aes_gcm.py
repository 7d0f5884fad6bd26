"""Encrypts payloads with AES-GCM. Keys can be changed while workflows run."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from infinitic.codec.payloads import PayloadCodec
from infinitic.errors import DecodingError, MissingDriverError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_ID = "aes-gcm"
"""The header with the id of the key."""

_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = (16, 24, 32)


class AesGcm(PayloadCodec):
    """Encrypts payloads with AES-GCM. Nobody can read or change them without a key.

    ::

        codec = AesGcm({"2025": old_key, "2026": new_key}, current="2026")

    Each payload names the key that it was encrypted with. So old payloads can be read as long as
    their key is in the list. To change the key: first give all workers and clients the new one
    beside the old one, then make it `current`, and remove the old one when no payload has it any
    more. That is when the retention of all workflows that began before is over.

    Nonces are random: use a key for less than 2**32 payloads.

    In a chain, put compression before it, and `ClaimCheck` behind it.

    Args:
        keys: the keys by their ids: 16, 24 or 32 bytes each, or these as base64 text.
        current: the id of the key that encrypts. It is needed if there are several.
        make_nonce: makes random bytes, as many as it is asked for. Tests may give their own.

    Raises:
        UsageError: a key cannot be one, or it is not said which one encrypts.
        MissingDriverError: the library `cryptography` is not installed.
    """

    __slots__ = ("_ciphers", "_current", "_make_nonce")

    def __init__(
        self,
        keys: Mapping[str, str | bytes],
        current: str | None = None,
        *,
        make_nonce: Callable[[int], bytes] = os.urandom,  # noqa: TID251 (it must be unpredictable)
    ) -> None:
        self._ciphers = _make_ciphers(keys)
        if current is None:
            if len(keys) != 1:
                raise UsageError(
                    f"current must say which key encrypts: {', '.join(map(repr, keys)) or 'there is none'}"
                )
            current = next(iter(keys))
        if current not in self._ciphers:
            raise UsageError(f"The current key {current!r} is not among the keys: {', '.join(map(repr, keys))}")
        self._current = current
        self._make_nonce = make_nonce

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Encrypt a payload with the current key."""
        headers[KEY_ID] = self._current
        nonce = self._make_nonce(_NONCE_BYTES)
        return nonce + self._ciphers[self._current].encrypt(nonce, data, self._current.encode())

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """Decrypt a payload with its key. One that was never encrypted is returned as it is.

        Raises:
            DecodingError: its key is not here, or the payload is not what was encrypted.
        """
        key_id = headers.get(KEY_ID)
        if key_id is None:
            return data
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecodingError(f"its key {key_id!r} is not among the keys {', '.join(map(repr, self._ciphers))}")
        changed = f"it was changed, or another key than this one is called {key_id!r}"
        if len(data) < _NONCE_BYTES + _TAG_BYTES:
            raise DecodingError(changed)
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], key_id.encode())
        except InvalidTag as error:
            raise DecodingError(changed) from error


def _make_ciphers(keys: Mapping[str, str | bytes]) -> dict[str, AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingDriverError("AesGcm", "encryption", error.name) from error
    given: Any = keys
    if not isinstance(given, Mapping):
        raise UsageError("keys of AesGcm is a mapping of ids to keys")
    return {_check_id(key_id): AESGCM(_read_key(key_id, key)) for key_id, key in keys.items()}


def _check_id(key_id: Any) -> str:
    if not isinstance(key_id, str) or not key_id:
        raise UsageError(f"The id of a key must be a text, got {key_id!r}")
    return key_id


def _read_key(key_id: str, key: Any) -> bytes:
    """Read a key. Errors do not show it."""
    found = key
    if isinstance(key, str):
        try:
            found = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            found = None
    if not isinstance(found, bytes):
        raise UsageError(f"The key {key_id!r} is neither bytes nor base64 text")
    if len(found) not in _KEY_BYTES:
        raise UsageError(f"The key {key_id!r} has {len(found)} bytes: it must have 16, 24 or 32")
    return found
