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

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from infinitic.errors import DecodingError, PayloadError, PayloadUnavailable, UsageError

T = TypeVar("T")

_MARK = b'{"$coded":'


class PayloadCodec(ABC):
    """Compresses or encrypts payloads: arguments, results and signals.

    Give it to clients and workers, all of them the same one: ``Worker(..., codec=MyCodec())``.
    Several make a chain, in which the first one encodes first::

        class Zip(PayloadCodec):
            def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
                headers["zip"] = "1"
                return zlib.compress(data)

            def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
                return zlib.decompress(data) if "zip" in headers else data

    Both methods may raise anything. Workers take that for an outage (a key service that is away,
    say), wait, and try again; a client raises `PayloadUnavailable`. What can never work must be
    said: `encode` raises `PayloadError`, `decode` raises `DecodingError`::

            def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
                key = self._keys.get(headers["key"])  # may raise: the key service is asked again
                try:
                    return decrypt(key, data)
                except InvalidTag as error:
                    raise DecodingError("This payload was tampered with") from error

    Warning: both are called in the thread of the event loop. While they wait, everything waits.
    With `blocking`, only workflow code and its replay call them there, all else in threads, several
    at the same time.
    """

    __slots__ = ()

    blocking: bool = False
    """Whether it may wait, for a disk or a network: clients and tasks then call it in a thread."""

    @abstractmethod
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Encode a payload.

        Args:
            data: the payload: JSON text, or what the codec before this one made of it.
            headers: what decoding needs to know goes in here: an algorithm, the id of a key. All
                codecs of a chain share it.

        Raises:
            PayloadError: this payload can never be encoded: the call that made it fails.
        """

    @abstractmethod
    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """Decode a payload.

        Args:
            data: what `encode` returned.
            headers: what it put into its headers.

        Raises:
            DecodingError: it can never be decoded. Nothing is lost: the workflow stalls, or the
                task fails.
        """


class _Coded(msgspec.Struct):
    headers: dict[str, str] = msgspec.field(name="$coded")
    data: str


_decoder = msgspec.json.Decoder(_Coded)


RunBlocking = Callable[[Callable[[], object]], Awaitable[object]]
"""Runs a plain function that may block, and returns what it returns."""


class Coder:
    """A chain of codecs. The first one codes first.

    Attributes:
        blocking: whether one of them may wait.

    Args:
        codecs: the codecs.
        run_blocking: where codecs that may wait are called; None: in threads.
    """

    def __init__(self, codecs: Sequence[PayloadCodec], run_blocking: RunBlocking | None = None) -> None:
        self._codecs = tuple(codecs)
        self._run_blocking = run_blocking or asyncio.to_thread
        self.blocking = any(codec.blocking for codec in codecs)

    async def encode_outside(self, data: bytes) -> bytes:
        """As `encode`, and without holding up the event loop if a codec may wait."""
        return await self.run_outside(lambda: self.encode(data))

    async def decode_outside(self, data: bytes | msgspec.Raw) -> bytes:
        """As `decode`, and without holding up the event loop if a codec may wait."""
        return await self.run_outside(lambda: self.decode(data))

    async def run_outside(self, function: Callable[[], T]) -> T:
        """Call a function that encodes or decodes: in a thread if a codec may wait."""
        return cast(T, await self._run_blocking(function)) if self.blocking else function()

    def encode(self, data: bytes) -> bytes:
        """Encode a payload by all codecs, and return it as JSON text.

        Raises:
            PayloadError: a codec says that this can never be encoded.
            PayloadUnavailable: a codec fails otherwise.
        """
        headers: dict[str, str] = {}
        earlier: dict[str, str] = {}
        for codec in self._codecs:
            try:
                data = codec.encode(data, headers)
            except PayloadError as error:
                raise PayloadError(f"{type(codec).__name__} cannot encode this payload: {error}") from error
            except Exception as error:
                raise _make_unavailable(codec, "encode", error) from error
            if wrong := _name_wrong_type(data):
                raise PayloadError(f"{type(codec).__name__}.encode has to return bytes, not {wrong}")
            for name, value in headers.items():
                if type(name) is not str or type(value) is not str:
                    # Nobody could decode it.
                    raise PayloadError(
                        f"{type(codec).__name__}.encode: headers have to be texts, not {name!r}: {value!r}"
                    )
            for name, value in earlier.items():
                if headers.get(name) != value:
                    # The codec that wrote it could not decode any more what it has encoded.
                    raise PayloadError(
                        f"{type(codec).__name__}.encode changes the header {name!r} of a codec before it in the chain"
                    )
            earlier.update(headers)
        return msgspec.json.encode(_Coded(headers, base64.b64encode(data).decode()))

    def decode(self, data: bytes | msgspec.Raw) -> bytes:
        """Decode what `encode` returned. A payload that no codec has encoded is returned as it is.

        Raises:
            DecodingError: a codec says that this can never be decoded, or it is no encoded payload.
            PayloadUnavailable: a codec fails otherwise.
        """
        data = bytes(data)
        if not data.startswith(_MARK):
            return data
        try:
            coded = _decoder.decode(data)
            data = base64.b64decode(coded.data, validate=True)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DecodingError(f"This is no coded payload: {error}") from error
        for codec in reversed(self._codecs):
            try:
                data = codec.decode(data, coded.headers)
            except DecodingError as error:
                raise DecodingError(f"{type(codec).__name__} cannot decode this payload: {error}") from error
            except Exception as error:
                raise _make_unavailable(codec, "decode", error) from error
            if wrong := _name_wrong_type(data):
                raise DecodingError(f"{type(codec).__name__}.decode has to return bytes, not {wrong}")
        return data


def _name_wrong_type(data: object) -> str:
    """Name the type of what a codec has returned; empty if that is right."""
    return "" if isinstance(data, bytes) else type(data).__name__


def _make_unavailable(codec: PayloadCodec, verb: str, error: Exception) -> PayloadUnavailable:
    """The error for a codec that did not say whether trying again is useless."""
    reason = str(error) if isinstance(error, PayloadUnavailable) else f"{type(error).__name__}: {error}"
    return PayloadUnavailable(f"{type(codec).__name__} cannot {verb} a payload now ({reason})")


def make_coder(
    codec: PayloadCodec | Sequence[PayloadCodec] | None, run_blocking: RunBlocking | None = None
) -> Coder | None:
    """Make the chain of the codecs that a client or worker was given; None for none.

    Args:
        codec: the codecs.
        run_blocking: where codecs that may wait are called; None: in threads.

    Raises:
        UsageError: something else was given.
    """
    try:
        given: list[object] = [codec] if isinstance(codec, PayloadCodec) else [*(codec or ())]
    except TypeError:
        given = [codec]
    codecs = [each for each in given if isinstance(each, PayloadCodec)]
    if len(codecs) < len(given):
        raise UsageError(f"codec takes PayloadCodec objects, got {codec!r}")
    return Coder(codecs, run_blocking) if codecs else None
