"""The profiles of the in-memory broker: what each may do, and what even the worst one keeps."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, Support
from infinitic_testing.faults.profiles import ONE_DATABASE, PROFILES
from infinitic_transports.memory import Broker, BrokerConsumer, PulsarLikeBroker, make_broker

KEYED = Topic("keyed", Ordering.KEYED, "main")
SHARED = Topic("shared", Ordering.SHARED, "main")

both = pytest.mark.parametrize("topic", [KEYED, SHARED], ids=["keyed", "shared"])


def make_pulsar_like(**chosen: int) -> PulsarLikeBroker:
    """Make a broker that chooses these indexes, and 0 elsewhere."""
    broker = make_broker("pulsar", choose=lambda what, count: chosen.get(what, 0))
    assert isinstance(broker, PulsarLikeBroker)
    broker.declare([KEYED, SHARED])
    return broker


def publish(broker: Broker, topic: Topic, *names: str, now: float = 0.0) -> None:
    """Publish messages. The key of each is the first letter of its name."""
    broker.publish(topic, [Message(name, name[0], b"") for name in names], now)


def read(deliveries: list[Delivery]) -> list[tuple[str, int]]:
    """Read names and attempts."""
    return [(each.message.id, each.attempt) for each in deliveries]


def do_nothing() -> None:
    """Nobody waits to be woken."""


def test_each_profile_of_a_simulation_has_its_broker() -> None:
    # One database has the broker of `seeded`; what it shares is above that.
    for profile in PROFILES.keys() - {ONE_DATABASE}:
        assert make_broker(profile, choose=None, max_payload=7).max_payload == 7
    with pytest.raises(UsageError, match="no profile 'tidy'"):
        make_broker("tidy", choose=None)


def test_only_the_profile_pulsar_promises_less() -> None:
    for profile in ("fifo", "seeded"):
        capabilities = make_broker(profile, choose=None).capabilities
        assert (dict(capabilities.rules), capabilities.ack_durability) == ({}, 0.0)
    capabilities = make_broker("pulsar", choose=None).capabilities
    assert capabilities.support("RED-3") is Support.BEST_EFFORT
    assert capabilities.ack_durability == 1.0


def test_without_a_bad_choice_the_profile_pulsar_keeps_order_and_attempts() -> None:
    broker = make_pulsar_like()
    publish(broker, KEYED, "a1", "a2", "a3")
    first = broker.attach(KEYED, "main", 2, do_nothing)
    broker.take(first, 2, 0.0)
    broker.crash(first)
    second = broker.attach(KEYED, "main", 9, do_nothing)
    assert read(broker.take(second, 9, 0.0)) == [("a1", 2), ("a2", 2), ("a3", 1)]


@pytest.mark.parametrize(("order", "received"), [(1, ["a3", "a1", "a2"]), (2, ["a3", "a2", "a1"])])
def test_what_a_consumer_leaves_behind_may_come_after_what_waits(order: int, received: list[str]) -> None:
    broker = make_pulsar_like(order=order)
    publish(broker, KEYED, "a1", "a2", "a3")
    first = broker.attach(KEYED, "main", 2, do_nothing)
    broker.take(first, 2, 0.0)
    broker.crash(first)
    second = broker.attach(KEYED, "main", 9, do_nothing)
    assert [name for name, _ in read(broker.take(second, 9, 0.0))] == received


@both
def test_attempts_may_be_counted_from_1_again(topic: Topic) -> None:
    broker = make_pulsar_like(attempts=1)
    publish(broker, topic, "a1")
    for _ in range(3):
        consumer = broker.attach(topic, "main", 2, do_nothing)
        assert read(broker.take(consumer, 2, 0.0)) == [("a1", 1)]
        broker.crash(consumer)


@both
def test_an_earlier_holder_settles_a_message_that_another_one_has(topic: Topic) -> None:
    broker = make_pulsar_like()
    publish(broker, topic, "a1")
    first = broker.attach(topic, "main", 2, do_nothing)
    stale = broker.take(first, 2, 0.0)
    broker.crash(first)
    second = broker.attach(topic, "main", 2, do_nothing)
    assert read(broker.take(second, 2, 0.0)) == [("a1", 2)]
    broker.ack(first, stale)
    stats = broker.stats(topic).subscriptions["main"]
    assert (stats.backlog, stats.unacked) == (0, 0)


@both
def test_what_was_acknowledged_is_given_back_once_in_its_order(topic: Topic) -> None:
    broker = make_pulsar_like()
    consumer = broker.attach(topic, "main", 9, do_nothing)
    for now, name in enumerate(("a1", "a2", "b1", "a3")):
        publish(broker, topic, name, now=float(now))
        broker.ack(consumer, broker.take(consumer, 9, float(now)))
    assert broker.give_back(2.0, now=3.0) == 3
    assert broker.stats(topic).subscriptions["main"].backlog == 3
    again = broker.take(consumer, 9, 3.0)
    assert [each.message.id for each in again if each.message.key == "a"] == ["a2", "a3"]
    assert sorted(read(again)) == [("a2", 1), ("a3", 1), ("b1", 1)]
    assert broker.give_back(2.0, now=3.0) == 0
    broker.ack(consumer, again)
    assert broker.give_back(2.0, now=3.0) == 3


class Worst:
    """A broker of the profile "pulsar" that chooses at random, and consumers that come and go."""

    def __init__(self, topic: Topic, seed: int) -> None:
        self.rng = random.Random(seed)
        self.topic = topic
        broker = make_broker("pulsar", choose=lambda _, count: self.rng.randrange(count))
        assert isinstance(broker, PulsarLikeBroker)
        self.broker = broker
        self.broker.declare([topic])
        self.now = 100.0
        self.names = count()
        # How often each message still has to come.
        self.open = Counter[str]()
        self.given_back = 0
        self.consumers = [self.join() for _ in range(3)]

    def join(self) -> tuple[BrokerConsumer, dict[Delivery, None]]:
        return self.broker.attach(self.topic, "main", 4, do_nothing), {}

    def step(self) -> None:
        rng, broker = self.rng, self.broker
        who = rng.randrange(3)
        consumer, hand = self.consumers[who]
        chance = rng.random()
        if chance < 0.3:
            name = f"{rng.choice('abc')}{next(self.names)}"
            due = self.now + rng.choice((-1.0, 0.0, 0.5, 5.0))
            broker.publish(self.topic, [Message(name, name[0], b"", {}, due)], self.now)
            self.open[name] += 1
        elif chance < 0.6:
            hand |= dict.fromkeys(broker.take(consumer, rng.randint(1, 4), self.now))
        elif chance < 0.8 and hand:
            delivery = rng.choice(list(hand))
            del hand[delivery]
            broker.ack(consumer, [delivery])
            self.open[delivery.message.id] -= 1
        elif chance < 0.9 and hand:
            delivery = rng.choice(list(hand))
            del hand[delivery]
            broker.nack(consumer, delivery, rng.choice((0.0, 2.0)), self.now)
        elif chance < 0.93:
            broker.crash(consumer)
            self.consumers[who] = self.join()
        elif chance < 0.94:
            before = broker.stats(self.topic).subscriptions["main"].backlog
            given = broker.give_back(rng.choice((1.0, 10.0)), self.now)
            assert broker.stats(self.topic).subscriptions["main"].backlog == before + given
            # What is given back is open again, whichever messages these are.
            self.given_back += given
        else:
            self.now += rng.choice((0.1, 1.0, 10.0))
            broker.due(self.now)

    def count_left(self) -> int:
        stats = self.broker.stats(self.topic).subscriptions["main"]
        return stats.backlog + stats.unacked + stats.delayed


@both
@pytest.mark.parametrize("seed", range(30))
def test_even_the_worst_broker_loses_nothing_and_keeps_a_key_with_one_consumer(topic: Topic, seed: int) -> None:
    world = Worst(topic, seed)
    for _ in range(400):
        world.step()
        assert world.count_left() == sum(world.open.values()) + world.given_back
        holders = Counter[str]()
        for _, hand in world.consumers:
            holders.update({str(each.message.key) for each in hand})
        if topic is KEYED:
            assert all(number == 1 for number in holders.values())
    world.now += 1000.0
    for consumer, _ in world.consumers:
        world.broker.crash(consumer)
    last = world.broker.attach(topic, "main", 10_000, do_nothing)
    received = Counter(each.message.id for each in world.broker.take(last, 10_000, world.now))
    assert sum(received.values()) == world.count_left()
    missing = {name for name, number in world.open.items() if number > 0} - set(received)
    assert not missing


@both
def test_an_acknowledgement_by_an_earlier_holder_settles_one_of_equal_messages(topic: Topic) -> None:
    """Each of them was published, although all are the same object."""
    broker = make_pulsar_like()
    copies = [Message("a", "a", b"")] * 5
    broker.publish(topic, copies, 0.0)
    first = broker.attach(topic, "main", 9, do_nothing)
    stale = broker.take(first, 9, 0.0)
    broker.crash(first)
    second = broker.attach(topic, "main", 9, do_nothing)
    assert len(broker.take(second, 9, 0.0)) == 5
    broker.ack(first, stale[:2])
    assert broker.stats(topic).subscriptions["main"].unacked == 3
    broker.ack(first, stale)
    assert broker.stats(topic).subscriptions["main"].unacked == 0
