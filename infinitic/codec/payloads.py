"""Codecs for payloads: compression or encryption between the values of users and everything else.

Arguments, results and signals are coded where they are encoded, and decoded where they are used: in
clients, in tasks and in workflow code. Engines, broker and storage see opaque JSON. A coded payload
is a JSON object that says so: ``{"$coded": {headers}, "data": base64 text}``; one that was written
before a codec was set is read as it is.

A codec that fails is tried again, unless it says that this is useless: a key service that is away
for a second must not end a task. So `DecodingError` (`PayloadError` when coding) is final, and
every other error means *not now*.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from infinitic.errors import DecodingError, PayloadError, PayloadUnavailable, UsageError

_MARK = b'{"$coded":'


class PayloadCodec(ABC):
    """One step on the way of a payload: compression, encryption.

    Used by clients and workers alike, from one thread.

    Both methods may raise anything. Workers take it for an outage, wait, and try again; a client
    raises `PayloadUnavailable`. What can never work is said with `PayloadError` by `encode`,
    `DecodingError` by `decode`::

        def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
            key = self._keys.get(headers["key"])  # may raise: the key service is asked again
            try:
                return decrypt(key, data)
            except InvalidTag as error:
                raise DecodingError("This payload was tampered with") from error
    """

    __slots__ = ()

    @abstractmethod
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Code a payload.

        What decoding needs to know (an algorithm, the id of a key) goes into `headers`.

        Raise `PayloadError` if this payload can never be coded: the call that made it fails.
        """

    @abstractmethod
    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """The payload again.

        Raise `DecodingError` if it can never be decoded: nothing is lost, the workflow stalls or
        the task fails.
        """


class _Coded(msgspec.Struct):
    headers: dict[str, str] = msgspec.field(name="$coded")
    data: str


_decoder = msgspec.json.Decoder(_Coded)


class Coder:
    """A chain of codecs. The first one codes first."""

    def __init__(self, codecs: Sequence[PayloadCodec]) -> None:
        self._codecs = tuple(codecs)

    def encode(self, data: bytes) -> bytes:
        """A coded payload, as JSON.

        Raises `PayloadError` if a codec says that this can never be coded, `PayloadUnavailable` if
        it fails otherwise.
        """
        headers: dict[str, str] = {}
        for codec in self._codecs:
            try:
                data = codec.encode(data, headers)
            except PayloadError as error:
                raise PayloadError(f"{type(codec).__name__} cannot encode this payload: {error}") from error
            except Exception as error:
                raise _make_unavailable(codec, "encode", error) from error
        return msgspec.json.encode(_Coded(headers, base64.b64encode(data).decode()))

    def decode(self, data: bytes | msgspec.Raw) -> bytes:
        """The payload again.

        Raises `DecodingError` if a codec says that this can never be decoded, or if it is no coded
        payload; `PayloadUnavailable` if a codec fails otherwise.
        """
        data = bytes(data)
        if not data.startswith(_MARK):
            return data
        try:
            coded = _decoder.decode(data)
            data = base64.b64decode(coded.data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DecodingError(f"This is no coded payload: {error}") from error
        for codec in reversed(self._codecs):
            try:
                data = codec.decode(data, coded.headers)
            except DecodingError as error:
                raise DecodingError(f"{type(codec).__name__} cannot decode this payload: {error}") from error
            except Exception as error:
                raise _make_unavailable(codec, "decode", error) from error
        return data


def _make_unavailable(codec: PayloadCodec, verb: str, error: Exception) -> PayloadUnavailable:
    """The error for a codec that did not say whether trying again is useless."""
    reason = str(error) if isinstance(error, PayloadUnavailable) else f"{type(error).__name__}: {error}"
    return PayloadUnavailable(f"{type(codec).__name__} cannot {verb} a payload now ({reason})")


def make_coder(codec: PayloadCodec | Sequence[PayloadCodec] | None) -> Coder | None:
    """The chain that a client or worker was given; None for none.

    Raises `UsageError` for something else.
    """
    given: list[object] = [codec] if isinstance(codec, PayloadCodec) else [*(codec or ())]
    codecs = [each for each in given if isinstance(each, PayloadCodec)]
    if len(codecs) < len(given):
        raise UsageError(f"codec takes PayloadCodec objects, got {codec!r}")
    return Coder(codecs) if codecs else None
