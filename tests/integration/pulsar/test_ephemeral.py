"""Ephemeral subscriptions: what comes while they last, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.transport import UnknownTopic
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import bodies, collect, ephemeral, keyed, message, until


def test_vanishes_with_the_one_whose_name_it_has(play: Play, settings: PulsarSettings) -> None:
    topic = ephemeral()
    name = topic.name.partition(":")[2]

    async def test(transport: PulsarTransport) -> None:
        async with PulsarTransport(settings) as other:
            consumer = await other.subscribe(topic, name, 10, durable=False)
            await transport.publish(topic, [message(n, f"k{n}") for n in range(20)])
            assert sorted(map(int, bodies(await collect(consumer, 20)))) == list(range(20))
        async with asyncio.timeout(8):
            with pytest.raises(UnknownTopic):
                await transport.publish(topic, [message("late")])
            with pytest.raises(UnknownTopic):
                await transport.publish(topic, [message("later")])
        assert (await transport.stats(topic)).subscriptions == {}
        consumer = await transport.subscribe(topic, name, 10, durable=False)
        await transport.publish(topic, [message("new")])
        assert bodies(await collect(consumer, 1)) == ["new"]

    play(test)


def test_sees_all_from_its_start_beside_the_main_subscription(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message("before", "k")])
        watchers = [await transport.subscribe(topic, "watch", 10, durable=False) for _ in range(2)]
        await transport.publish(topic, [message("x", "k"), message("y", "l")])
        for watcher in watchers:
            assert sorted(bodies(await collect(watcher, 2))) == ["x", "y"]
            await watcher.close()

        async def alone() -> bool:  # the broker forgets a reader a moment after it has left
            return set((await transport.stats(topic)).subscriptions) == {"main"}

        await until(alone)
        assert len(await collect(await transport.subscribe(topic, "main", 10), 3)) == 3

    play(test)


def test_who_joins_a_topic_of_many_while_its_last_reader_leaves_misses_nothing(
    play: Play, settings: PulsarSettings
) -> None:
    """A race: at thirty moments. Somebody publishes there all the time."""

    async def test(transport: PulsarTransport) -> None:
        for moment in range(30):
            topic = ephemeral()
            leaving = await transport.subscribe(topic, "a worker", 10, durable=False)
            await transport.publish(topic, [message("before")])
            closing = asyncio.create_task(leaving.close())
            await asyncio.sleep(moment * 0.001)
            joining = await transport.subscribe(topic, "another", 10, durable=False)
            await transport.publish(topic, [message("x")])
            assert bodies(await collect(joining, 1)) == ["x"]
            await closing
            await transport.publish(topic, [message("y")])
            assert bodies(await collect(joining, 1)) == ["y"]
            await joining.close()

    play(test)
