"""Codecs for payloads: compression or encryption between the values of users and everything else.

Arguments, results and signals are coded where they are encoded, and decoded where they are used: in clients, in tasks
and in workflow code. Engines, broker and storage see opaque JSON. A coded payload is a JSON object that says so:
``{"$coded": {headers}, "data": base64 text}``; one that was written before a codec was set is read as it is.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from infinitic.errors import DecodingError, PayloadError, UsageError

_MARK = b'{"$coded":'


class PayloadCodec(ABC):
    """One step on the way of a payload: compression, encryption. Used by clients and workers alike, from one thread."""

    __slots__ = ()

    @abstractmethod
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Code a payload. What decoding needs to know (an algorithm, the id of a key) goes into `headers`."""

    @abstractmethod
    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """The payload again. Raise if it cannot be decoded: nothing is lost, the workflow stalls or the task fails."""


class _Coded(msgspec.Struct):
    headers: dict[str, str] = msgspec.field(name="$coded")
    data: str


_decoder = msgspec.json.Decoder(_Coded)


class Coder:
    """A chain of codecs. The first one codes first."""

    def __init__(self, codecs: Sequence[PayloadCodec]) -> None:
        self._codecs = tuple(codecs)

    def seal(self, data: bytes) -> bytes:
        """A coded payload, as JSON. Raises `PayloadError` if a codec fails."""
        headers: dict[str, str] = {}
        for codec in self._codecs:
            try:
                data = codec.encode(data, headers)
            except Exception as error:
                raise PayloadError(f"{type(codec).__name__} cannot encode this payload: {error}") from error
        return msgspec.json.encode(_Coded(headers, base64.b64encode(data).decode()))

    def unseal(self, data: bytes | msgspec.Raw) -> bytes:
        """The payload again. Raises `DecodingError` if a codec fails."""
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
            except Exception as error:
                raise DecodingError(f"{type(codec).__name__} cannot decode this payload: {error}") from error
        return data


def coder_of(codec: PayloadCodec | Sequence[PayloadCodec] | None) -> Coder | None:
    """The chain that a client or worker was given; None for none. Raises `UsageError` for something else."""
    given: list[object] = [codec] if isinstance(codec, PayloadCodec) else [*(codec or ())]
    codecs = [each for each in given if isinstance(each, PayloadCodec)]
    if len(codecs) < len(given):
        raise UsageError(f"codec takes PayloadCodec objects, got {codec!r}")
    return Coder(codecs) if codecs else None
