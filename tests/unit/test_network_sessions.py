"""Restarts, lost sessions and lost acknowledgements: which messages come again, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from infinitic.topics import Ordering, Topic
from infinitic.transport import TransportClosed, TransportUnavailable
from tests.unit.network_bench import (
    SHARED,
    TOPIC,
    FakeProcess,
    letter,
    make_network,
    play,
    prepare,
)


@pytest.mark.parametrize("profile", ["fifo", "seeded", "pulsar"])
def test_a_restarted_broker_loses_nothing_and_its_consumers_go_on(profile: str) -> None:
    async def main(seed: int) -> int:
        network, _ = make_network(seed, profile=profile)
        transport = prepare(network, FakeProcess())
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("acked"), letter("in hand")])
        acked, _ = await consumer.receive(10)
        await consumer.ack([acked])
        await asyncio.sleep(0.5)
        network.restart_broker(10.0)
        with pytest.raises(TransportUnavailable):
            await transport.publish(TOPIC, [letter("lost")])
        names = list[str]()
        while "in hand" not in names:
            names += [each.message.id for each in await consumer.receive(10)]
        assert set(names) <= {"acked", "in hand"}
        return names.count("acked")

    given_back = [run_counted(partial(main, seed)) for seed in range(10)]
    if profile == "pulsar":
        assert 0 < sum(given_back) < 10
    else:
        assert sum(given_back) == 0


def run_counted(main: Callable[[], Any]) -> int:
    counted = list[int]()

    async def note() -> None:
        counted.append(await main())

    play(note)
    return counted[0]


def test_an_ephemeral_subscription_survives_a_restart_but_not_the_loss_of_its_session() -> None:
    control = Topic("control", Ordering.SHARED, None)

    async def main() -> None:
        network, _ = make_network()
        process = FakeProcess()
        transport = network.connect_transport(process)
        await transport.declare([control])
        consumer = await transport.subscribe(control, "control", 10, durable=False)
        network.restart_broker(1.0)
        await asyncio.sleep(2.0)
        await transport.publish(control, [letter("a")])
        assert [each.message.id for each in await consumer.receive(10)] == ["a"]
        network.lose_session(process)
        with pytest.raises(TransportClosed):
            await consumer.receive(10)

    play(main)


def test_an_acknowledgement_by_an_earlier_holder_counts_with_pulsar_only() -> None:
    async def main(profile: str) -> None:
        network, _ = make_network(profile=profile)
        first, second = FakeProcess("first"), FakeProcess("second")
        transport = prepare(network, first)
        consumer = await transport.subscribe(SHARED, "main", 10)
        await transport.publish(SHARED, [letter("a")])
        stale = await consumer.receive(10)
        other = await network.connect_transport(second).subscribe(SHARED, "main", 10)
        network.cut_broker(1.0) if profile == "pulsar" else network.lose_session(first)
        await other.receive(10)
        await asyncio.sleep(40.0)
        try:
            await consumer.ack(stale)
        except TransportClosed:
            assert profile == "seeded"
        await asyncio.sleep(1.0)
        left = network.broker.stats(SHARED).subscriptions["main"].unacked
        assert left == (0 if profile == "pulsar" else 1)

    play(partial(main, "pulsar"))
    play(partial(main, "seeded"))


def test_acknowledgements_that_are_sent_while_the_broker_is_away_are_lost() -> None:
    async def main() -> None:
        network, _ = make_network(profile="pulsar")
        process = FakeProcess()
        transport = prepare(network, process)
        consumer = await transport.subscribe(SHARED, "main", 10)
        await transport.publish(SHARED, [letter("a")])
        await consumer.ack(await consumer.receive(10))
        network.partition(process, 5.0)
        await asyncio.sleep(1.0)
        assert network.broker.stats(SHARED).subscriptions["main"].unacked == 1
        (again,) = await consumer.receive(10)
        assert (again.message.id, again.attempt) == ("a", 2)
        await consumer.ack([again])
        await asyncio.sleep(1.0)
        assert network.broker.stats(SHARED).subscriptions["main"].unacked == 0

    play(main)


def test_messages_that_a_lost_session_had_on_their_way_are_not_received() -> None:
    async def main() -> None:
        network, _ = make_network(3)
        process = FakeProcess()
        transport = prepare(network, process)
        consumer = await transport.subscribe(SHARED, "main", 10)
        await transport.publish(SHARED, [letter("a")])
        receiving = asyncio.create_task(consumer.receive(10))
        await asyncio.sleep(0)
        assert network.broker.stats(SHARED).subscriptions["main"].unacked == 1
        network.restart_broker(1.0)
        ((received,),) = await asyncio.gather(receiving)
        assert (received.message.id, received.attempt) == ("a", 2)

    play(main)
