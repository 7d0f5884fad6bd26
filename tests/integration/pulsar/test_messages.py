"""Publishing, receiving, settling: what the contract says, on a real broker."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from infinitic.clock import SystemClock
from infinitic.errors import TransportError, UsageError
from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message, MessageTooLarge, TransportClosed, UnknownTopic
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from infinitic_transports.pulsar.library import load_module
from infinitic_transports.pulsar.names import Names, derive_delayed_topic
from tests.integration.pulsar.conftest import BROKER, Play
from tests.integration.pulsar.helpers import bodies, collect, ephemeral, keyed, message, nothing, shared, until


@pytest.mark.parametrize("topic", [shared(), keyed()], ids=["shared", "keyed"])
def test_a_message_arrives_as_it_was(play: Play, topic: Topic) -> None:
    sent = [
        Message(new_id(), "ключ-é-é\0", bytes(range(256)), {f"header-{n}": "значение" for n in range(100)}),
        Message(new_id(), "", b""),
        Message(new_id(), None, b"x"),
    ]

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, sent)
        consumer = await transport.subscribe(topic, "main", 10)
        found = await collect(consumer, 3)
        by_id = {each.message.id: each.message for each in found}
        assert by_id == {each.id: each for each in sent}
        assert {each.attempt for each in found} == {1}

    play(test)


def test_declaring_twice_is_the_same(play: Play, settings: PulsarSettings) -> None:
    topic = Topic(f"a/b c?d%2F{new_id()}-partition-3", Ordering.KEYED, "main")

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic, topic])
        async with PulsarTransport(settings) as other:
            await other.declare([topic])
            await other.publish(topic, [message("x", "k")])
        assert bodies(await collect(await transport.subscribe(topic, "main", 10), 1)) == ["x"]

    play(test)


def test_what_is_acknowledged_does_not_come_again_and_the_rest_does(play: Play, settings: PulsarSettings) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message(n, "k") for n in range(10)])
        async with PulsarTransport(settings) as other:
            consumer = await other.subscribe(topic, "main", 10)
            found = await collect(consumer, 10, ack=False)
            await consumer.ack(found[:4])
            await consumer.ack(found[:4])
        again = await collect(await transport.subscribe(topic, "main", 10), 6)
        assert bodies(again) == [str(n) for n in range(4, 10)]

    play(test)


def test_keys_keep_their_order_over_two_consumers(play: Play, settings: PulsarSettings) -> None:
    topic, keys, rounds = keyed(), 40, 25

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        seen: dict[str, list[int]] = {}
        holders: dict[str, set[int]] = {}

        async def consume(number: int, of: PulsarTransport) -> None:
            consumer = await of.subscribe(topic, "main", 50)
            while sum(map(len, seen.values())) < keys * rounds:
                try:
                    async with asyncio.timeout(0.2):
                        deliveries = await consumer.receive(10)
                except TimeoutError:
                    continue
                for delivery in deliveries:
                    assert delivery.message.key is not None
                    seen.setdefault(delivery.message.key, []).append(int(delivery.message.body))
                    holders.setdefault(delivery.message.key, set()).add(number)
                await consumer.ack(deliveries)

        async with PulsarTransport(settings) as other, asyncio.TaskGroup() as group:
            group.create_task(consume(0, transport))
            group.create_task(consume(1, other))
            for n in range(rounds):
                await transport.publish(topic, [message(n, f"key-{key}") for key in range(keys)])
        assert seen == {f"key-{key}": list(range(rounds)) for key in range(keys)}
        assert set().union(*holders.values()) == {0, 1}

    play(test)


def test_messages_without_a_key_are_spread(play: Play, settings: PulsarSettings) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        async with PulsarTransport(settings) as other:
            consumers = [await each.subscribe(topic, "main", 100) for each in (transport, other)]
            await transport.publish(topic, [message(n) for n in range(40)])
            counts = [0, 0]

            async def take(number: int) -> None:
                while sum(counts) < 40:
                    try:
                        async with asyncio.timeout(0.2):
                            deliveries = await consumers[number].receive(100)
                    except TimeoutError:
                        continue
                    counts[number] += len(deliveries)
                    await consumers[number].ack(deliveries)

            await asyncio.gather(take(0), take(1))
            assert all(counts)

    play(test)


def test_a_nacked_message_comes_before_later_ones_of_its_key_and_blocks_no_other(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 3)
        await transport.publish(topic, [message(f"a{n}", "a") for n in range(6)])
        first = await collect(consumer, 3, ack=False)
        await consumer.nack(first[1], 0.3)
        await consumer.nack(first[0], 0.5)
        await consumer.nack(first[0])
        await transport.publish(topic, [message("b0", "b")])
        await consumer.ack(first[2:])
        assert bodies(await collect(consumer, 1)) == ["b0"]
        found = await collect(consumer, 5)
        assert bodies(found) == ["a0", "a1", "a3", "a4", "a5"]
        assert [each.attempt for each in found] == [2, 2, 1, 1, 1]

    play(test)


def test_a_nacked_message_of_a_shared_topic_comes_again_after_its_delay(play: Play) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 1)
        await transport.publish(topic, [message("x"), message("y")])
        loop = asyncio.get_running_loop()
        attempts = list[int]()
        start = loop.time()
        for _ in range(4):
            (delivery,) = await consumer.receive(1)
            if delivery.message.body == b"y":
                await consumer.ack([delivery])
                continue
            attempts.append(delivery.attempt)
            await consumer.nack(delivery, 0.2)
        assert attempts == [1, 2, 3]
        assert loop.time() - start >= 0.4

    play(test)


def test_no_more_is_in_hand_than_the_prefetch(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        await transport.publish(topic, [message(n, f"k{n % 3}") for n in range(30)])
        consumer = await transport.subscribe(topic, "main", 5)
        held = await collect(consumer, 5, ack=False)
        await nothing(consumer, 0.3)
        await consumer.ack(held[:1])
        await collect(consumer, 1, ack=False)
        await nothing(consumer, 0.3)

    play(test)


def test_a_cancelled_receive_loses_nothing(play: Play) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 100)
        await nothing(consumer, 0.05)
        receiving = asyncio.create_task(consumer.receive(10))
        await asyncio.sleep(0)
        await transport.publish(topic, [message("x")])
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        if receiving.cancelled():
            assert bodies(await collect(consumer, 1)) == ["x"]

    play(test)


def test_more_than_may_be_under_way_is_published_in_order(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        publishing = [transport.publish(topic, [message(n, f"k{k}") for n in range(900)]) for k in range(5)]
        await asyncio.gather(*publishing)
        found = await collect(await transport.subscribe(topic, "main", 5000), 4500)
        for k in range(5):
            assert [int(each.message.body) for each in found if each.message.key == f"k{k}"] == list(range(900))

    play(test)


def test_a_topic_that_was_never_declared_is_unknown(play: Play) -> None:
    async def test(transport: PulsarTransport) -> None:
        await transport.declare([shared()])
        for topic in (shared(), keyed(), ephemeral()):
            with pytest.raises(UnknownTopic):
                await transport.publish(topic, [message("x", "k")])
        with pytest.raises(UnknownTopic):
            await transport.subscribe(shared(), "main", 10)
        assert (await transport.stats(shared())).subscriptions == {}

    play(test)


def test_the_largest_message_passes_and_a_larger_one_is_refused(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        largest = transport.capabilities.max_payload
        await transport.declare([topic])
        with pytest.raises(MessageTooLarge):
            await transport.publish(topic, [message("first", "k"), Message("big", "k", bytes(largest + 1))])
        body = bytes(range(256)) * (largest // 256)
        await transport.publish(topic, [Message("big", "k", body)])
        (found,) = await collect(await transport.subscribe(topic, "main", 10), 1)
        assert found.message.body == body

    play(test)


def test_two_subscriptions_each_get_all(play: Play) -> None:
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumers = [await transport.subscribe(topic, name, 10) for name in ("main", "audit/1")]
        await transport.publish(topic, [message("x"), message("y")])
        for consumer in consumers:
            assert sorted(bodies(await collect(consumer, 2))) == ["x", "y"]

    play(test)


def test_what_is_in_hand_comes_to_another_when_its_consumer_closes(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        first = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [message(n, "k") for n in range(5)])
        held = await collect(first, 3, ack=False)
        second = await transport.subscribe(topic, "main", 10)
        await first.close()
        await first.close()
        with pytest.raises(TransportClosed):
            await first.ack(held)
        with pytest.raises(TransportClosed):
            await first.receive(1)
        assert bodies(await collect(second, 5)) == ["0", "1", "2", "3", "4"]

    play(test)


def test_a_lost_connection_loses_and_repeats_nothing(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [message(n, "k") for n in range(5)])
        held = await collect(consumer, 3, ack=False)
        await transport.admin.unload(topic)
        await transport.publish(topic, [message(n, "k") for n in range(5, 10)])
        await consumer.ack(held)
        assert bodies(await collect(consumer, 7)) == [str(n) for n in range(3, 10)]

    play(test)


def test_closing_is_idempotent_and_leaves_nothing_running(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [message("x", "k"), message("y", "k", 4e9)])
        receiving = asyncio.create_task(consumer.receive(1))
        await receiving
        receiving = asyncio.create_task(consumer.receive(1))
        await asyncio.gather(transport.close(), transport.close())
        await transport.close()
        with pytest.raises(TransportClosed):
            await receiving
        for call in (transport.declare([topic]), transport.publish(topic, []), transport.stats(topic)):
            with pytest.raises(TransportClosed):
                await call
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(test)
    assert not [thread for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_counts_what_waits_is_in_hand_and_is_not_due(play: Play) -> None:
    async def test(transport: PulsarTransport) -> None:
        for topic in (shared(), keyed()):
            await transport.declare([topic])
            for n in range(4):
                await transport.publish(topic, [message(n, f"k{n}")])
            await transport.publish(topic, [message("later", "k", 4e9)])
            consumer = await transport.subscribe(topic, "main", 40)
            await collect(consumer, 1)

            async def counted(topic: Topic = topic) -> bool:
                figures = (await transport.stats(topic)).subscriptions["main"]
                return figures.backlog + figures.unacked == 3 and figures.delayed == 1 and figures.consumers == 1

            await until(counted)
            await consumer.close()

    play(test)


def test_what_is_no_message_is_refused_before_anything_is_sent(play: Play) -> None:
    topic = keyed()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        for wrong in (
            message("x", "k", math.nan),
            message("x", "k", math.inf),
            message("x", "\ud800"),
            Message("\ud800", "k", b"x"),
            Message("x", "k", b"x", {"name": "\ud800"}),
        ):
            with pytest.raises(UsageError, match=topic.name):
                await transport.publish(topic, [message("good", "k"), wrong])
        with pytest.raises(MessageTooLarge):
            await transport.publish(topic, [message("good", "k"), message("x", "k" * 5_300_000)])
        await transport.publish(topic, [message("all", "k")])
        assert bodies(await collect(await transport.subscribe(topic, "main", 10), 1)) == ["all"]

    play(test)


@pytest.mark.parametrize("header", ["abc", "nan", "inf", ""])
def test_a_due_time_that_is_none_holds_nothing_up(play: Play, header: str) -> None:
    """Somebody else publishes with the library."""
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.publish(
            topic, [Message(new_id(), "k", b"odd", {"infinitic.due": header}), message("next", "k")]
        )
        assert bodies(await collect(consumer, 2)) == ["odd", "next"]

    play(test)


def test_little_is_kept_behind_what_is_in_hand(play: Play, settings: PulsarSettings) -> None:
    """One that was asked for, one on its way. All others are for somebody else."""
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        busy = await transport.subscribe(topic, "main", 4)
        await transport.publish(topic, [message(n) for n in range(20)])
        assert len(await busy.receive(1)) == 1
        async with PulsarTransport(settings) as other:
            await collect(await other.subscribe(topic, "main", 100), 18)

    play(test)


def test_what_is_given_back_at_once_hides_none_of_the_others(play: Play) -> None:
    async def test(transport: PulsarTransport) -> None:
        for topic in (shared(), keyed()):
            await transport.declare([topic])
            await transport.publish(topic, [message(n, f"k{n}") for n in range(5)])
            consumer = await transport.subscribe(topic, "main", 3)
            seen: set[str] = set()
            while len(seen) < 5:
                (delivery,) = await consumer.receive(1)
                seen.update(bodies([delivery]))
                if bodies([delivery]) == ["0"]:
                    await consumer.nack(delivery)
                else:
                    await consumer.ack([delivery])
            await consumer.close()

    play(test)


def test_what_is_no_utf8_holds_nothing_up(play: Play, settings: PulsarSettings) -> None:
    """Somebody else publishes such a header, to a topic and where due messages wait."""

    async def test(transport: PulsarTransport) -> None:
        topic = keyed()
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 10)
        await publish_raw(Names(settings.tenant, settings.namespace).full(topic), {"odd": b"\xff\xfe"})
        await publish_raw(
            Names(settings.tenant, settings.namespace).full(derive_delayed_topic(topic)), {"odd": b"\xff\xfe"}
        )
        await transport.publish(topic, [message("next", "k"), message("later", "k", SystemClock().now() + 0.2)])
        assert sorted(bodies(await collect(consumer, 4))) == ["later", "next", "raw", "raw"]

    play(test)


async def publish_raw(topic: str, headers: dict[str, bytes]) -> None:
    """As somebody with another library."""

    def publish() -> None:
        library = load_module("_pulsar")
        client = library.Client(BROKER, library.ClientConfiguration())
        producer = client.create_producer(topic, library.ProducerConfiguration())
        builder = library.MessageBuilder().content(b"raw").partition_key("k")
        for name, value in headers.items():
            builder.property(name, value)
        producer.send(builder.build())
        client.close()

    await asyncio.to_thread(publish)


def test_a_message_that_is_refused_is_no_trouble_of_others(settings: PulsarSettings) -> None:
    """The broker takes less than the client believes.

    To close the producer would fail all other messages.
    """
    topic = shared()

    async def test() -> None:
        larger = settings.model_copy(update={"max_message_size_bytes": 12 * 1024 * 1024})
        async with asyncio.timeout(60), PulsarTransport(larger) as transport:
            await transport.declare([topic])
            await transport.publish(topic, [message("first")])
            big = Message(new_id(), None, b"x" * 6_000_000)
            sent = [[message(n)] for n in range(100)] + [[big]] + [[message(n)] for n in range(100, 200)]
            outcomes = await asyncio.gather(*(transport.publish(topic, each) for each in sent), return_exceptions=True)
            assert isinstance(outcomes.pop(100), TransportError)
            assert outcomes == [None] * 200

    asyncio.run(test())


def test_large_messages_that_come_again_at_once_hide_none_of_the_others(play: Play) -> None:
    """They are more bytes than one `receive` returns."""
    topic = shared()

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([topic])
        consumer = await transport.subscribe(topic, "main", 100)
        await transport.publish(topic, [message("L" * 4_000_000) for _ in range(4)])
        large = await collect(consumer, 4, ack=False)
        for delivery in large:
            await consumer.nack(delivery)
        await transport.publish(topic, [message("small")])
        while True:
            deliveries = await consumer.receive(1)
            if bodies(deliveries) == ["small"]:
                return
            await consumer.nack(deliveries[0])

    play(test)
