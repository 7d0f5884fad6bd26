"""Dead letters, in virtual time: they are listed, shown, dropped and replayed."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import UsageError, Workflow, topics, workflow
from infinitic.cli.connection import Connection
from infinitic.cli.dead_letters.actions import (
    PARKED_NOTE,
    drop_letters,
    list_letters,
    replay_letters,
    show_letters,
)
from infinitic.cli.project import Project
from infinitic.errors import InfiniticError
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, Peeked, SubscriptionStats, UnsupportedCapability
from infinitic_testing.intercepting import InterceptedTransport, Passing
from infinitic_testing.simulation import Simulation

PAYMENTS = topics.service_executor("Payments")
TRIP = topics.workflow_engine("Trip")


@workflow(name="Trip")
class Trip(Workflow):
    async def go(self, where: str) -> str:
        return f"been in {where}"


def connect(sim: Simulation) -> Connection:
    return Connection(sim.client, sim.transport, sim.storage, Project(("Payments",), {"Trip": ()}))


async def dead_letter(sim: Simulation, topic: Topic, *ids: str, body: bytes = b'{"a": [1]}') -> None:
    deliveries = [Delivery(Message(each, f"key-{each}", body, {"trace": "abc"}), 7, 0.0) for each in ids]
    await Publisher(sim.transport).dead_letter(topic, deliveries, "It broke:\n  badly")


async def count(sim: Simulation, topic: Topic) -> SubscriptionStats | None:
    return (await sim.transport.stats(topic)).subscriptions.get(topic.subscription or "")


async def waiting(sim: Simulation, topic: Topic) -> int:
    found = await count(sim, topic)
    return 0 if found is None else found.backlog + found.unacked


async def test_a_topic_that_does_not_exist_has_no_letters(sim: Simulation) -> None:
    at = connect(sim)
    assert (await list_letters(at, [], [], 10)).total == 0
    assert (await drop_letters(at, ["Nobody"], ["Nothing"], None)).count == 0
    assert (await replay_letters(at, ["Nobody"], ["Nothing"], None)).count == 0
    assert not [name for name in sim.transport.broker.overview() if name.startswith("dlq:")]


async def test_list_and_show_remove_nothing(sim: Simulation) -> None:
    at = connect(sim)
    await dead_letter(sim, PAYMENTS, "a", "b", "c")
    await dead_letter(sim, TRIP, "t")
    found = await list_letters(at, [], [], 10)
    assert [(each.id, each.key, each.topic, each.attempts, each.size) for each in found.letters] == [
        ("a", "key-a", "service-executor:Payments", 7, 10),
        ("b", "key-b", "service-executor:Payments", 7, 10),
        ("c", "key-c", "service-executor:Payments", 7, 10),
        ("t", "key-t", "workflow-engine:Trip", 7, 10),
    ]
    assert (found.total, found.letters[0].cause) == (4, "It broke:\n  badly")
    assert [each.id for each in (await list_letters(at, [], [], 2)).letters] == ["a", "b"]
    assert [each.id for each in (await list_letters(at, [], ["Trip"], 2)).letters] == ["t"]
    (shown,) = await show_letters(at, ["Payments"], [], ["b"])
    assert shown.body == {"a": [1]}
    assert shown.headers == {
        "trace": "abc",
        "infinitic-cause": "It broke:\n  badly",
        "infinitic-topic": "service-executor:Payments",
        "infinitic-attempts": "7",
    }
    stats = await count(sim, topics.dead_letters(PAYMENTS))
    assert stats is not None
    assert (stats.backlog, stats.unacked, stats.consumers) == (3, 0, 0)


async def test_a_body_that_is_not_json_is_shown_as_text(sim: Simulation) -> None:
    await dead_letter(sim, PAYMENTS, "a", body=b"\xffoh")
    (shown,) = await show_letters(connect(sim), ["Payments"], [], ["a"])
    assert shown.body == "\\xffoh"


async def test_drop(sim: Simulation) -> None:
    at = connect(sim)
    await dead_letter(sim, PAYMENTS, *"abcde")
    done = await drop_letters(at, ["Payments"], [], ["b", "x", "d"])
    assert (done.what, done.count, done.missing) == ("dropped", 2, ["x"])
    assert [each.id for each in (await list_letters(at, [], [], 9)).letters] == ["a", "c", "e"]
    assert (await drop_letters(at, ["Payments"], [], None)).count == 3
    assert await waiting(sim, topics.dead_letters(PAYMENTS)) == 0


async def test_replay_by_id(sim: Simulation) -> None:
    at = connect(sim)
    await dead_letter(sim, PAYMENTS, *"abc")
    done = await replay_letters(at, ["Payments"], [], ["c", "a"])
    assert (done.count, done.missing, done.note) == (2, [], "")
    consumer = await sim.transport.subscribe(PAYMENTS, "service-executor", 10)
    came = [each.message for each in await consumer.receive(10)]
    assert [(each.id, each.key, each.body, dict(each.headers)) for each in came] == [
        ("a", "key-a", b'{"a": [1]}', {"trace": "abc"}),
        ("c", "key-c", b'{"a": [1]}', {"trace": "abc"}),
    ]
    assert [each.id for each in (await list_letters(at, [], [], 9)).letters] == ["b"]


async def test_replay_all_in_pages_keeps_the_order(sim: Simulation) -> None:
    ids = [str(number) for number in range(25)]
    await dead_letter(sim, TRIP, *ids)
    done = await replay_letters(connect(sim), [], ["Trip"], None, page=10)
    assert (done.count, done.note) == (25, PARKED_NOTE)
    consumer = await sim.transport.subscribe(TRIP, "state-engine", 100)
    came = [each.message for each in await consumer.receive(100)]
    assert [each.id for each in came if not each.body.startswith(b'{"t":"unpark"')] == ids
    assert [each.key for each in came] == [f"key-{each}" for each in ids for _ in range(2)], (
        "it goes before the letters"
    )
    assert await waiting(sim, topics.dead_letters(TRIP)) == 0


async def test_letters_of_another_consumer_are_shown_and_left_alone(sim: Simulation) -> None:
    await dead_letter(sim, PAYMENTS, "a", "b")
    other = await sim.transport.subscribe(topics.dead_letters(PAYMENTS), "dead-letters", 1)
    await other.receive(1)
    found = await list_letters(connect(sim), [], [], 10)
    assert ([each.id for each in found.letters], found.total) == (["a", "b"], 2)
    (shown,) = await show_letters(connect(sim), [], [], ["a"])
    assert shown.body == {"a": [1]}
    assert (await drop_letters(connect(sim), ["Payments"], [], None)).count == 1
    await other.close()
    assert [each.id for each in (await list_letters(connect(sim), [], [], 10)).letters] == ["a"]


async def test_who_looks_at_letters_takes_none_in_hand(sim: Simulation) -> None:
    await dead_letter(sim, PAYMENTS, "a", "b")
    views = await asyncio.gather(*(list_letters(connect(sim), [], [], 10) for _ in range(3)))
    assert [[each.id for each in view.letters] for view in views] == [["a", "b"]] * 3
    await show_letters(connect(sim), [], [], ["a"])
    consumer = await sim.transport.subscribe(topics.dead_letters(PAYMENTS), "dead-letters", 10)
    assert [each.attempt for each in await consumer.receive(10)] == [1, 1], "nobody had them in hand"


class WithoutPeek(InterceptedTransport):
    """An adapter that cannot look at messages without taking them."""

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        raise UnsupportedCapability("no")


async def test_an_adapter_that_cannot_peek_receives_the_letters_and_gives_them_back(sim: Simulation) -> None:
    await dead_letter(sim, PAYMENTS, "a", "b")
    at = Connection(sim.client, WithoutPeek(sim.transport, Passing()), sim.storage, Project(("Payments",), {}))
    for _ in range(2):
        found = await list_letters(at, [], [], 10)
        assert ([each.id for each in found.letters], found.total) == (["a", "b"], 2)
        (shown,) = await show_letters(at, [], [], ["b"])
        assert shown.id == "b"


async def test_a_letter_of_an_unknown_topic_stays(sim: Simulation) -> None:
    letters = topics.dead_letters(PAYMENTS)
    await sim.transport.declare([letters])
    await sim.transport.publish(letters, [Message("a", None, b"{}", {"infinitic-topic": "elsewhere:Payments"})])
    with pytest.raises(
        InfiniticError,
        match=r"^The letter a cannot be replayed: this release does not know the topic 'elsewhere:Payments'",
    ):
        await replay_letters(connect(sim), ["Payments"], [], None)
    assert await waiting(sim, letters) == 1


async def test_a_letter_that_is_cut_stays(sim: Simulation) -> None:
    await dead_letter(sim, PAYMENTS, "a", body=b"x" * (sim.transport.capabilities.max_payload + 1))
    (shown,) = await show_letters(connect(sim), ["Payments"], [], ["a"])
    assert shown.body == "x" * 64 * 1024
    with pytest.raises(InfiniticError, match=r"^The letter a cannot be replayed: only the beginning of its "):
        await replay_letters(connect(sim), ["Payments"], [], None)
    assert await waiting(sim, topics.dead_letters(PAYMENTS)) == 1


async def test_wrong_usage(sim: Simulation) -> None:
    with pytest.raises(UsageError, match=r"^Say whose dead letters are meant: --service NAME or --workflow NAME$"):
        await drop_letters(connect(sim), [], [], None)
    nothing = r"^There are no dead letters with these ids \(among the first 10,000 of each topic\): x, y$"
    with pytest.raises(InfiniticError, match=nothing):
        await show_letters(connect(sim), ["Payments"], [], ["x", "y"])


async def test_a_workflow_runs_when_its_start_is_replayed(sim: Simulation) -> None:
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).go, "Lisbon")
    engine = await sim.transport.subscribe(TRIP, "state-engine", 10)
    taken = await engine.receive(10)
    await Publisher(sim.transport).dead_letter(TRIP, taken, "no disk")
    await engine.ack(taken)
    await engine.close()
    sim.add_workflow(Trip)
    await replay_letters(connect(sim), [], ["Trip"], [handle.workflow_id])
    assert await handle.result() == "been in Lisbon"
