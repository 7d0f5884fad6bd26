"""The first connection: within seconds it works, or one error says what to correct."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from infinitic.diagnosis import Level
from infinitic.errors import TransportError
from infinitic.ids import new_id
from infinitic.transport import MessageTooLarge, TransportUnavailable
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import collect, ephemeral, keyed, message, shared
from tests.integration.pulsar.secured import Secured

SECONDS = 20.0
"""Far below the half minute after which the library gives up."""


async def attempt(transport: PulsarTransport, what: str) -> None:
    match what:
        case "publish":
            await transport.publish(shared(), [message("x")])
        case "read":
            await transport.subscribe(ephemeral(), "me", 10, durable=False)
        case _:
            topic = keyed()
            await transport.declare([topic])
            await transport.subscribe(topic, "main", 10)


def first_error(settings: PulsarSettings, what: str) -> TransportError:
    async def test() -> TransportError:
        async with PulsarTransport(settings) as transport, asyncio.timeout(SECONDS):
            with pytest.raises(TransportError) as raised:
                await attempt(transport, what)
            return raised.value

    return asyncio.run(test())


def at(settings: PulsarSettings, url: str, **more: Any) -> PulsarSettings:
    return PulsarSettings.model_validate(settings.model_dump() | {"broker_service_url": url} | more)


@pytest.mark.parametrize("what", ["publish", "read", "join"])
def test_a_wrong_broker_port_is_a_mistake_where_rest_answers(settings: PulsarSettings, what: str) -> None:
    error = first_error(at(settings, "pulsar://127.0.0.1:1"), what)
    assert not isinstance(error, TransportUnavailable)
    text = str(error)
    assert "pulsar://127.0.0.1:1: nothing listens at 127.0.0.1:1, while REST answers at " in text
    assert settings.web_service_url in text
    assert "correct the host or the port of broker_service_url" in text
    assert "\n" not in text


def test_the_web_port_as_broker_port(settings: PulsarSettings) -> None:
    error = first_error(at(settings, settings.web_service_url.replace("http", "pulsar")), "publish")
    assert not isinstance(error, TransportUnavailable)
    assert "is a web server, not the port of the binary protocol: correct broker_service_url" in str(error)


def test_tls_where_there_is_none(settings: PulsarSettings) -> None:
    error = first_error(at(settings, settings.broker_service_url.replace("pulsar:", "pulsar+ssl:")), "publish")
    assert not isinstance(error, TransportUnavailable)
    assert "TLS" in str(error)


def test_a_host_that_is_none(settings: PulsarSettings) -> None:
    error = first_error(at(settings, "pulsar://no.host.invalid:6650"), "publish")
    assert not isinstance(error, TransportUnavailable)
    assert "there is no such host: correct the URL" in str(error)


def test_a_port_that_says_nothing(settings: PulsarSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = first_error(at(settings, f"pulsar://127.0.0.1:{silent.getsockname()[1]}"), "publish")
    assert not isinstance(error, TransportUnavailable)
    assert "does not answer within 5 s, while REST answers" in str(error)


def test_where_nothing_answers_waiting_may_help(settings: PulsarSettings) -> None:
    error = first_error(at(settings, "pulsar://127.0.0.1:1", web_service_url="http://127.0.0.1:1"), "publish")
    assert isinstance(error, TransportUnavailable)
    assert "nothing listens at 127.0.0.1:1; check broker_service_url, and whether the broker is up" in str(error)


def test_the_second_of_two_brokers_is_enough(settings: PulsarSettings, play: Play) -> None:
    there = urlsplit(settings.broker_service_url).netloc

    async def test(transport: PulsarTransport) -> None:
        topic = shared()
        await transport.declare([topic])
        async with PulsarTransport(at(settings, f"pulsar://127.0.0.1:1,{there}")) as other:
            consumer = await other.subscribe(topic, "main", 10)
            await other.publish(topic, [message("x")])
            await collect(consumer, 1)

    play(test)


def test_who_does_not_reach_the_broker_leaves_nothing_behind(settings: PulsarSettings) -> None:
    new = at(settings, "pulsar://127.0.0.1:1", namespace=f"test-{new_id()[:12]}")
    assert "nothing listens" in str(first_error(new, "read"))

    async def test() -> None:
        async with PulsarTransport(new) as transport:
            assert (await transport.admin.get(transport.admin.where, ok=(200, 404))).status_code == 404

    asyncio.run(test())


@pytest.mark.parametrize("port", ["1", "web"])
def test_doctor_looks_at_the_broker_port(settings: PulsarSettings, port: str) -> None:
    number = 1 if port == "1" else urlsplit(settings.web_service_url).port

    async def test() -> None:
        async with PulsarTransport(at(settings, f"pulsar://127.0.0.1:{number}")) as transport:
            async with asyncio.timeout(SECONDS):
                found = {each.subject: each for each in await transport.diagnose()}
            assert found["broker port"].level is Level.FAILURE
            assert f"127.0.0.1:{number}" in found["broker port"].message
            assert "broker_service_url" in found["broker port"].remedy

    asyncio.run(test())


def test_the_limit_of_the_broker_is_the_limit(secured: Secured) -> None:
    """It takes less than the settings say, as `secured` does."""

    async def test() -> None:
        async with asyncio.timeout(60), PulsarTransport(secured.settings()) as transport:
            topic = keyed()
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 10)
            largest = transport.capabilities.max_payload
            assert secured.max_message_size * 3 // 4 <= largest < secured.max_message_size
            with pytest.raises(MessageTooLarge) as raised:
                await transport.publish(topic, [message("x" * (largest + 1), "k")])
            assert raised.value.limit == largest
            await transport.publish(topic, [message("x" * largest, "k") for _ in range(3)])
            assert [len(each.message.body) for each in await collect(consumer, 3)] == [largest] * 3
            found = {each.subject: each for each in await transport.diagnose()}
            assert found["maxMessageSize"].level is Level.WARNING
            assert f"{secured.max_message_size:,} is less than" in found["maxMessageSize"].message

    asyncio.run(test())
