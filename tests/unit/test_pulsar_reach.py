"""The first connection to the brokers, with servers of the test's own."""

from __future__ import annotations

import asyncio
import ssl

from infinitic_transports.pulsar import PulsarSettings
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.handshake import Greeting, Identity
from infinitic_transports.pulsar.names import Names
from infinitic_transports.pulsar.reach import Reach
from tests.unit.test_pulsar_handshake import CONNECTED, HOST, framed


class Rest(Admin):
    """REST that always answers."""

    async def get_version(self) -> str:
        return "4.2.4"

    async def make_identity(self, *, tls: bool) -> tuple[Identity, ssl.SSLContext | None]:
        return Identity(), None


def greet_after(silent: int) -> tuple[Greeting, int]:
    """Greet a broker that leaves the first connections without an answer.

    Args:
        silent: how many.

    Returns:
        What it answered, and how often it was asked.
    """
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked > silent:
            writer.write(framed(CONNECTED))
        else:
            await reader.read()
        writer.close()

    async def play() -> Greeting:
        async with await asyncio.start_server(serve, HOST, 0) as server:
            settings = PulsarSettings.model_validate(
                {
                    "broker_service_url": f"pulsar://{HOST}:{server.sockets[0].getsockname()[1]}",
                    "web_service_url": f"http://{HOST}:1",
                    "client": {"connection_timeout_seconds": 2.1},
                }
            )
            return await Reach(settings, Rest(settings, Names("shop", "test"), 1.0)).greet()

    return asyncio.run(play()), asked


def test_a_broker_that_answers_later_than_rest_is_no_mistake() -> None:
    """It stood still for longer than one connection waits, when the worker started."""
    assert greet_after(1) == (Greeting(65_536), 2)
