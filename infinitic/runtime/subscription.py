"""Joining the main subscription of a topic, and settling what it gave; waits with backoff while the broker is away."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.runtime.backoff import insist
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery


class Subscription:
    """The consumer of one component, on the main subscription of `topic`, with at most `prefetch` messages in hand."""

    def __init__(self, publisher: Publisher, topic: Topic, prefetch: int) -> None:
        self._publisher = publisher
        self._topic = topic
        self._prefetch = prefetch
        self._consumer: Consumer | None = None

    @property
    def consumer(self) -> Consumer:
        """The consumer, once joined."""
        assert self._consumer is not None, f"{self._topic.name} is not joined yet"
        return self._consumer

    async def join(self) -> Consumer:
        """Declare the topic and subscribe."""
        topic, transport = self._topic, self._publisher.transport
        await self._publisher.declare(topic)
        self._consumer = await insist(
            f"Subscribing to {topic.name}",
            lambda: transport.subscribe(topic, topic.subscription or "", self._prefetch),
        )
        return self._consumer

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries, if there are any."""
        if deliveries:
            consumer = self.consumer
            await insist(f"Acknowledging on {self._topic.name}", lambda: consumer.ack(deliveries))

    async def close(self) -> None:
        """Give back what is in hand. Nothing happens if it was never joined."""
        if self._consumer is not None:
            await self._consumer.close()
