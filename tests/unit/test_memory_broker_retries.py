"""The in-memory broker: delays, retries, flow and payloads, and random runs against a model.

Driven without any event loop. Rule ids are those of the transport contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count, cycle

import pytest
from hypothesis import given, settings, strategies as st

from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, MessageTooLarge, SubscriptionStats
from infinitic_transports.memory import Broker, Choose

KEYED = Topic("keyed", Ordering.KEYED, "main")
SHARED = Topic("shared", Ordering.SHARED, "main")

both = pytest.mark.parametrize("topic", [KEYED, SHARED], ids=["keyed", "shared"])


class World:
    """A broker with one topic, and a clock that is moved by hand."""

    def __init__(self, topic: Topic = KEYED, choose: Choose | None = None) -> None:
        self.broker = Broker(choose=choose)
        self.topic = topic
        self.now = 1000.0
        self.broker.declare([topic])

    def publish(self, *names: str, at: float | None = None) -> None:
        """Publish messages that are called by their key, one letter, and a number."""
        messages = [Message(name, name[0], name.encode(), {}, at) for name in names]
        self.broker.publish(self.topic, messages, self.now)

    def stats(self) -> SubscriptionStats:
        return self.broker.stats(self.topic).subscriptions["main"]


class Member:
    """A consumer that remembers what it has in hand, by name, and how often it was woken."""

    def __init__(self, world: World, prefetch: int = 100) -> None:
        self.world = world
        self.hand: dict[str, Delivery] = {}
        self.woken = 0
        self.consumer = world.broker.attach(world.topic, "main", prefetch, self.wake)

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


# ── Delayed delivery ──────────────────────────────────────────────────────────────────────────────


@both
def test_DLY_1_and_2_a_message_comes_when_it_is_due_and_not_before(topic: Topic) -> None:
    world = World(topic)
    member = Member(world)
    world.publish("a1", at=world.now + 60)
    world.now += 59.999
    assert member.take() == []
    world.now += 0.001
    world.broker.due(world.now)
    assert member.woken == 1
    assert member.take() == ["a1"]
    assert member.hand["a1"].published_at == world.now - 60


@both
def test_DLY_3_a_time_that_is_past_means_at_once(topic: Topic) -> None:
    world = World(topic)
    world.publish("a1", at=world.now)
    world.publish("a2", at=0.0)
    assert Member(world).take() == ["a1", "a2"]


@both
def test_DLY_4_delays_fire_in_due_order_then_in_publish_order(topic: Topic) -> None:
    world = World(topic)
    for name, delay in (("a1", 30), ("a2", 10), ("a3", 20), ("a4", 10)):
        world.publish(name, at=world.now + delay)
    world.now += 100
    assert Member(world).take() == ["a2", "a4", "a3", "a1"]


def test_DLY_5_and_6_it_blocks_nobody_and_joins_the_end_of_its_key() -> None:
    world = World()
    member, other = Member(world), Member(world)
    world.publish("a1", at=world.now + 10)
    world.publish("a2")
    assert member.take() == ["a2"]
    world.now += 10
    assert other.take() == []  # due, but its key is held
    world.publish("a3")
    assert member.take() == ["a1", "a3"]


def test_DLY_8_a_hundred_thousand_are_put_off_for_a_day() -> None:
    world = World()
    count = 100_000
    due = [world.now + 86_400 + (number * 7919) % count for number in range(count)]
    world.broker.publish(KEYED, [Message("", str(number), b"", {}, at) for number, at in enumerate(due)], world.now)
    assert world.stats() == SubscriptionStats(backlog=0, unacked=0, delayed=count, consumers=0)
    assert world.broker.find_next_due() == world.now + 86_400
    world.broker.due(world.now + 86_400 + count)
    assert world.stats() == SubscriptionStats(backlog=count, unacked=0, delayed=0, consumers=0)


@both
def test_DLY_9_a_nack_does_not_apply_the_delay_again(topic: Topic) -> None:
    world = World(topic)
    member = Member(world)
    world.publish("a1", at=world.now + 10)
    world.now += 10
    member.take()
    member.nack("a1")
    assert member.take() == ["a1"]
    world.broker.detach(member.consumer)
    assert Member(world).take() == ["a1"]


def test_the_alarm_tells_the_earliest_due_time() -> None:
    world = World()
    alarms: list[float] = []
    world.broker.alarm = alarms.append
    world.publish("a1", at=world.now + 10)
    world.publish("a2", at=world.now + 5)
    world.publish("b1")
    member = Member(world)
    member.take()
    member.nack("b1", 2)
    assert alarms == [world.now + 10, world.now + 5, world.now + 2]


@both
def test_time_never_goes_back(topic: Topic) -> None:
    world = World(topic)
    world.publish("a1")
    member = Member(world)
    member.take()
    member.nack("a1", 10)
    world.now += 10
    world.broker.due(world.now)
    world.now -= 5
    assert member.take() == ["a1"]


# ── Retry, flow, payloads ─────────────────────────────────────────────────────────────────────────


@both
def test_RED_1_a_nack_comes_again_after_its_delay_however_often(topic: Topic) -> None:
    world = World(topic)
    member = Member(world)
    world.publish("a1")
    for attempt in range(1, 20):
        assert member.take() == ["a1"]
        assert member.hand["a1"].attempt == attempt  # RED-3, RED-11
        assert member.hand["a1"].published_at == 1000.0
        member.nack("a1", 1)
        assert member.take() == []
        world.now += 1
    assert world.stats() == SubscriptionStats(backlog=0, unacked=0, delayed=1, consumers=1)


@both
@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_RED_1_a_nack_wakes_who_waits(topic: Topic, delay: float) -> None:
    world = World(topic)
    member, other = Member(world), Member(world)
    world.publish("a1")
    member.take()
    other.take()
    member.nack("a1", delay)
    assert other.woken == (0 if delay else 1)
    world.now += delay
    world.broker.due(world.now)
    assert other.woken == 1
    assert other.take() == ["a1"]


@both
def test_RED_7_a_second_ack_does_nothing_and_a_nack_after_it_resurrects_nothing(topic: Topic) -> None:
    world = World(topic)
    member = Member(world)
    world.publish("a1", "a2")
    member.take()
    member.ack("a1", "a1")
    member.ack("a1")
    member.nack("a1")
    assert member.take() == []
    assert world.stats() == SubscriptionStats(backlog=0, unacked=1, delayed=0, consumers=1)


@both
def test_RED_2_the_ack_of_an_earlier_delivery_is_stale(topic: Topic) -> None:
    world = World(topic)
    member = Member(world)
    world.publish("a1")
    member.take()
    first = member.hand["a1"]
    member.nack("a1")
    member.take()
    world.broker.ack(member.consumer, [first])
    world.broker.nack(member.consumer, first, 0.0, world.now)
    assert world.stats().unacked == 1


@both
def test_FLO_1_and_2_no_more_than_prefetch_in_hand_and_one_ack_resumes(topic: Topic) -> None:
    world = World(topic)
    member = Member(world, 2)
    world.publish("a1", "a2", "a3", "b1")
    assert member.take() == ["a1", "a2"]
    assert member.take() == []
    assert member.woken == 0
    member.ack("a1")
    assert member.woken == 1
    assert member.take() == ["b1"] if topic is KEYED else ["a3"]


@both
def test_FLO_2_a_nack_resumes_as_well(topic: Topic) -> None:
    world = World(topic)
    member = Member(world, 1)
    world.publish("a1")
    member.take()
    member.take()
    member.nack("a1")
    assert member.woken == 1
    assert member.take() == ["a1"]


@both
def test_FLO_3_a_slow_consumer_starves_nobody(topic: Topic) -> None:
    world = World(topic)
    slow, quick = Member(world, 1), Member(world)
    slow.take()
    world.publish("a1", "b1", "c1")
    assert slow.take() == ["a1"]
    slow.take()
    assert quick.take() == ["b1", "c1"]


def test_PAY_1_and_PER_8_a_body_above_the_limit_and_all_beside_it_are_refused() -> None:
    broker = Broker(max_payload=4)
    broker.declare([SHARED])
    with pytest.raises(MessageTooLarge, match=r"5 bytes for shared is above the limit of 4"):
        broker.publish(SHARED, [Message("small", None, b"1"), Message("big", None, b"12345")], 0.0)
    assert broker.stats(SHARED).subscriptions["main"].backlog == 0
    broker.publish(SHARED, [Message("most", None, b"1234"), Message("none", None, b"")], 0.0)
    assert broker.stats(SHARED).subscriptions["main"].backlog == 2


def test_PAY_2_and_RED_10_bodies_are_exact_and_headers_are_frozen() -> None:
    world = World()
    headers = {f"name-{number}": f"é\0{number}" for number in range(100)}
    world.broker.publish(KEYED, [Message("m", "k", b"\xff\x00\xfe", headers)], 0.0)
    expected = dict(headers)
    headers.clear()
    member = Member(world)
    member.take()
    got = member.hand["m"].message
    assert (got.body, dict(got.headers)) == (b"\xff\x00\xfe", expected)
    assert not hasattr(got.headers, "clear")


# ── Random runs against a model ───────────────────────────────────────────────────────────────────


class Player:
    """A consumer of the model: what it must have in hand, and whether it waits for a wake-up."""

    def __init__(self, model: Model) -> None:
        self.hand: dict[str, Delivery] = {}
        self.waits = False
        self.called = False
        self.consumer = model.broker.attach(model.topic, "main", model.prefetch, self.wake)

    def wake(self) -> None:
        assert self.waits, "woken without having asked, or twice"
        self.waits = False
        self.called = True


class Model:
    """What the contract says of one subscription, in the plainest way: lists that are searched."""

    prefetch = 4

    def __init__(self, topic: Topic, choose: Choose | None) -> None:
        self.topic = topic
        self.broker = Broker(choose=choose)
        self.broker.declare([topic])
        self.now = 0.0
        self.names = count()
        self.later: list[tuple[float, str]] = []  # published, not due
        self.order: list[str] = []  # joined, not acknowledged
        self.attempts: Counter[str] = Counter()
        self.blocked_until: dict[str, float] = {}  # by a nack
        self.players = [Player(self) for _ in range(3)]

    def step(self, what: str, who: int, number: int) -> None:
        player = self.players[who]
        mine = list(player.hand)
        match what:
            case "publish":
                name = f"{'abc'[who]}{next(self.names)}"
                due = self.now + number - 3
                self.broker.publish(self.topic, [Message(name, name[0], b"", {}, due)], self.now)
                self.order.append(name) if due <= self.now else self.later.append((due, name))
            case "take":
                self.take(player, number + 1)
            case "ack" if mine:
                name = mine[number % len(mine)]
                self.broker.ack(player.consumer, [player.hand.pop(name)])
                self.order.remove(name)
            case "nack" if mine:
                name = mine[number % len(mine)]
                self.broker.nack(player.consumer, player.hand.pop(name), float(number - 3), self.now)
                self.blocked_until[name] = self.now + number - 3
            case "stop":
                self.broker.stop_waiting(player.consumer)
                player.waits = player.called = False
            case "leave":
                player.waits = True  # it may be woken to learn that it is closed
                self.broker.crash(player.consumer)
                self.players[who] = Player(self)
            case "pass":
                self.now += number
                for due, name in sorted((each for each in self.later if each[0] <= self.now), key=lambda each: each[0]):
                    self.later.remove((due, name))
                    self.order.append(name)
                self.broker.due(self.now)
            case _:
                pass

    def take(self, player: Player, limit: int) -> None:
        player.called, player.waits = False, False
        deliveries = self.broker.take(player.consumer, limit, self.now)
        assert len(deliveries) <= limit
        player.waits = not deliveries
        if not deliveries and len(player.hand) < self.prefetch:
            assert not self.what_may_be_had_by(player), "there is something to take"
        for delivery in deliveries:
            name = delivery.message.id
            assert self.may_have(player, name), f"{name} is not to be handed out now"
            self.attempts[name] += 1
            assert delivery.attempt == self.attempts[name]
            player.hand[name] = delivery
            assert len(player.hand) <= self.prefetch

    def may_have(self, player: Player, name: str) -> bool:
        if name not in self.order or any(name in each.hand for each in self.players):
            return False
        if self.blocked_until.get(name, 0.0) > self.now:
            return False
        if self.topic is SHARED:
            return True
        of_key = [each for each in self.order if each[0] == name[0]]
        elsewhere = {each for other in self.players if other is not player for each in other.hand}
        before = of_key[: of_key.index(name)]
        return elsewhere.isdisjoint(of_key) and all(each in player.hand for each in before)

    def what_may_be_had_by(self, player: Player) -> list[str]:
        return [name for name in self.order if self.may_have(player, name)]

    def let_the_woken_take(self) -> None:
        while called := [player for player in self.players if player.called]:
            self.take(called[0], 2)
        for player in self.players:
            if player.waits and len(player.hand) < self.prefetch:
                assert not self.what_may_be_had_by(player), "somebody sleeps on"

    def check_counts(self) -> None:
        stats = self.broker.stats(self.topic).subscriptions["main"]
        in_hand = sum(len(player.hand) for player in self.players)
        assert stats.unacked == in_hand
        assert stats.backlog + stats.unacked + stats.delayed == len(self.order) + len(self.later)

    def finish(self) -> None:
        """All messages that were accepted and not acknowledged can be received, in order."""
        self.step("pass", 0, 100)
        for who in range(3):
            self.step("leave", who, 0)
        while self.order:
            self.take(self.players[0], 3)
            assert self.players[0].hand
            while self.players[0].hand:
                self.step("ack", 0, 0)
        assert self.broker.stats(self.topic).subscriptions["main"] == SubscriptionStats(0, 0, 0, 3)


STEPS = st.tuples(
    st.sampled_from(["publish", "publish", "take", "take", "ack", "nack", "stop", "leave", "pass", "wake"]),
    st.integers(0, 2),
    st.integers(0, 6),
)


@both
@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=50, max_size=50), st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_RED_9_random_runs_agree_with_the_model(
    topic: Topic, steps: Sequence[tuple[str, int, int]], choices: Sequence[int] | None
) -> None:
    draws = cycle(choices or [0])
    model = Model(topic, None if choices is None else lambda what, count: next(draws) % count)
    for what, who, number in steps:
        if what == "wake":
            model.let_the_woken_take()
        else:
            model.step(what, who, number)
        model.check_counts()
    model.finish()
