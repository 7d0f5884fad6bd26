"""The first exchange of Pulsar's binary protocol: does a broker listen at an address?

The client library tries to connect for half a minute before it reports anything. This asks once,
and says at once what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

_CONNECT, _CONNECTED, _ERROR = 2, 3, 14
"""Numbers of fields. Those of the last two are also the types of the commands."""

_PROTOCOL = 19
_LONGEST = 64 * 1024
"""Bytes that an answer to `CONNECT` may have. A longer one does not come from a broker."""

_DENIALS = {3: "AuthenticationError", 4: "AuthorizationError"}


class Identity(NamedTuple):
    """The credentials to connect with: the name of a method of Pulsar, and its data."""

    method: str = ""
    data: bytes = b""


class Greeting(NamedTuple):
    """What a broker answered.

    Attributes:
        max_message_size: bytes of a message that it takes; 0 if it does not say.
        denial: why it refuses this client, as a name of the client library; empty if it does not.
        detail: what the broker says about the denial.
    """

    max_message_size: int = 0
    denial: str = ""
    detail: str = ""


class HandshakeError(Exception):
    """No broker can be reached at an address. The text says why.

    Args:
        text: what is wrong.
        permanent: whether waiting does not help.
    """

    def __init__(self, text: str, *, permanent: bool) -> None:
        super().__init__(text)
        self.permanent = permanent


def parse_addresses(url: str) -> list[tuple[str, int]]:
    """The hosts and ports of a service URL, which may name several.

    Raises:
        HandshakeError: the URL cannot be parsed.
    """
    scheme, _, rest = url.partition("://")
    default = 6651 if scheme == "pulsar+ssl" else 6650
    found: list[tuple[str, int]] = []
    for each in rest.partition("/")[0].split(","):
        try:
            parts = urlsplit(f"//{each}")
            found.append((parts.hostname or "", parts.port or default))
        except ValueError as error:
            raise HandshakeError(f"{each!r} is not a host and port ({error})", permanent=True) from error
    return found


async def greet(host: str, port: int, identity: Identity, context: ssl.SSLContext | None, seconds: float) -> Greeting:
    """Connect, send the credentials, and leave.

    Args:
        host: the host of a broker.
        port: its binary port.
        identity: the credentials.
        context: for TLS; None connects without.
        seconds: how long an answer may take.

    Raises:
        HandshakeError: nothing answers in time, or what answers is not a broker. The words of
            OpenSSL are kept, because `errors.advise_connection` knows them.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(seconds):
            name = host if context is not None else None
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            try:
                writer.write(_encode_connect(identity))
                return _parse_answer(where, await _read_command(where, reader))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise HandshakeError(f"{where} does not answer within {seconds:g} s", permanent=False) from None
    except ssl.SSLError as error:
        raise HandshakeError(f"{where}: {error}", permanent=True) from error
    except ConnectionRefusedError as error:
        raise HandshakeError(f"nothing listens at {where}", permanent=False) from error
    except OSError as error:
        reason = str(error.strerror or error) or type(error).__name__
        hint = "" if context is None else ", as a port without TLS does"
        raise HandshakeError(f"{where}: {reason}{hint}", permanent=False) from error


async def _read_command(where: str, reader: asyncio.StreamReader) -> bytes:
    start = b""
    try:
        start = await reader.readexactly(4)
        if start[:3] == b"HTT":
            raise HandshakeError(f"{where} is a web server, not the port of the binary protocol", permanent=True)
        if start[:2] == b"\x15\x03":
            raise HandshakeError(f"{where} speaks TLS: wrong version number", permanent=True)
        size = int.from_bytes(start, "big")
        if not 4 < size <= _LONGEST:
            raise HandshakeError(f"{where} answers, but is not a broker of Pulsar", permanent=True)
        frame = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        text = f"{where} closes the connection without an answer, as a port for TLS does if it is used without TLS"
        raise HandshakeError(text, permanent=False) from None
    return frame[4 : 4 + int.from_bytes(frame[:4], "big")]


def _parse_answer(where: str, command: bytes) -> Greeting:
    try:
        fields = dict(_decode_fields(command))
        match fields.get(1):
            case 3:
                connected = dict(_decode_fields(_expect_bytes(fields[_CONNECTED])))
                largest = connected.get(3, 0)
                return Greeting(largest if isinstance(largest, int) else 0)
            case 14:
                error = dict(_decode_fields(_expect_bytes(fields[_ERROR])))
                denial = _DENIALS.get(_expect_number(error.get(2, 0)), "")
                detail = _expect_bytes(error.get(3, b"")).decode(errors="replace")
                return Greeting(denial=denial, detail=detail)
            case 36:
                return Greeting()
            case _:
                pass
    except (IndexError, KeyError, ValueError):
        pass
    raise HandshakeError(f"{where} answers, but is not a broker of Pulsar", permanent=True)


def _encode_connect(identity: Identity) -> bytes:
    """Encode `CONNECT` as a protocol buffer (PulsarApi.proto).

    Its fields are 1 client version, 3 and 5 credentials, 4 protocol version.
    """
    connect = _encode_bytes(1, b"Infinitic") + bytes((4 << 3, _PROTOCOL))
    if identity.method:
        connect += _encode_bytes(3, identity.data) + _encode_bytes(5, identity.method.encode())
    command = bytes((1 << 3, _CONNECT)) + _encode_bytes(_CONNECT, connect)
    return (len(command) + 4).to_bytes(4, "big") + len(command).to_bytes(4, "big") + command


def _encode_bytes(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _encode_varint(len(value)) + value


def _encode_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _decode_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: numbers and bytes.

    Raises:
        IndexError, ValueError: the data is not a protocol buffer.
    """
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


def _expect_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def _expect_number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a message in place of a number")
    return value
