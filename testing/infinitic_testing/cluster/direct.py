"""The connection that a test uses itself: without latency and faults, but seen by observers."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.clock import Clock
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.observing import Observer
from infinitic_transports.memory import Broker, InMemoryTransport

WHO = "client"
"""Who publishes with it, for observers: somebody who is no worker."""


class ObservedTransport(InMemoryTransport):
    """A connection to the broker itself, whose messages observers are told of.

    Args:
        broker: the broker.
        clock: the time of day.
        observer: who is told.
    """

    __slots__ = ("_observer",)

    def __init__(self, broker: Broker, clock: Clock, observer: Observer) -> None:
        super().__init__(broker, clock=clock)
        self._observer = observer

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await super().publish(topic, messages)
        self._observer.published(WHO, topic, messages)
