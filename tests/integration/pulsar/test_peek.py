"""Looking at messages of a topic with partitions, and of one with many messages."""

from __future__ import annotations

from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import collect, keyed, message, shared


def test_all_partitions_are_looked_at(play: Play, settings: PulsarSettings) -> None:
    topic = shared()

    async def test(_: PulsarTransport) -> None:
        parted = settings.model_copy(update={"partitions": 3})
        async with PulsarTransport(parted) as transport:
            await transport.declare([topic])
            sent = [f"{number}" for number in range(12)]
            for each in sent:
                await transport.publish(topic, [message(each)])
            seen = await transport.peek(topic, "main", 100)
            assert [each.message.body.decode() for each in seen] == sent, "in the order of publishing"
            assert len(await transport.peek(topic, "main", 5)) == 5
            consumer = await transport.subscribe(topic, "main", 100)
            got = await collect(consumer, 12, ack=False)
            await consumer.ack([each for each in got if int(each.message.body) % 3 == 0])
            await consumer.close()
            left = [each.message.body.decode() for each in await transport.peek(topic, "main", 100)]
            assert left == [each for each in sent if int(each) % 3]

    play(test)


def test_a_long_backlog(play: Play) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message(f"{number}") for number in range(1000)])
        seen = await transport.peek(topic, "main", 10_000)
        assert [each.message.body.decode() for each in seen] == [f"{number}" for number in range(1000)]

    play(test)


def test_all_messages_of_a_batch_are_shown(play: Play) -> None:
    """Also of the last one. The letters of one parked instance are published together."""
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message(f"{number}", key="a") for number in range(20)])
        seen = await transport.peek(topic, "main", 100)
        assert [each.message.body.decode() for each in seen] == [f"{number}" for number in range(20)]
        assert len(await transport.peek(topic, "main", 7)) == 7

    play(test)
