"""Mutants that cannot look at messages without touching them, or show the wrong ones."""

from __future__ import annotations

from infinitic.topics import Topic
from infinitic.transport import Peeked
from infinitic_transports.memory import Broker, InMemoryTransport
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from infinitic_transports.memory.subscription import QueuedDelivery
from tests.conformance.transport_broken import broken


@broken("PEK-2")
class LooksByReceiving(InMemoryTransport):
    """To look at messages, it receives them, and gives them back."""

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        seen = await super().peek(topic, subscription, limit)
        if seen:
            consumer = await self.subscribe(topic, subscription, limit)
            await consumer.receive(limit)
            await consumer.close()
        return seen


@broken("PEK-3")
class HidesWhatIsInHand(Broker):
    """What a consumer has in hand is not shown."""

    def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        found = self._topics.get(topic.name)
        kept = found.durable.get(subscription) if found is not None else None
        in_hand = {each.message for each in self.list_in_hand(kept)}
        return [each for each in super().peek(topic, subscription, limit) if each.message not in in_hand]

    @staticmethod
    def list_in_hand(kept: object) -> list[QueuedDelivery]:
        if not isinstance(kept, SharedSubscription | KeyedSubscription):
            return []
        return [each for consumer in kept.consumers for each in consumer.in_hand if isinstance(each, QueuedDelivery)]


@broken("PEK-1")
class ShowsAll(Broker):
    """The limit of a peek does not count."""

    def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        return super().peek(topic, subscription, 1_000_000)


@broken("PEK-1")
class NewestFirst(SharedSubscription):
    """The newest message is shown first."""

    def list_unsettled(self) -> list[QueuedDelivery]:
        return super().list_unsettled()[::-1]


@broken("PEK-1")
class KeylessUnseen(KeyedSubscription):
    """Messages without a key are not shown."""

    def list_unsettled(self) -> list[QueuedDelivery]:
        return [each for each in super().list_unsettled() if each.message.key is not None]


@broken("PEK-4")
class NothingIsAnError(Broker):
    """A topic that is not there cannot be looked at."""

    def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        self._topics[topic.name]
        return super().peek(topic, subscription, limit)
