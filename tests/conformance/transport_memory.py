"""The transport suite on the in-memory broker, in virtual time."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from infinitic.clock import Clock
from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.conformance.transport import TransportConformance
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import Broker, InMemoryTransport

T = TypeVar("T")


class OnMemory(TransportConformance):
    """What is broken is put in the place of `broker_kind` or `transport_kind`."""

    patience, silence, delay, promptness, scale, virtual = 30.0, 1.0, 2.0, 0.001, 1.0, True
    deduplication_window = 14 * 86_400.0
    broker_kind: ClassVar[type[Broker]] = Broker
    transport_kind: ClassVar[type[InMemoryTransport]] = InMemoryTransport

    @cached_property
    def broker(self) -> Broker:
        return self.broker_kind()

    def connect(self) -> Transport:
        return self.transport_kind(self.broker, clock=self.clock())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return run(main)

    def clock(self) -> Clock:
        return VirtualClock()

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, InMemoryTransport)
        transport.crash()

    async def remove(self, topic: Topic) -> None:
        self.broker.remove(topic)
