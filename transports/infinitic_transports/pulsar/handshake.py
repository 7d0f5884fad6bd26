"""The first words of Pulsar's binary protocol: whether a broker listens at an address, and what it takes.

The client library connects again and again for half a minute before it says a word. This asks once, and says why not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

_CONNECT, _CONNECTED, _ERROR = 2, 3, 14
"""Numbers of fields; those of the last two are also their types."""

_PROTOCOL = 19
_LONGEST = 64 * 1024
"""Bytes of an answer to `CONNECT`, at most; a longer one is no answer of a broker."""

_DENIALS = {3: "AuthenticationError", 4: "AuthorizationError"}


class Identity(NamedTuple):
    """As who to connect: the name of a method of Pulsar, and what it sends."""

    method: str = ""
    data: bytes = b""


class Greeting(NamedTuple):
    """What a broker answered.

    `max_message_size` is in bytes, 0 if the broker does not say. `denial` is why it lets this client not in, if so.
    """

    max_message_size: int = 0
    denial: str = ""
    detail: str = ""


class HandshakeError(Exception):
    """No broker can be talked to at an address. The text says why. `mistake`: waiting will not help."""

    def __init__(self, text: str, *, mistake: bool) -> None:
        super().__init__(text)
        self.mistake = mistake


def addresses(url: str) -> list[tuple[str, int]]:
    """The hosts and ports of a service URL, of which it may name several."""
    scheme, _, rest = url.partition("://")
    default = 6651 if scheme == "pulsar+ssl" else 6650
    found: list[tuple[str, int]] = []
    for each in rest.partition("/")[0].split(","):
        try:
            parts = urlsplit(f"//{each}")
            found.append((parts.hostname or "", parts.port or default))
        except ValueError as error:
            raise HandshakeError(f"{each!r} is no host and port ({error})", mistake=True) from error
    return found


async def greet(host: str, port: int, identity: Identity, context: ssl.SSLContext | None, seconds: float) -> Greeting:
    """Connect, say who is there, and leave. Raises `HandshakeError` if nothing, or no broker, answers in time.

    OpenSSL's words for an error of TLS are kept: `errors.wrong` knows what they mean.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(seconds):
            name = host if context is not None else None
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            try:
                writer.write(_frame(identity))
                return _answer(where, await _command(where, reader))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise HandshakeError(f"{where} does not answer within {seconds:g} s", mistake=False) from None
    except ssl.SSLError as error:
        raise HandshakeError(f"{where}: {error}", mistake=True) from error
    except ConnectionRefusedError as error:
        raise HandshakeError(f"nothing listens at {where}", mistake=False) from error
    except OSError as error:
        reason = str(error.strerror or error) or type(error).__name__
        hint = "" if context is None else "; a port that speaks no TLS does so"
        raise HandshakeError(f"{where}: {reason}{hint}", mistake=False) from error


async def _command(where: str, reader: asyncio.StreamReader) -> bytes:
    start = b""
    try:
        start = await reader.readexactly(4)
        if start[:3] == b"HTT":
            raise HandshakeError(f"{where} is a web server, not the port of the binary protocol", mistake=True)
        if start[:2] == b"\x15\x03":
            raise HandshakeError(f"{where} speaks TLS: wrong version number", mistake=True)
        size = int.from_bytes(start, "big")
        if not 4 < size <= _LONGEST:
            raise HandshakeError(f"{where} answers, but is no broker of Pulsar", mistake=True)
        frame = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        text = (
            f"{where} closes the connection without an answer; a port that speaks TLS does so, when TLS is not spoken"
        )
        raise HandshakeError(text, mistake=False) from None
    return frame[4 : 4 + int.from_bytes(frame[:4], "big")]


def _answer(where: str, command: bytes) -> Greeting:
    try:
        fields = dict(_fields(command))
        match fields.get(1):
            case 3:
                connected = dict(_fields(_bytes(fields[_CONNECTED])))
                largest = connected.get(3, 0)
                return Greeting(largest if isinstance(largest, int) else 0)
            case 14:
                error = dict(_fields(_bytes(fields[_ERROR])))
                denial = _DENIALS.get(_number(error.get(2, 0)), "")
                detail = _bytes(error.get(3, b"")).decode(errors="replace")
                return Greeting(denial=denial, detail=detail)
            case 36:
                return Greeting()
            case _:
                pass
    except (IndexError, KeyError, ValueError):
        pass
    raise HandshakeError(f"{where} answers, but is no broker of Pulsar", mistake=True)


def _frame(identity: Identity) -> bytes:
    """`CONNECT`, as protocol buffers have it (PulsarApi.proto): 1 client version, 3 and 5 who, 4 protocol version."""
    connect = _text(1, b"Infinitic") + bytes((4 << 3, _PROTOCOL))
    if identity.method:
        connect += _text(3, identity.data) + _text(5, identity.method.encode())
    command = bytes((1 << 3, _CONNECT)) + _text(_CONNECT, connect)
    return (len(command) + 4).to_bytes(4, "big") + len(command).to_bytes(4, "big") + command


def _text(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: numbers and texts. Raises `IndexError`, `ValueError` for what is none."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while at < len(data):
        tag = varint()
        match tag & 7:
            case 0:
                yield tag >> 3, varint()
            case 2:
                size = varint()
                if at + size > len(data):
                    raise ValueError("it is cut off")
                at += size
                yield tag >> 3, data[at - size : at]
            case kind:
                raise ValueError(f"the wire type {kind} is not used here")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a message in place of a number")
    return value
