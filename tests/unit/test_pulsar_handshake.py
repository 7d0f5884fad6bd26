"""The handshake with a broker: what a broker, another server or nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from infinitic_transports.pulsar.handshake import Greeting, HandshakeError, Identity, greet, parse_addresses

HOST = "127.0.0.1"
CONNECTED = bytes((8, 3, 26)) + bytes((13, 10, 5)) + b"4.2.4" + bytes((16, 19)) + bytes((24, 0x80, 0x80, 4))
DENIED = bytes((8, 14, 114, 10, 8, 1, 16, 3, 26, 4)) + b"who?"


def framed(command: bytes) -> bytes:
    return (len(command) + 4).to_bytes(4, "big") + len(command).to_bytes(4, "big") + command


def meet(answer: bytes | None, identity: Identity = Identity(), heard: list[bytes] | None = None) -> Greeting:  # noqa: B008 (frozen)
    """Greet a server that answers so and closes; None: it says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        frame = await reader.readexactly(size)
        if heard is not None:
            heard.append(frame)
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    return asyncio.run(_with(serve, lambda port: greet(HOST, port, identity, None, 0.5 if answer is None else 5.0)))


async def _with(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    use: Callable[[int], Awaitable[Greeting]],
) -> Greeting:
    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        return await use(server.sockets[0].getsockname()[1])


def test_a_broker_says_what_it_takes() -> None:
    heard: list[bytes] = []
    assert meet(framed(CONNECTED), heard=heard) == Greeting(65_536)
    assert heard == [bytes((0, 0, 0, 17, 8, 2, 18, 13, 10, 9)) + b"Infinitic" + bytes((32, 19))]


def test_who_it_is_is_said() -> None:
    heard: list[bytes] = []
    meet(framed(CONNECTED), Identity("token", b"x" * 300), heard)
    assert b"x" * 300 in heard[0]
    assert bytes((42, 5)) + b"token" in heard[0]


def test_a_denial_has_its_reason() -> None:
    assert meet(framed(DENIED)) == Greeting(denial="AuthenticationError", detail="who?")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is a web server"),
        (bytes((21, 3, 3, 0, 2, 2, 70)), "wrong version number"),
        (b"\xff\xff\xff\xff and more", "not a broker of Pulsar"),
        (framed(b"\x08\x63"), "not a broker of Pulsar"),
        (framed(b"\x08\x03"), "not a broker of Pulsar"),
        (framed(b"\x08"), "not a broker of Pulsar"),
        (framed(bytes((8, 3, 26, 120, 1))), "not a broker of Pulsar"),
        (framed(bytes((11, 3, 26, 0))), "not a broker of Pulsar"),
        (framed(bytes((8, 3, 24, 5))), "not a broker of Pulsar"),
    ],
)
def test_what_is_no_broker_is_a_mistake(answer: bytes, says: str) -> None:
    with pytest.raises(HandshakeError, match=says) as raised:
        meet(answer)
    assert raised.value.permanent


@pytest.mark.parametrize(("answer", "says"), [(b"", "closes the connection"), (None, "does not answer within 0.5 s")])
def test_what_may_pass_is_none(answer: bytes | None, says: str) -> None:
    with pytest.raises(HandshakeError, match=says) as raised:
        meet(answer)
    assert not raised.value.permanent


def test_nothing_listens() -> None:
    with pytest.raises(HandshakeError, match=f"nothing listens at {HOST}:1"):
        asyncio.run(greet(HOST, 1, Identity(), None, 5.0))


def test_the_hosts_of_a_url() -> None:
    assert parse_addresses("pulsar://a:1,b") == [("a", 1), ("b", 6650)]
    assert parse_addresses("pulsar+ssl://[::1]:7,b/") == [("::1", 7), ("b", 6651)]
    with pytest.raises(HandshakeError, match="not a host and port"):
        parse_addresses("pulsar://a:b")
