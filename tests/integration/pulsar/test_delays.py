"""Delayed messages: never early, soon after, and at the end of their key's order."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.clock import Clock, SystemClock
from infinitic.topics import Topic
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import bodies, collect, ephemeral, keyed, message, shared

CLOCK = SystemClock()
LATE = 2.0


@pytest.mark.parametrize("topic", [shared(), keyed()], ids=["shared", "keyed"])
def test_is_never_early_and_blocks_nobody(play: Play, topic: Topic) -> None:
    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 100)
        start = CLOCK.now()
        due = {f"{n}": start + 0.1 + 0.037 * n for n in range(30)}
        await transport.publish(topic, [message(body, "k", at) for body, at in due.items()])
        await transport.publish(topic, [message("now", "k"), message("past", "k", start - 5)])
        assert bodies(await collect(consumer, 2)) == ["now", "past"]
        left = set(due)
        while left:
            deliveries = await consumer.receive(10)
            now = CLOCK.now()
            for body in bodies(deliveries):
                assert due[body] <= now <= due[body] + LATE
                left.remove(body)
            await consumer.ack(deliveries)

    play(test)


def test_waits_while_nobody_is_there(play: Play, settings: PulsarSettings) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        due = CLOCK.now() + 0.5
        async with PulsarTransport(settings) as other:
            await other.declare([topic])
            await other.publish(topic, [message("x", "k", due)])
        assert bodies(await collect(await transport.subscribe(topic, "main", 10), 1)) == ["x"]
        assert CLOCK.now() >= due

    play(test)


def test_a_nack_does_not_apply_the_delay_again(play: Play) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [message("x", None, CLOCK.now() + 0.5)])
        (delivery,) = await consumer.receive(1)
        start = CLOCK.now()
        await consumer.nack(delivery)
        (again,) = await collect(consumer, 1)
        assert again.attempt == 2
        assert CLOCK.now() - start < 0.4

    play(test)


def test_works_for_an_ephemeral_subscription(play: Play) -> None:
    topic = ephemeral()

    async def test(transport: PulsarTransport) -> None:
        consumer = await transport.subscribe(topic, "me", 10, durable=False)
        due = CLOCK.now() + 0.3
        await transport.publish(topic, [message("later", None, due), message("now")])
        assert bodies(await collect(consumer, 2)) == ["now", "later"]
        assert CLOCK.now() >= due

    play(test)


class Behind(Clock):
    def now(self) -> float:
        return SystemClock().now() - 1.0


def test_nothing_is_early_by_the_clock_of_who_receives_it(play: Play, settings: PulsarSettings) -> None:
    """One of two workers is a second behind.

    What the other one moves on time comes a second late to it.
    """
    topic = keyed()

    async def received(transport: PulsarTransport, clock: Clock, due: float, found: list[str]) -> None:
        consumer = await transport.subscribe(topic, "main", 100)
        while True:
            deliveries = await consumer.receive(100)
            assert clock.now() >= due
            found += bodies(deliveries)
            await consumer.ack(deliveries)

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        async with PulsarTransport(settings, clock=Behind()) as behind:
            due = SystemClock().now() + 1.0
            here, there = list[str](), list[str]()
            running = [
                asyncio.create_task(received(transport, SystemClock(), due, here)),
                asyncio.create_task(received(behind, Behind(), due, there)),
            ]
            await transport.publish(topic, [message(n, f"key {n}", due) for n in range(40)])
            while len(here) + len(there) < 40:
                done, _ = await asyncio.wait(running, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                assert not done, [task.exception() for task in done]
            assert here
            assert there
            for task in running:
                task.cancel()

    play(test)
