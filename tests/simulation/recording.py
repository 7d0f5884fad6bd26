"""A transport that records what is published through it."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.intercepting import InterceptedTransport, Passing
from infinitic_transports.memory import InMemoryTransport


class RecordingTransport(InterceptedTransport):
    """A connection that records all that it publishes.

    Args:
        inner: the connection.
        published: each message is appended to it, once the broker has it.
    """

    __slots__ = ("_published",)

    inner: InMemoryTransport

    def __init__(self, inner: InMemoryTransport, published: list[tuple[Topic, Message]]) -> None:
        super().__init__(inner, Passing())
        self._published = published

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await self.inner.publish(topic, messages)
        self._published += [(topic, message) for message in messages]

    def crash(self) -> None:
        """End the connection as if its process died."""
        self.inner.crash()
