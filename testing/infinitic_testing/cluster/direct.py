"""The connection that a test uses itself: without latency and faults, but seen by observers."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.intercepting import Operation
from infinitic_testing.network.network import CLIENT, Network
from infinitic_transports.memory import InMemoryTransport


class ObservedTransport(InMemoryTransport):
    """A connection to the broker of a network, whose messages observers are told of.

    Args:
        network: whose broker it is.
    """

    __slots__ = ("_watch",)

    def __init__(self, network: Network) -> None:
        super().__init__(network.broker, clock=network.clock)
        self._watch = network.watch

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await super().publish(topic, messages)
        self._watch.notify(CLIENT, Operation("publish", topic, messages=messages), None)
