"""Each fault of the broker: what it does, that it is counted, and that it ends with the faults.

Here the rate of a fault is 1.0, so that it happens at every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from infinitic.topics import Topic
from infinitic.transport import Message, Transport, TransportUnavailable
from infinitic_testing.faults.plan import Phase
from infinitic_testing.network import Network
from tests.unit.network_bench import (
    SHARED,
    TOPIC,
    FakeProcess,
    check_healed,
    count_backlog,
    letter,
    make_faulty,
    make_network,
    measure,
    play,
    prepare,
)


def publish(transport: Transport, name: str = "a") -> Callable[[], Awaitable[object]]:
    return lambda: transport.publish(TOPIC, [letter(name)])


def test_before_the_faults_begin_nothing_happens() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("lost-publishes")
        plan.phase = Phase.QUIET
        transport = prepare(network, process)
        for _ in range(20):
            await transport.publish(TOPIC, [letter("a")])
        assert not plan.fired

    play(main)


def test_slow_messages_take_seconds() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("slow-messages")
        transport = prepare(network, process)
        assert await measure(transport.publish(TOPIC, [letter("a")])) > 0.2
        await check_healed(network, plan, "slow-messages", publish(transport))

    play(main)


def test_a_slow_message_is_not_overtaken_by_the_next_one_of_its_connection() -> None:
    async def main() -> None:
        network, _, process = make_faulty("slow-messages")
        transport = prepare(network, process)
        names = [str(number) for number in range(20)]
        await asyncio.gather(*(transport.publish(TOPIC, [letter(name)]) for name in names))
        consumer = await transport.subscribe(TOPIC, "main", 100)
        assert [each.message.id for each in await consumer.receive(100)] == names

    play(main)


def test_duplicates_come_a_second_time() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("duplicates")
        transport = prepare(network, process)
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a")])
        (first,) = await consumer.receive(10)
        (second,) = await consumer.receive(10)
        assert first.message == second.message
        assert (first.attempt, second.attempt) == (1, 1)
        await check_healed(network, plan, "duplicates", publish(transport))

    play(main)


def test_a_publish_whose_reply_is_lost_fails_and_has_its_effect_at_once_or_later() -> None:
    arrivals = set[str]()

    async def main(seed: int) -> None:
        network, plan, process = make_faulty("lost-replies", seed=seed)
        transport = prepare(network, process)
        with pytest.raises(TransportUnavailable):
            await transport.publish(TOPIC, [letter("a")])
        arrivals.add("at once" if count_backlog(network) else "later")
        await asyncio.sleep(10.0)
        assert count_backlog(network) == 1
        await check_healed(network, plan, "lost-replies", publish(transport))

    for seed in range(20):
        play(partial(main, seed))
    assert arrivals == {"at once", "later"}


def test_a_lost_publish_fails_and_has_no_effect() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("lost-publishes")
        transport = prepare(network, process)
        with pytest.raises(TransportUnavailable):
            await transport.publish(TOPIC, [letter("a")])
        assert count_backlog(network) == 0
        await check_healed(network, plan, "lost-publishes", publish(transport))

    play(main)


@pytest.mark.parametrize("profile", ["seeded", "pulsar"])
@pytest.mark.parametrize("topic", [TOPIC, SHARED], ids=["keyed", "shared"])
def test_a_message_whose_acknowledgement_is_lost_comes_again(topic: Topic, profile: str) -> None:
    async def main() -> None:
        network, plan, process = make_faulty("lost-acks", profile=profile)
        transport = prepare(network, process)
        consumer = await transport.subscribe(topic, "main", 10)
        await transport.publish(topic, [letter("a")])
        deliveries = await consumer.receive(10)
        if profile == "pulsar":
            await consumer.ack(deliveries)
        else:
            with pytest.raises(TransportUnavailable):
                await consumer.ack(deliveries)
        assert plan.fired["lost-acks"] == 1
        plan.phase = Phase.HEALED
        (again,) = await consumer.receive(10)
        assert (again.message.id, again.attempt) == ("a", 2)
        await consumer.ack([again])
        await asyncio.sleep(1.0)
        assert network.broker.stats(topic).subscriptions["main"].unacked == 0

    play(main)


def test_a_message_comes_again_while_it_is_in_hand() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("early-redeliveries")
        transport = prepare(network, process)
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a")])
        (first,) = await consumer.receive(10)
        plan.phase = Phase.HEALED
        (second,) = await consumer.receive(10)
        assert (second.message.id, second.attempt) == ("a", 2)
        await consumer.ack([first])
        assert network.broker.stats(TOPIC).subscriptions["main"].unacked == 1
        await consumer.ack([second])
        assert network.broker.stats(TOPIC).subscriptions["main"].unacked == 0
        assert plan.fired["early-redeliveries"] == 1

    play(main)


async def receive_after_crash(network: Network, process: FakeProcess) -> list[tuple[str, int]]:
    """Kill a process that has the first two of three messages of a key in hand, and read them."""
    transport = prepare(network, process)
    await transport.publish(TOPIC, [letter(name) for name in "abc"])
    await (await transport.subscribe(TOPIC, "main", 2)).receive(2)
    process.kill()
    consumer = await network.connect_transport(FakeProcess("next")).subscribe(TOPIC, "main", 10)
    received = list[tuple[str, int]]()
    while len(received) < 3:
        received += [(each.message.id, each.attempt) for each in await consumer.receive(10)]
    return received


def test_messages_of_a_key_lose_their_order_after_a_crash() -> None:
    seen = set[str]()

    async def main(seed: int, profile: str) -> None:
        network, plan, process = make_faulty("key-disorder", seed=seed, profile=profile)
        received = "".join(name for name, _ in await receive_after_crash(network, process))
        if profile == "pulsar":
            seen.add(received)
            assert plan.fired["key-disorder"] == 1
        else:
            assert received == "abc"

    for seed in range(10):
        play(partial(main, seed, "pulsar"))
        play(partial(main, seed, "seeded"))
    assert seen == {"cab", "cba"}


def test_attempts_are_counted_from_1_again_after_a_crash() -> None:
    async def main(profile: str) -> None:
        network, plan, process = make_faulty("forgotten-attempts", profile=profile)
        received = await receive_after_crash(network, process)
        if profile == "pulsar":
            assert received == [("a", 1), ("b", 1), ("c", 1)]
            assert plan.fired["forgotten-attempts"] == 1
        else:
            assert received == [("a", 2), ("b", 2), ("c", 1)]

    play(partial(main, "pulsar"))
    play(partial(main, "seeded"))


def test_what_was_acknowledged_is_given_back_by_thousands() -> None:
    count = 3000

    async def main() -> None:
        network, _ = make_network(profile="pulsar")
        transport = prepare(network, FakeProcess())
        consumer = await transport.subscribe(TOPIC, "main", count)
        for turn in ("old", "young"):
            await transport.publish(TOPIC, [Message(f"{turn}-{number}", turn, b"") for number in range(count)])
            got = 0
            while got < count:
                deliveries = await consumer.receive(count)
                await consumer.ack(deliveries)
                got += len(deliveries)
            await asyncio.sleep(3600.0)
        assert network.give_back(5000.0) == count
        again = list[str]()
        while len(again) < count:
            deliveries = await consumer.receive(count)
            assert {each.attempt for each in deliveries} == {1}
            again += [each.message.id for each in deliveries]
            await consumer.ack(deliveries)
        assert again == [f"young-{number}" for number in range(count)]

    play(main)


def test_a_broker_that_promises_more_gives_nothing_back() -> None:
    async def main() -> None:
        network, _ = make_network(profile="seeded")
        transport = prepare(network, FakeProcess())
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a")])
        await consumer.ack(await consumer.receive(10))
        assert network.give_back(1e9) == 0

    play(main)


def test_delayed_messages_come_late_and_with_pulsar_a_tick_early() -> None:
    lateness = dict[str, set[float]]()

    async def main(seed: int, profile: str) -> None:
        network, plan, process = make_faulty("inexact-delays", seed=seed, profile=profile)
        transport = prepare(network, process)
        now = asyncio.get_running_loop().time
        consumer = await transport.subscribe(TOPIC, "main", 10)
        due = now() + 100.0
        at = network.clock.now() + 100.0
        await transport.publish(TOPIC, [Message("a", "k", b"", {}, at)])
        (delivery,) = await consumer.receive(10)
        assert delivery.message.deliver_at == at
        lateness.setdefault(profile, set()).add(round(now() - due, 1))
        assert plan.fired["inexact-delays"] == 1

    for seed in range(30):
        for profile in ("seeded", "pulsar"):
            play(partial(main, seed, profile))
    assert min(lateness["seeded"]) >= 0.0
    assert max(lateness["seeded"]) >= 5.0
    assert min(lateness["pulsar"]) == -1.0


@pytest.mark.parametrize("healed", [False, True], ids=["end by themselves", "healed"])
def test_delayed_messages_are_held_and_then_come_all_at_once(healed: bool) -> None:
    async def main() -> None:
        network, plan, process = make_faulty("timer-herds")
        transport = prepare(network, process)
        consumer = await transport.subscribe(SHARED, "main", 10)
        now = network.clock.now()
        herd = [Message(str(number), "k", b"", {}, now + 0.1 + 0.01 * number) for number in range(5)]
        await transport.publish(SHARED, herd)
        await transport.publish(SHARED, [letter("not delayed")])
        assert [each.message.id for each in await consumer.receive(10)] == ["not delayed"]
        if healed:
            await asyncio.sleep(0.3)
            assert network.broker.stats(SHARED).subscriptions["main"].delayed == 5
            plan.phase = Phase.HEALED
            network.heal()
        received = await consumer.receive(10)
        # A SHARED topic has no order.
        assert sorted(each.message.id for each in received) == [each.id for each in herd]
        assert network.clock.now() - now > 0.3
        assert plan.fired["timer-herds"] == 1

    play(main)


def test_under_back_pressure_a_publish_waits_or_fails() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("back-pressure")
        transport = prepare(network, process)
        outcomes = set[str]()
        for _ in range(50):
            before = count_backlog(network)
            try:
                seconds = await measure(transport.publish(TOPIC, [letter("a")]))
            except TransportUnavailable:
                assert count_backlog(network) == before
                outcomes.add("failed")
            else:
                outcomes.add("waited" if seconds > 0.4 else "went through")
        assert outcomes >= {"failed", "waited"}
        await check_healed(network, plan, "back-pressure", publish(transport))

    play(main)


def test_messages_of_different_keys_overtake_each_other_but_those_of_one_key_do_not() -> None:
    async def main(profile: str) -> None:
        network, plan, process = make_faulty("overtaking", profile=profile)
        transport = prepare(network, process)
        sent = [Message(f"{number}", f"{number % 5}", b"") for number in range(50)]
        await transport.publish(TOPIC, sent)
        consumer = await transport.subscribe(TOPIC, "main", 3)
        received = list[Message]()
        while len(received) < len(sent):
            deliveries = await consumer.receive(3)
            received += [each.message for each in deliveries]
            await consumer.ack(deliveries)
        if profile == "fifo":
            # All keys take turns.
            assert not plan.fired
        else:
            assert plan.fired["overtaking"] > 0
        for key in "01234":
            assert [each for each in received if each.key == key] == [each for each in sent if each.key == key]

    for profile in ("fifo", "seeded", "pulsar"):
        play(partial(main, profile))


@pytest.mark.parametrize("verb", ["publish", "receive"])
def test_a_process_that_is_cut_off_reaches_nothing_while_others_do(verb: str) -> None:
    async def main() -> None:
        network, plan, process = make_faulty("partitions")
        # It is drawn ten times less often than its rate says.
        plan.rates["partitions"] = 10.0
        transport, client = prepare(network, process), network.connect_client()
        other = network.connect_transport(FakeProcess("other"))
        plan.phase = Phase.QUIET
        consumer = await transport.subscribe(SHARED, "main", 10)
        plan.phase = Phase.FAULTY
        with pytest.raises(TransportUnavailable):
            await transport.publish(TOPIC, [letter("a")])
        assert plan.fired["partitions"] == 1
        plan.phase = Phase.QUIET
        assert await measure(client.publish(SHARED, [letter("b")])) < 0.2
        assert await measure(other.publish(SHARED, [letter("c")])) < 0.2
        if verb == "publish":
            network.heal()
            assert await measure(transport.publish(TOPIC, [letter("d")])) < 0.2
        names = list[str]()
        while len(names) < 2:
            names += [each.message.id for each in await consumer.receive(10)]
        assert sorted(names) == ["b", "c"]

    play(main)


def test_a_process_that_is_cut_off_is_not_cut_off_for_longer_by_its_calls() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("partitions")
        plan.rates["partitions"] = 10.0
        transport = prepare(network, process)
        calls = (transport.publish(TOPIC, [letter(str(number))]) for number in range(20))
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, TransportUnavailable) for each in failed)
        assert plan.fired["partitions"] == 1

    play(main)


def test_the_oldest_messages_starve_while_newer_ones_come() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("starvation")
        transport = prepare(network, process)
        network.starve(1000.0)
        consumer = await transport.subscribe(SHARED, "main", 2)
        await transport.publish(SHARED, [letter(name) for name in "abcdef"])
        received = await consumer.receive(2)
        assert [each.message.id for each in received] == ["f", "e"]
        network.heal()
        plan.phase = Phase.HEALED
        await consumer.ack(received)
        plan.phase = Phase.FAULTY
        while not plan.fired["starvation"]:
            await transport.publish(SHARED, [letter("g")])
            await consumer.ack(await consumer.receive(2))

    play(main)
