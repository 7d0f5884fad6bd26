"""Clients that are cut off: by an unloaded or removed topic, a frozen broker, a dead process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from infinitic.clock import SystemClock
from infinitic.errors import TransportError, UsageError
from infinitic.topics import Topic
from infinitic.transport import Transport, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport, watch
from infinitic_transports.pulsar.names import Names, derive_delayed_topic
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import bodies, collect, ephemeral, keyed, message, shared
from tests.integration.pulsar.secured import Secured

ROOT = Path(__file__).parents[3]

UNCLOSED = """\
import asyncio
import sys
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.helpers import keyed, message

kept = []

async def main():
    transport = PulsarTransport(PulsarSettings.model_validate_json(sys.argv[1]))
    kept.append(transport)
    topic = keyed()
    await transport.declare([topic])
    consumer = await transport.subscribe(topic, "main", 100)

    async def spin():
        while True:
            await transport.publish(topic, [message(n, "k") for n in range(50)])

    for _ in range(20):
        kept.append(asyncio.create_task(spin()))
    for _ in range(20):
        await consumer.ack(await consumer.receive(100))

asyncio.run(main())
print("the end")
"""


READER = """\
import asyncio
import sys
from infinitic.topics import Ordering, Topic
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport

async def main():
    async with asyncio.timeout(60), PulsarTransport(PulsarSettings.model_validate_json(sys.argv[1])) as transport:
        reader = await transport.subscribe(Topic(sys.argv[2], Ordering.SHARED, None), "me", 10, durable=False)
        print("ready", flush=True)
        print((await reader.receive(1))[0].message.body.decode(), flush=True)

asyncio.run(main())
"""


def rest(settings: PulsarSettings, method: str, topic: Topic, what: str) -> None:
    """Do something to a topic."""
    path = Names(settings.tenant, settings.namespace).path(topic)
    httpx.request(method, f"{settings.web_service_url}/admin/v2/{path}{what}").raise_for_status()


async def insisted(transport: Transport, topic: Topic) -> None:
    """Publish "x" until the broker accepts it; the test's own timeout bounds this."""
    while True:
        try:
            await transport.publish(topic, [message("x")])
        except TransportError:
            await asyncio.sleep(0.05)
        else:
            return


def test_a_reader_that_has_received_nothing_misses_nothing(play: Play, settings: PulsarSettings) -> None:
    """Its process sleeps while its topic moves to another broker and the first message comes."""
    topic = ephemeral()
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", READER, settings.model_dump_json(), topic.name]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        try:
            assert reader.stdout.readline() == "ready\n"

            async def test(transport: PulsarTransport) -> None:
                reader.send_signal(signal.SIGSTOP)
                rest(settings, "PUT", topic, "/unload")
                await insisted(transport, topic)
                reader.send_signal(signal.SIGCONT)

            play(test)
            assert reader.stdout.readline() == "x\n"
        finally:
            reader.kill()


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.1)


@pytest.mark.usefixtures("watchful")
@pytest.mark.parametrize("make", [shared, keyed])
@pytest.mark.parametrize("what", ["topic", "subscription"])
def test_a_consumer_is_told_that_its_topic_or_subscription_is_gone(
    play: Play, settings: PulsarSettings, make: Callable[[], Topic], what: str
) -> None:
    """It does not wait for ever.

    Declared and joined again with the same transport, all is as before.
    """
    topic = make()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        waiting = asyncio.create_task(consumer.receive(10))
        await asyncio.sleep(0)
        rest(settings, "DELETE", topic, "?force=true" if what == "topic" else "/subscription/main?force=true")
        for receiving in (waiting, consumer.receive(10)):
            with pytest.raises(UnknownTopic, match=f"The {what} .* is gone"):
                await receiving
        await consumer.close()
        await transport.declare([topic])
        again = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [message("x", "k")])
        assert bodies(await collect(again, 1)) == ["x"]

    play(test)


@pytest.mark.usefixtures("watchful")
def test_who_has_all_it_may_have_in_hand_is_told_as_well(play: Play, settings: PulsarSettings) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 1)
        await transport.publish(topic, [message("x")])
        in_hand = await collect(consumer, 1, ack=False)
        rest(settings, "DELETE", topic, "?force=true")
        with pytest.raises(UnknownTopic):
            await consumer.receive(10)
        await consumer.ack(in_hand)
        await consumer.close()

    play(test)


@pytest.mark.usefixtures("watchful")
def test_what_is_published_to_a_topic_that_was_removed_makes_it_anew(play: Play, settings: PulsarSettings) -> None:
    """Soon, for who had not published there before; in its own time for who had."""
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        rest(settings, "DELETE", topic, "?force=true")
        await transport.publish(topic, [message("x", "k")])
        consumer = await transport.subscribe(topic, "main", 10)
        assert bodies(await collect(consumer, 1)) == ["x"]

    play(test)


@pytest.mark.usefixtures("watchful")
def test_delayed_messages_go_on_after_their_topic_was_removed(play: Play, settings: PulsarSettings) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        rest(settings, "DELETE", derive_delayed_topic(topic), "?force=true")
        await transport.publish(topic, [message("x", "k", SystemClock().now() + 0.3)])
        assert bodies(await collect(consumer, 1)) == ["x"]

    play(test)


@pytest.mark.usefixtures("watchful")
def test_a_consumer_that_the_broker_keeps_out_is_given_up(
    play: Play, settings: PulsarSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy shuts it out: its topic is there, and it gets nothing. Joining again says why."""
    monkeypatch.setattr(watch, "LOST_SECONDS", 0.5)
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.admin.set_policy("subscriptionTypesEnabled", ["Exclusive"])
        try:
            rest(settings, "PUT", topic, "/unload")
            with pytest.raises(TransportClosed, match=r"has been cut off for .* although its topic exists"):
                await consumer.receive(10)
            with pytest.raises(TransportError) as raised:
                await transport.subscribe(topic, "main", 10)
            assert "NotAllowed" in str(raised.value)
            assert not isinstance(raised.value, TransportUnavailable | TransportClosed)
        finally:
            await transport.admin.set_policy("subscriptionTypesEnabled", ["Shared", "Key_Shared", "Exclusive"])

    play(test)


def test_a_topic_that_was_terminated_says_so(play: Play, settings: PulsarSettings) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message("x")])
        rest(settings, "POST", topic, "/terminate")
        with pytest.raises(UnknownTopic, match="somebody ended it permanently"):
            await transport.publish(topic, [message("x")])

    play(test)


def test_a_removed_topic_of_a_reader_is_made_again(
    play: Play, settings: PulsarSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.1)
    topic = ephemeral()

    async def test(transport: PulsarTransport) -> None:
        reader = await transport.subscribe(topic, "me", 10, durable=False)
        async with PulsarTransport(settings) as other:
            await other.publish(topic, [message("before")])
            assert bodies(await collect(reader, 1)) == ["before"]
            rest(settings, "DELETE", topic, "?force=true")
            await insisted(other, topic)
        assert bodies(await collect(reader, 1)) == ["x"]

    play(test)


def test_a_broker_that_is_frozen_is_left_within_seconds(secured: Secured) -> None:
    async def test() -> None:
        transport = PulsarTransport(secured.settings(client={"operation_timeout_seconds": 60}))
        topics = [keyed(), shared(), ephemeral()]
        await transport.declare(topics)
        for topic in topics:
            await transport.subscribe(topic, "main", 10, durable=topic.subscription is not None)
            await transport.publish(topic, [message("x", "k")])
        with secured.server.frozen():
            async with asyncio.timeout(20):
                await transport.close()
            with pytest.raises(TransportError):
                await transport.declare([shared()])

    asyncio.run(test())


def test_a_process_that_ends_without_close_does_so_in_peace(settings: PulsarSettings) -> None:
    """The library calls back from its threads while the interpreter ends.

    Three times, as it is a race.
    """
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", UNCLOSED, settings.model_dump_json()]
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr


def test_belongs_to_one_event_loop(settings: PulsarSettings) -> None:
    transport = PulsarTransport(settings)

    async def here() -> None:
        with pytest.raises(UsageError, match="prefetch"):
            await transport.subscribe(shared(), "main", 0)

    asyncio.run(here())

    async def elsewhere() -> None:
        with pytest.raises(UsageError, match="belongs to the event loop that first used it"):
            await transport.publish(shared(), [message("x")])

    asyncio.run(elsewhere())


@pytest.mark.parametrize("what", ["join", "read", "publish", "declare"])
def test_what_is_under_way_when_it_is_closed_ends(settings: PulsarSettings, what: str) -> None:
    """It is done, or is told that the transport is closed. Nothing goes on afterwards.

    As it is a race, it is tried at twenty moments.
    """

    async def attempt(transport: PulsarTransport, topic: Topic) -> None:
        match what:
            case "join":
                await transport.subscribe(topic, "main", 10)
            case "read":
                await transport.subscribe(ephemeral(), "me", 10, durable=False)
            case "publish":
                await transport.publish(topic, [message("x", "k")])
            case _:
                await transport.declare([keyed()])

    async def test() -> None:
        topic = keyed()
        for moment in range(20):
            transport = PulsarTransport(settings)
            await transport.declare([topic])
            trying = asyncio.create_task(attempt(transport, topic))
            await asyncio.sleep(moment * 0.003)
            await transport.close()
            async with asyncio.timeout(5):
                await asyncio.wait({trying})
            assert trying.cancelled() is False
            assert isinstance(trying.exception(), TransportClosed | None)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(test())
