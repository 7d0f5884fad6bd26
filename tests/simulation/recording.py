"""A transport that records what is published through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infinitic.topics import Topic
from infinitic.transport import Consumer, Message, TopicStats, Transport
from infinitic_transports.memory import InMemoryTransport


class RecordingTransport(Transport):
    """A connection that records all that it publishes.

    Args:
        inner: the connection.
        published: each message is appended to it, once the broker has it.
    """

    __slots__ = ("_inner", "_published", "capabilities")

    def __init__(self, inner: InMemoryTransport, published: list[tuple[Topic, Message]]) -> None:
        self.capabilities = inner.capabilities
        self._inner = inner
        self._published = published

    async def declare(self, topics: Iterable[Topic]) -> None:
        await self._inner.declare(topics)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await self._inner.publish(topic, messages)
        self._published += [(topic, message) for message in messages]

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        return await self._inner.subscribe(topic, subscription, prefetch, durable=durable)

    async def stats(self, topic: Topic) -> TopicStats:
        return await self._inner.stats(topic)

    async def close(self) -> None:
        await self._inner.close()

    def crash(self) -> None:
        """End the connection as if its process died."""
        self._inner.crash()
