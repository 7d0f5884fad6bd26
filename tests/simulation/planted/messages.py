"""Bugs around the broker: lost, early and disordered messages, and ids that are used twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.client.requests import Requests
from infinitic.messages import engine
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, TransportUnavailable
from infinitic_transports.memory.delays import DelayQueue
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from tests.simulation.planted.planting import Part, Planter, bug

BROKER = "broker"


@bug(BROKER)
def messages_in_hand_lost(planter: Planter) -> None:
    """What a consumer has in hand when it dies never comes again."""

    def take_back(self: Any, consumer: Any, now: float) -> None:
        self.total -= len(consumer.in_hand)
        consumer.in_hand.clear()

    planter.put(SharedSubscription, "_take_back", take_back)


@bug(BROKER)
def order_lost_after_crash(planter: Planter) -> None:
    """What comes again after the death of a consumer comes behind later messages of its key."""

    def take_back(self: Any, consumer: Any, now: float) -> None:
        queues = dict.fromkeys(consumer.in_hand.values())
        for delivery, queue in consumer.in_hand.items():
            queue.waiting.append(delivery.again())
            queue.handed_out -= 1
        consumer.in_hand.clear()
        consumer.queues.clear()
        for queue in queues:
            queue.holder = None
            queue.offered = True
            self.ready.append(queue)

    planter.put(KeyedSubscription, "_take_back", take_back)


@bug(BROKER)
def delayed_message_early(planter: Planter) -> None:
    """A delayed message comes when half of its delay is over."""

    @planter.wrap(DelayQueue, "add_message")
    def add_message(
        original: Part, self: Any, due: float, subscriptions: Any, message: Message, published_at: float
    ) -> None:
        original(self, (due + published_at) / 2, subscriptions, message, published_at)


@bug(BROKER)
def delayed_message_lost(planter: Planter) -> None:
    """A message that is delayed by more than ten seconds never comes."""

    @planter.wrap(DelayQueue, "add_message")
    def add_message(
        original: Part, self: Any, due: float, subscriptions: Any, message: Message, published_at: float
    ) -> None:
        if due - published_at < 10.0:
            original(self, due, subscriptions, message, published_at)


@bug(BROKER)
def failed_publish_taken_for_done(planter: Planter) -> None:
    """A publish that failed because the broker was away is not tried again."""

    @planter.wrap(Publisher, "send")
    async def send(original: Part, self: Publisher, topic: Topic, messages: Sequence[Message]) -> None:
        if topic.subscription is not None:
            await self.declare(topic)
            with suppress(TransportUnavailable):
                await self.transport.publish(topic, messages)
        else:
            await original(self, topic, messages)


@bug(BROKER)
def dead_letter_lost(planter: Planter) -> None:
    """A message that cannot be handled is acknowledged, but does not become a dead letter."""

    async def dead_letter(self: Any, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        """Publish nothing."""

    planter.put(Publisher, "dead_letter", dead_letter)


@bug(BROKER)
def prefetch_lost_with_session(planter: Planter) -> None:
    """A consumer that is lost acknowledges what it has in hand when it joins again."""

    @planter.wrap(Subscription, "rejoin")
    async def rejoin(original: Part, self: Any) -> bool:
        joined: bool = await original(self)
        if joined and self.topic.ordering is topics.Ordering.KEYED:
            with suppress(TransportUnavailable, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.ack(await self.consumer.receive(5))
        return joined


@bug("client")
def signal_ids_used_twice(planter: Planter) -> None:
    """Signals of equal value to one instance have the same id."""

    @planter.wrap(Requests, "command")
    async def command(original: Part, self: Any, target: Any, confirm: bool, make: Part, hint: str = "") -> Any:
        def make_again(at: float, to: Any) -> Any:
            made = make(at, to)
            if isinstance(made, engine.Signal):
                return replace(made, signal_id=f"{target.workflow_id}-{bytes(made.value)!r}"[:200])
            return made

        return await original(self, target, confirm, make_again, hint)


@bug("client")
def request_numbers_used_twice(planter: Planter) -> None:
    """All requests of a client have the same number, so one gets the answer of another."""

    def number(previous: int, now: float) -> int:
        return 1

    planter.put(ids, "request_number", number)
