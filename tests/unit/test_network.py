"""The simulated network: calls take time, take effect on the far side, and observers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic.storage import Written
from infinitic.topics import Topic
from infinitic.transport import Message, TransportClosed, TransportUnavailable
from infinitic_testing.observing import Observer
from tests.unit.network_bench import CHANGE, KEY, TOPIC, FakeProcess, Log, letter, make_network, play


def test_calls_take_time_and_observers_see_them_take_effect() -> None:
    log = Log()

    async def main() -> None:
        network, _ = make_network(observers=[log])
        process = FakeProcess()
        transport, storage = network.connect_transport(process), network.connect_storage(process)
        client = network.connect_client()
        await client.declare([TOPIC])
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await client.publish(TOPIC, [letter("a")])
        (delivery,) = await consumer.receive(10)
        assert await storage.states.commit([CHANGE]) == [Written(1)]
        await consumer.ack([delivery])
        assert await storage.states.purge(0.0) == 0
        assert asyncio.get_running_loop().time() > 0.0
        assert (await transport.stats(TOPIC)).subscriptions["main"].unacked == 0

    play(main)
    assert log.lines == [
        ("client", "published ['a']"),
        ("worker", "delivered ['a']"),
        ("worker", f"committed {[Written(1)]}"),
        ("worker", "acknowledged ['a']"),
        ("worker", "purged 0"),
    ]


def test_a_call_that_is_cancelled_on_its_way_still_arrives() -> None:
    async def main() -> None:
        network, _ = make_network()
        storage = network.connect_storage(FakeProcess())
        committing = asyncio.create_task(storage.states.commit([CHANGE]))
        await asyncio.sleep(0)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        assert network.database.load([KEY]) == {}
        await asyncio.sleep(1.0)
        assert network.database.load([KEY])[KEY].head == b"head"

    play(main)


def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async def main() -> None:
        network, _ = make_network()
        transport = network.connect_transport(FakeProcess())
        await transport.declare([TOPIC])
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a"), letter("b")])
        receiving = asyncio.create_task(consumer.receive(10))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        first = await consumer.receive(1)
        second = await consumer.receive(1)
        assert [each.message.id for each in first + second] == ["a", "b"]

    play(main)


def test_the_broker_gives_what_a_killed_process_had_to_others() -> None:
    async def main() -> None:
        network, _ = make_network()
        dead, living = FakeProcess("dead"), FakeProcess("living")
        first, second = network.connect_transport(dead), network.connect_transport(living)
        await first.declare([TOPIC])
        consumer = await first.subscribe(TOPIC, "main", 10)
        await first.publish(TOPIC, [letter("a")])
        await consumer.receive(10)
        dead.kill()
        (again,) = await (await second.subscribe(TOPIC, "main", 10)).receive(10)
        assert (again.message.id, again.attempt) == ("a", 2)

    play(main)


@pytest.mark.parametrize("seed", range(6))
def test_a_lost_session_ends_with_an_error_or_is_joined_again(seed: int) -> None:
    async def main() -> None:
        network, _ = make_network(seed)
        process = FakeProcess()
        transport = network.connect_transport(process)
        await transport.declare([TOPIC])
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a")])
        (stale,) = await consumer.receive(10)
        network.lose_session(process)
        await consumer.ack([stale])
        try:
            (again,) = await consumer.receive(10)
        except TransportClosed:
            with pytest.raises(TransportClosed):
                await consumer.ack([stale])
            (again,) = await (await transport.subscribe(TOPIC, "main", 10)).receive(10)
        assert (again.message.id, again.attempt) == ("a", 2)

    play(main)


def test_while_the_broker_is_cut_off_calls_fail_and_those_of_a_client_wait() -> None:
    async def main() -> None:
        network, _ = make_network()
        transport, client = network.connect_transport(FakeProcess()), network.connect_client()
        await client.declare([TOPIC])
        network.cut_broker(60.0)
        with pytest.raises(TransportUnavailable):
            await transport.publish(TOPIC, [letter("a")])
        began = asyncio.get_running_loop().time()
        assert began < 60.0
        await client.publish(TOPIC, [letter("b")])
        assert asyncio.get_running_loop().time() >= 60.0
        consumer = await transport.subscribe(TOPIC, "main", 10)
        assert [each.message.id for each in await consumer.receive(10)] == ["b"]

    play(main)


def test_an_error_of_an_observer_fails_the_call_and_is_kept() -> None:
    class Strict(Observer):
        def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
            raise LookupError("not this one")

    async def main() -> None:
        told = list[Exception]()
        network, _ = make_network(observers=[Strict()], on_violation=told.append)
        client = network.connect_client()
        await client.declare([TOPIC])
        for _ in range(2):
            with pytest.raises(LookupError):
                await client.publish(TOPIC, [letter("a")])
        assert told == [network.violation]

    play(main)
