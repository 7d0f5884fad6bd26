"""What forwards due messages, without a broker: in batches, and past what cannot be published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from infinitic.errors import TransportError
from infinitic.topics import Ordering, Topic, workflow_engine
from infinitic.transport import Delivery, Message, TransportClosed, TransportUnavailable
from infinitic_transports.pulsar.consumer import PulsarConsumer
from infinitic_transports.pulsar.forwarding import forward
from infinitic_transports.pulsar.names import delayed


class Due:
    """Has these messages in one batch, and then is closed."""

    def __init__(self, number: int) -> None:
        self.waiting = [Delivery(Message(str(n), "k", b""), 1, 0.0) for n in range(number)]
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []

    async def receive(self, limit: int) -> list[Delivery]:
        if not self.waiting:
            raise TransportClosed("closed")
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += [each.message.id for each in deliveries]

    async def nack(self, delivery: Delivery, delay: float) -> None:
        assert delay > 0
        self.given_back.append(delivery.message.id)


class Broker:
    """Accepts all but some."""

    def __init__(self, refused: dict[str, TransportError]) -> None:
        self.refused = refused
        self.calls: list[list[str]] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.calls.append([each.id for each in messages])
        for each in messages:
            if each.id in self.refused:
                raise self.refused[each.id]


def forwarded(due: Due, broker: Broker) -> None:
    asyncio.run(forward(cast(PulsarConsumer, due), broker.publish))


def test_what_is_due_together_is_published_together() -> None:
    due, broker = Due(600), Broker({})
    forwarded(due, broker)
    assert len(broker.calls) == 3
    assert due.acknowledged == [str(n) for n in range(600)]
    assert due.given_back == []


def test_what_cannot_be_published_holds_none_of_the_others_up() -> None:
    due, broker = Due(5), Broker({"2": TransportError("too large")})
    forwarded(due, broker)
    assert sorted(due.acknowledged) == ["0", "1", "3", "4"]
    assert due.given_back == ["2"]


def test_a_broker_that_is_away_is_asked_once() -> None:
    due, broker = Due(5), Broker({"0": TransportUnavailable("away")})
    forwarded(due, broker)
    assert (len(broker.calls), due.acknowledged, len(due.given_back)) == (1, [], 5)


@pytest.mark.parametrize("name", ["Order", "Order-delayed", "delayed:Order"])
def test_where_they_wait_is_no_topic_of_another(name: str) -> None:
    every = [workflow_engine(each) for each in ("Order", "Order-delayed", "delayed:Order")]
    assert delayed(workflow_engine(name)).name not in {each.name for each in every}
    assert delayed(Topic("a", Ordering.KEYED, "main")) != delayed(Topic("a-delayed", Ordering.KEYED, "main"))
