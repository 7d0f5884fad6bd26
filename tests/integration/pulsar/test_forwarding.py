"""The forwarder, without a broker: in batches, once, and past messages that cannot be published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from infinitic.errors import TransportError
from infinitic.topics import Ordering, Topic, workflow_engine
from infinitic.transport import Delivery, Message, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar import forwarding
from infinitic_transports.pulsar.consumer import PulsarConsumer
from infinitic_transports.pulsar.forwarding import Forwarder
from infinitic_transports.pulsar.names import derive_delayed_topic


class Due:
    """Has these messages, gives back what is given back, and tells when nothing is left."""

    def __init__(self, number: int) -> None:
        self.waiting = [Delivery(Message(str(n), "k", b""), 1, 0.0) for n in range(number)]
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []
        self.empty = asyncio.Event()
        self.more = asyncio.Event()
        self.closed = False

    async def receive(self, limit: int) -> list[Delivery]:
        while not self.waiting:
            self.empty.set()
            await self.more.wait()
            self.more.clear()
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        if self.closed:
            raise TransportClosed("closed")
        self.acknowledged += [each.message.id for each in deliveries]

    async def nack(self, delivery: Delivery, delay: float) -> None:
        assert delay > 0
        self.given_back.append(delivery.message.id)

    async def close(self) -> None:
        self.closed = True


async def never() -> PulsarConsumer:
    raise AssertionError("nothing was lost")


class Broker:
    """Accepts all but some, and only when it is open."""

    def __init__(self, refused: dict[str, TransportError]) -> None:
        self.refused = refused
        self.calls: list[list[str]] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, messages: Sequence[Message]) -> None:
        self.calls.append([each.id for each in messages])
        self.asked.set()
        await self.open.wait()
        for each in messages:
            if each.id in self.refused:
                raise self.refused[each.id]


def forwarded(due: Due, broker: Broker, *more: Due) -> None:
    """Forward what is due, and then what is due later, with the same forwarder."""

    async def run() -> None:
        forwarder = Forwarder(cast(PulsarConsumer, due), broker.publish, never)
        await due.empty.wait()
        for each in more:
            due.waiting = each.waiting
            due.empty.clear()
            due.more.set()
            await due.empty.wait()
        await forwarder.stop()

    asyncio.run(run())


def test_what_is_due_together_is_published_together() -> None:
    due, broker = Due(600), Broker({})
    forwarded(due, broker)
    assert len(broker.calls) == 3
    assert due.acknowledged == [str(n) for n in range(600)]
    assert due.given_back == []


def test_what_cannot_be_published_holds_none_of_the_others_up() -> None:
    """It comes again alone: the others of its batch would be published once more each time."""
    due, broker = Due(5), Broker({"2": TransportError("too large")})
    forwarded(due, broker, Due(4))
    assert broker.calls[0] == ["0", "1", "2", "3", "4"]
    assert broker.calls[1:6] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    assert broker.calls[6:] == [["0", "1", "3"], ["2"]]
    assert due.given_back == ["2", "2"]
    assert "2" not in due.acknowledged


def test_a_broker_that_is_away_is_asked_once() -> None:
    due, broker = Due(5), Broker({"0": TransportUnavailable("away")})
    forwarded(due, broker)
    assert (len(broker.calls), due.acknowledged, len(due.given_back)) == (1, [], 5)


def test_what_is_being_moved_lands_before_it_stops() -> None:
    due, broker = Due(5), Broker({})
    broker.open.clear()

    async def run() -> None:
        forwarder = Forwarder(cast(PulsarConsumer, due), broker.publish, never)
        await broker.asked.wait()
        stopping = asyncio.create_task(forwarder.stop())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not due.closed
        broker.open.set()
        await stopping

    asyncio.run(run())
    assert (len(due.acknowledged), due.closed) == (5, True)


@pytest.mark.parametrize("name", ["Order", "Order-delayed", "delayed:Order"])
def test_where_they_wait_is_no_topic_of_another(name: str) -> None:
    every = [workflow_engine(each) for each in ("Order", "Order-delayed", "delayed:Order")]
    assert derive_delayed_topic(workflow_engine(name)).name not in {each.name for each in every}
    assert derive_delayed_topic(Topic("a", Ordering.KEYED, "main")) != derive_delayed_topic(
        Topic("a-delayed", Ordering.KEYED, "main")
    )


class Lost(Due):
    """Its topic was removed."""

    async def receive(self, limit: int) -> list[Delivery]:
        raise UnknownTopic("gone")


def test_a_consumer_that_is_lost_is_replaced_however_often_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_AGAIN_SECONDS", 0.01)
    lost, next_one, broker, tries = Lost(0), Due(3), Broker({}), list[TransportError]()

    async def replace() -> PulsarConsumer:
        assert lost.closed
        tries.append(TransportUnavailable("away") if not tries else TransportError("something else"))
        if len(tries) == 3:
            return cast(PulsarConsumer, next_one)
        raise tries[-1]

    async def run() -> None:
        forwarder = Forwarder(cast(PulsarConsumer, lost), broker.publish, replace)
        await next_one.empty.wait()
        await forwarder.stop()

    asyncio.run(run())
    assert next_one.acknowledged == ["0", "1", "2"]
    assert next_one.closed


def test_a_forwarder_stops_while_it_waits_for_another_consumer() -> None:
    lost, tried = Lost(0), asyncio.Event()

    async def replace() -> PulsarConsumer:
        tried.set()
        raise TransportUnavailable("away")

    async def run() -> None:
        forwarder = Forwarder(cast(PulsarConsumer, lost), Broker({}).publish, replace)
        async with asyncio.timeout(5):
            await tried.wait()
            await forwarder.stop()

    asyncio.run(run())
