"""The core of the in-memory broker, driven without any event loop: who gets what, in which order.

The ids of rules are those of the transport contract. `test_memory_broker_retries` tests delays,
retries and payloads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Delivery,
    Message,
    SubscriptionStats,
    TransportClosed,
    UnknownTopic,
)
from infinitic_transports.memory import Broker, BrokerConsumer, Choose

KEYED = Topic("keyed", Ordering.KEYED, "main")
SHARED = Topic("shared", Ordering.SHARED, "main")
EPHEMERAL = Topic("client", Ordering.SHARED, None)

Leave = Callable[[Broker, BrokerConsumer], None]

both = pytest.mark.parametrize("topic", [KEYED, SHARED], ids=["keyed", "shared"])
leaving = pytest.mark.parametrize("leave", [Broker.detach, Broker.crash], ids=["close", "crash"])


def message(name: str, at: float | None = None) -> Message:
    """A message called like its key and a number: `a1` has the key `a`, `-1` has none."""
    return Message(name, None if name[0] == "-" else name[0], name.encode(), {}, at)


class Member:
    """A consumer that remembers what it has in hand, by name, and how often it was woken."""

    def __init__(self, world: World, topic: Topic, subscription: str, prefetch: int, durable: bool) -> None:
        self.world = world
        self.hand: dict[str, Delivery] = {}
        self.woken = 0
        self.consumer: BrokerConsumer = world.broker.attach(topic, subscription, prefetch, self.wake, durable=durable)

    def wake(self) -> None:
        self.woken += 1

    def take(self, limit: int = 100) -> list[str]:
        deliveries = self.world.broker.take(self.consumer, limit, self.world.now)
        self.hand |= {delivery.message.id: delivery for delivery in deliveries}
        return [delivery.message.id for delivery in deliveries]

    def ack(self, *names: str) -> None:
        self.world.broker.ack(self.consumer, [self.hand[name] for name in names])

    def nack(self, name: str, delay: float = 0.0) -> None:
        self.world.broker.nack(self.consumer, self.hand[name], delay, self.world.now)


class World:
    """A broker with one topic, and a clock that is moved by hand."""

    def __init__(self, topic: Topic = KEYED, choose: Choose | None = None) -> None:
        self.broker = Broker(choose=choose)
        self.topic = topic
        self.now = 1000.0
        self.broker.declare([topic])

    def publish(self, *names: str, at: float | None = None) -> None:
        self.broker.publish(self.topic, [message(name, at) for name in names], self.now)

    def member(self, prefetch: int = 100, subscription: str = "main", *, durable: bool = True) -> Member:
        return Member(self, self.topic, subscription, prefetch, durable)

    def stats(self, subscription: str = "main") -> SubscriptionStats:
        return self.broker.stats(self.topic).subscriptions[subscription]


# ── Persistence ───────────────────────────────────────────────────────────────────────────────────


@both
def test_PER_4_a_subscription_without_consumers_keeps_everything(topic: Topic) -> None:
    world = World(topic)
    world.publish("a1", "b1")
    world.publish("a2")
    assert sorted(world.member().take()) == ["a1", "a2", "b1"]


def test_PER_5_a_topic_without_a_subscription_accepts_and_keeps_nothing() -> None:
    world = World(EPHEMERAL)
    world.publish("a1")
    world.publish("a2", at=world.now + 5)
    assert world.member(durable=False).take() == []
    assert world.broker.find_next_due() is None


@both
def test_PER_6_two_subscriptions_each_get_all_and_acknowledge_apart(topic: Topic) -> None:
    world = World(topic)
    one, other = world.member(), world.member(subscription="audit")
    world.publish("a1", "a2")
    assert one.take() == other.take() == ["a1", "a2"]
    one.ack("a1", "a2")
    assert (world.stats().unacked, world.stats("audit").unacked) == (0, 2)


def test_PER_7_an_ephemeral_subscription_gets_what_is_published_while_it_is_there() -> None:
    world = World(SHARED)
    world.publish("a1")
    world.publish("a2", at=world.now + 5)
    one, other = world.member(subscription="x", durable=False), world.member(subscription="x", durable=False)
    world.publish("b1")
    world.publish("b2", at=world.now + 5)
    world.now += 5
    assert one.take() == other.take() == ["b1", "b2"]


def test_PER_7_an_ephemeral_subscription_leaves_nothing_behind() -> None:
    world = World(EPHEMERAL)
    member = world.member(durable=False)
    world.publish("a1", at=world.now + 50)
    world.publish("a2")
    member.take()
    member.nack("a2", 60)
    world.broker.detach(member.consumer)
    assert (world.broker.find_next_due(), world.broker.stats(EPHEMERAL).subscriptions) == (None, {})


def test_PER_7_what_is_put_off_for_others_survives_an_ephemeral_subscription() -> None:
    world = World(SHARED)
    guest, member = world.member(durable=False), world.member()
    world.publish("a1", at=world.now + 5)
    world.broker.detach(guest.consumer)
    world.now += 5
    assert member.take() == ["a1"]


def test_an_ephemeral_topic_vanishes_with_its_last_subscriber() -> None:
    broker = Broker()
    one, other = (broker.attach(EPHEMERAL, "x", 1, lambda: None, durable=False) for _ in range(2))
    broker.detach(one)
    broker.publish(EPHEMERAL, [message("a1")], 0.0)
    broker.detach(other)
    with pytest.raises(UnknownTopic, match="client"):
        broker.publish(EPHEMERAL, [message("a2")], 0.0)


def test_a_topic_that_was_never_declared_is_unknown() -> None:
    broker = Broker()
    with pytest.raises(UnknownTopic, match="keyed"):
        broker.publish(KEYED, [], 0.0)
    with pytest.raises(UnknownTopic, match="keyed"):
        broker.attach(KEYED, "main", 1, lambda: None)
    assert broker.stats(KEYED).subscriptions == {}


def test_declaring_twice_changes_nothing_and_must_agree() -> None:
    world = World()
    world.publish("a1")
    world.broker.declare([KEYED])
    assert world.stats().backlog == 1
    with pytest.raises(UsageError, match="keyed"):
        world.broker.declare([Topic("keyed", Ordering.SHARED, "main")])


# ── Exclusive consumption ─────────────────────────────────────────────────────────────────────────


@both
def test_EXC_1_a_message_is_in_one_hand(topic: Topic) -> None:
    world = World(topic)
    one, other = world.member(), world.member()
    world.publish("a1", "b1", "c1", "d1")
    assert Counter(one.take(2) + other.take() + one.take()) == Counter(["a1", "b1", "c1", "d1"])


@both
@leaving
def test_EXC_3_the_ack_of_a_fenced_consumer_removes_nothing(topic: Topic, leave: Leave) -> None:
    world = World(topic)
    fenced, heir = world.member(), world.member()
    world.publish("a1")
    fenced.take()
    leave(world.broker, fenced.consumer)
    fenced.ack("a1")
    assert heir.take() == ["a1"]
    fenced.ack("a1")
    fenced.nack("a1")
    assert (world.stats().unacked, world.stats().backlog) == (1, 0)
    heir.ack("a1")
    assert world.stats() == SubscriptionStats(backlog=0, unacked=0, delayed=0, consumers=1)


@both
def test_EXC_4_consumers_that_wait_share_what_comes(topic: Topic) -> None:
    world = World(topic)
    members = [world.member() for _ in range(3)]
    assert [member.take() for member in members] == [[], [], []]
    world.publish("a1", "b1", "c1", "d1", "e1", "f1", "g1")
    assert [member.woken for member in members] == [1, 1, 1]
    assert [len(member.take()) for member in members] == [3, 2, 2]


@both
def test_no_more_consumers_are_woken_than_there_is_something_for(topic: Topic) -> None:
    world = World(topic)
    members = [world.member() for _ in range(3)]
    for member in members:
        member.take()
    world.publish("a1")
    world.publish("b1")
    assert [member.woken for member in members] == [1, 1, 0]


@both
def test_a_wake_up_that_is_not_used_goes_to_the_next(topic: Topic) -> None:
    world = World(topic)
    members = [world.member() for _ in range(3)]
    for member in members:
        member.take()
    world.publish("a1")
    world.broker.stop_waiting(members[0].consumer)
    assert [member.woken for member in members] == [1, 1, 0]
    world.broker.detach(members[1].consumer)
    assert members[2].woken == 1
    assert members[2].take() == ["a1"]


def test_a_detached_consumer_is_woken_to_learn_it() -> None:
    world = World()
    member = world.member()
    member.take()
    world.broker.detach(member.consumer)
    world.broker.detach(member.consumer)
    assert member.woken == 1
    with pytest.raises(TransportClosed):
        member.take()


# ── Key order ─────────────────────────────────────────────────────────────────────────────────────


def test_ORD_1_first_deliveries_follow_publish_order() -> None:
    world = World()
    world.publish("a1", "b1", "a2")
    world.publish("a3", "b2")
    member = world.member()
    got = [name for _ in range(3) for name in member.take(2)]
    assert [name for name in got if name[0] == "a"] == ["a1", "a2", "a3"]
    assert [name for name in got if name[0] == "b"] == ["b1", "b2"]


def test_ORD_2_later_messages_of_a_held_key_go_to_its_holder_only() -> None:
    world = World()
    holder, other = world.member(), world.member()
    world.publish("a1")
    assert holder.take() == ["a1"]
    other.take()
    holder.take()
    world.publish("a2")
    assert (holder.woken, other.woken) == (1, 0)
    assert other.take() == []
    assert holder.take() == ["a2"]


def test_ORD_3_a_key_moves_only_after_all_in_hand_is_settled() -> None:
    world = World()
    holder, newcomer = world.member(), world.member()
    world.publish("a1", "a2", "a3")
    assert holder.take(2) == ["a1", "a2"]
    holder.ack("a2")
    assert newcomer.take() == []
    holder.ack("a1")
    assert newcomer.woken == 1
    assert newcomer.take() == ["a3"]


@leaving
def test_ORD_4_what_was_in_hand_comes_before_newer_messages(leave: Leave) -> None:
    world = World()
    gone, heir = world.member(), world.member()
    world.publish("a1", "a2", "b1", "a3")
    assert gone.take(4) == ["a1", "a2", "a3", "b1"]
    world.publish("a4", "c1")
    gone.ack("a1")
    leave(world.broker, gone.consumer)
    assert heir.take() == ["a2", "a3", "a4", "b1", "c1"]
    assert {name: delivery.attempt for name, delivery in heir.hand.items()} == {
        "a2": 2, "a3": 2, "a4": 1, "b1": 2, "c1": 1,
    }  # fmt: skip


def test_LIF_1_without_keys_as_well_what_was_in_hand_comes_first_and_in_order() -> None:
    world = World(SHARED)
    gone = world.member()
    world.publish("-1", "-2", "-3", "-4")
    assert gone.take(3) == ["-1", "-2", "-3"]
    world.broker.detach(gone.consumer)
    assert world.member().take() == ["-1", "-2", "-3", "-4"]


def test_ORD_4_a_nack_that_is_not_due_still_holds_its_key_after_a_crash() -> None:
    world = World()
    gone, also_gone, heir = world.member(), world.member(), world.member()
    world.publish("a1", "a2")
    gone.take()
    gone.nack("a1", 10)
    world.broker.crash(gone.consumer)
    assert also_gone.take() == []
    world.broker.crash(also_gone.consumer)
    assert heir.take() == []
    world.now += 10
    world.broker.due(world.now)
    assert heir.woken == 1
    assert heir.take() == ["a1", "a2"]


def test_ORD_5_nack_of_n_comes_before_n_plus_1() -> None:
    world = World()
    member = world.member()
    world.publish("a1", "a2", "a3")
    member.take(1)
    member.nack("a1")
    assert member.take() == ["a1", "a2", "a3"]


def test_ORD_5_n_plus_1_waits_while_the_nack_of_n_is_not_due() -> None:
    world = World()
    member = world.member()
    world.publish("a1", "a2")
    member.take(1)
    member.nack("a1", 10)
    world.publish("a3")
    world.now += 9.9
    assert member.take() == []
    world.now += 0.1
    assert member.take() == ["a1", "a2", "a3"]


def test_ORD_5_what_is_in_hand_stays_there_and_the_key_with_it() -> None:
    world = World()
    member, other = world.member(), world.member()
    world.publish("a1", "a2", "a3")
    member.take(2)
    member.nack("a1")
    assert other.take() == []
    assert member.take() == ["a1", "a3"]
    member.ack("a2")
    assert world.stats().unacked == 2
    member.nack("a1")
    assert member.take() == ["a1"]
    member.nack("a1", 10)
    assert member.take() == []
    world.publish("a4")
    assert member.woken == 0


def test_ORD_6_nacks_of_several_restore_their_order() -> None:
    world = World()
    member = world.member()
    world.publish("a1", "a2", "a3", "a4", "a5")
    member.take(4)
    member.nack("a3")
    member.nack("a1", 5)
    member.nack("a4", 2)
    member.nack("a2", 9)
    assert member.take() == []
    world.now += 5
    assert member.take() == ["a1"]
    world.now += 4
    assert member.take() == ["a2", "a3", "a4", "a5"]


def test_ORD_2_several_nacks_that_come_due_together_offer_their_key_once() -> None:
    world = World()
    member, other = world.member(), world.member()
    world.publish("a1", "a2")
    member.take()
    member.nack("a1", 5)
    member.nack("a2", 5)
    world.now += 5
    assert member.take(2) == ["a1", "a2"]
    assert other.take() == []
    world.publish("a3")
    assert other.take() == []
    assert member.take() == ["a3"]


def test_ORD_7_a_stuck_key_blocks_no_other() -> None:
    world = World()
    member = world.member(prefetch=3)
    world.publish("a1", "a2", "b1", "b2", "c1")
    assert member.take(1) == ["a1"]
    member.nack("a1", 1000)
    assert member.take() == ["b1", "b2", "c1"]


def test_ORD_7_a_busy_key_does_not_starve_the_others() -> None:
    world = World()
    member = world.member()
    world.publish(*(f"a{number}" for number in range(10)), "b1", "c1")
    assert member.take(3) == ["a0", "a1", "a2"]
    assert member.take(3) == ["b1", "c1", "a3"]
    member.ack("a0", "a1", "a2", "a3", "b1", "c1")
    world.publish("d1")
    assert member.take(4) == ["a4", "a5", "a6", "a7"]
    assert member.take(2) == ["d1", "a8"]


def test_ORD_8_messages_without_a_key_are_spread() -> None:
    world = World()
    one, other = world.member(), world.member()
    world.publish("-1", "-2", "-3")
    assert one.take(1) == ["-1"]
    assert other.take(1) == ["-2"]
    one.nack("-1", 10)
    assert other.take() == ["-3"]


def test_ORD_9_an_empty_key_is_not_no_key() -> None:
    world = World()
    one, other = world.member(), world.member()
    world.broker.publish(KEYED, [Message("e1", "", b""), Message("n1", None, b""), Message("e2", "", b"")], 0.0)
    assert one.take(1) == ["e1"]
    assert other.take() == ["n1"]
    assert one.take() == ["e2"]


def test_ORD_10_keys_are_compared_exactly() -> None:
    keys = ["é", "e\u0301", "E", "e", "a\0", "a", "a ", "k" * 1024, "k" * 1023 + "K", "\U0001f600"]
    world = World()
    world.broker.publish(KEYED, [Message(key, key, b"") for key in keys], 0.0)
    assert [name for _ in keys for name in world.member().take(1)] == keys


def test_ORD_12_a_batch_of_many_keys_keeps_each_key_in_one_hand() -> None:
    world = World()
    members = [world.member() for _ in range(2)]
    for member in members:
        member.take()
    world.publish("a1", "b1", "a2", "b2", "c1", "a3")
    assert [member.take() for member in members] == [["a1", "a2", "a3", "b1", "b2"], ["c1"]]


def test_a_long_backlog_of_one_key_comes_in_order_and_in_pieces() -> None:
    world = World()
    names = [f"a{number}" for number in range(1000)]
    world.publish(*names[:900])
    member = world.member()
    got = member.take(7)
    while len(got) < len(names):
        member.ack(got[-1])
        got += member.take(7)
        if len(got) == 497:
            world.publish(*names[900:])
    assert got == names


# ── What the contract leaves open ─────────────────────────────────────────────────────────────────


def test_choices_go_through_the_seam() -> None:
    asked: list[tuple[str, int]] = []

    def last(what: str, count: int) -> int:
        asked.append((what, count))
        return count - 1

    world = World(KEYED, choose=last)
    members = [world.member() for _ in range(2)]
    for member in members:
        member.take()
    world.publish("a1", "b1")
    assert [member.woken for member in members] == [1, 1]
    assert members[0].take() == ["b1"]
    world.publish("c1", "d1", "b2", "d2")
    assert members[0].take(4) == ["d1", "d2", "c1", "b2"]
    shared = World(SHARED, choose=last)
    shared.publish("a1", "a2", "a3")
    assert shared.member().take() == ["a3", "a2", "a1"]
    assert {what for what, _ in asked} == {"consumer", "key", "message"}
    assert all(count > 1 for _, count in asked)
