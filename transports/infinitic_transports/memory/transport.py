"""The connection to an in-memory broker: the asyncio shell around `Broker`.

Its methods run without suspending, except a `receive` that has nothing to return: that one waits on
a single future. A broker has at most one timer, for the earliest delayed message. All connections
of a broker belong to one event loop, and have to be given the same clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field

from infinitic.clock import Clock, SystemClock
from infinitic.errors import UsageError
from infinitic.plugins import Settings
from infinitic.topics import Topic
from infinitic.transport import (
    Consumer,
    Delivery,
    Message,
    Peeked,
    TopicStats,
    Transport,
    TransportClosed,
)
from infinitic_transports.memory.broker import Broker
from infinitic_transports.memory.subscription import BrokerConsumer

_brokers: dict[str, Broker] = {}

_LONGEST_WAIT = 3600.0
"""Seconds until the time of day is read again: the clock of a loop stops while a laptop sleeps."""

_SHORTEST_WAIT = 1e-6
"""Seconds. By rounding, a timer may fire early; then it must not fire in a busy loop."""


class InMemoryTransportSettings(Settings):
    """A broker in this process, for tests and development."""

    name: str = Field(default="default", min_length=1, description="Name of the broker. Each process has one of a name")


class InMemoryTransport(Transport):
    """A connection to a broker in this process.

    Nothing is kept on disk: when the process ends, all messages are gone. Use it for tests,
    simulations and development.

    Args:
        broker: the broker, which other connections may share; by default a new one.
        clock: tells the time of day for `deliver_at`, delays and `published_at`.
        max_payload: how many bytes a body may have on the new broker; default is 5 MiB.

    Raises:
        UsageError: `max_payload` was given beside a `broker`, which has a limit of its own.

    Example::

        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage)
    """

    __slots__ = ("_alarm", "_broker", "_closed", "_consumers", "_now", "capabilities")

    Settings: ClassVar[type[BaseModel]] = InMemoryTransportSettings

    def __init__(
        self, broker: Broker | None = None, *, clock: Clock | None = None, max_payload: int | None = None
    ) -> None:
        if broker is None:
            broker = Broker() if max_payload is None else Broker(max_payload=max_payload)
        elif max_payload is not None:
            raise UsageError("A shared broker has a limit of its own: give max_payload to Broker(max_payload=…)")
        clock = clock or SystemClock()
        self.capabilities = broker.capabilities
        self._broker = broker
        self._now = clock.now
        self._consumers: dict[InMemoryConsumer, None] = {}
        self._closed = False
        self._alarm = broker.alarm if isinstance(broker.alarm, _Alarm) else _Alarm(broker)
        self._alarm.join(clock)

    @classmethod
    def named(cls, name: str = "default", *, clock: Clock | None = None) -> Self:
        """Connect to the broker of this name. It is made once, and lives as long as the process.

        Args:
            name: any text.
            clock: tells the time of day, see `InMemoryTransport`.
        """
        return cls(_brokers.setdefault(name, Broker()), clock=clock)

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        """Connect to the broker of the name in the settings. No message outlives the process."""
        return cls.named(settings.name)

    @property
    def broker(self) -> Broker:
        """The broker, which other connections may share."""
        return self._broker

    async def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics, see `Transport.declare`.

        Raises:
            UsageError: a topic exists with another ordering or main subscription.
        """
        self._check_open()
        self._broker.declare(topics)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._check_open()
        self._broker.publish(topic, messages, self._now())

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """Join a subscription, see `Transport.subscribe`.

        Raises:
            UnknownTopic: the topic was not declared, and is not ephemeral.
            UsageError: `prefetch` is below 1.
        """
        self._check_open()
        if prefetch < 1:
            raise UsageError(f"A prefetch has to be at least 1, not {prefetch}")
        join = partial(self._broker.attach, topic, subscription, prefetch, durable=durable)
        consumer = InMemoryConsumer(self._broker, self._now, self._consumers, join)
        self._alarm.arm()
        return consumer

    async def stats(self, topic: Topic) -> TopicStats:
        self._check_open()
        self._broker.due(self._now())
        return self._broker.stats(topic)

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at messages, and take none: see `Transport.peek`.

        Raises:
            UsageError: the limit is below 1.
        """
        self._check_open()
        if limit < 1:
            raise UsageError(f"The limit of a peek has to be at least 1, not {limit}")
        self._broker.due(self._now())
        return self._broker.peek(topic, subscription, limit)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for consumer in list(self._consumers):
                await consumer.close()
            self._alarm.leave()

    def crash(self) -> None:
        """End this connection as a power cut would. What its consumers have in hand goes to others.

        Every later call, and a `receive` that waits, raises `TransportClosed`.
        """
        if not self._closed:
            self._closed = True
            for consumer in list(self._consumers):
                consumer.crash()
            self._alarm.leave()

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed("This transport is closed")


class InMemoryConsumer(Consumer):
    """A consumer of an in-memory broker. `InMemoryTransport.subscribe` makes it."""

    __slots__ = ("_attached", "_broker", "_now", "_siblings", "_waiter")

    def __init__(
        self,
        broker: Broker,
        now: Callable[[], float],
        siblings: dict[InMemoryConsumer, None],
        join: Callable[[Callable[[], None]], BrokerConsumer],
    ) -> None:
        self._broker = broker
        self._now = now
        self._waiter: asyncio.Future[None] | None = None
        self._attached = join(self._wake)
        self._siblings = siblings
        siblings[self] = None

    @property
    def in_hand(self) -> Collection[Delivery]:
        """What was handed over and is not settled, oldest first. It changes with every call."""
        return self._attached.in_hand.keys()

    async def receive(self, max_messages: int) -> list[Delivery]:
        """Wait for messages, see `Consumer.receive`.

        Raises:
            UsageError: `max_messages` is below 1, or another `receive` of this consumer is waiting.
        """
        if max_messages < 1:
            raise UsageError(f"max_messages has to be at least 1, not {max_messages}")
        if self._waiter is not None:
            raise UsageError("Another `receive` of this consumer is waiting: call it once at a time")
        while True:
            taken = self._broker.take(self._attached, max_messages, self._now())
            if taken:
                return taken
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except BaseException:
                # It was cancelled: what it was woken for goes to another consumer.
                self._broker.stop_waiting(self._attached)
                raise
            finally:
                self._waiter = None

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        if self._attached.closed:
            raise TransportClosed("This consumer is closed")
        # The broker notes when it happened.
        self._broker.due(self._now())
        self._broker.ack(self._attached, deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        if self._attached.closed:
            raise TransportClosed("This consumer is closed")
        self._broker.nack(self._attached, delivery, delay, self._now())

    async def close(self) -> None:
        self._broker.detach(self._attached)
        self._siblings.pop(self, None)

    def crash(self) -> None:
        """End without leaving, as a process that dies."""
        self._broker.crash(self._attached)
        self._siblings.pop(self, None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Alarm:
    """The one timer of a broker, set to the earliest delayed message while a connection is open.

    It is the `alarm` of the broker. It keeps the loop of the call that set it, and is set anew on
    another one.
    """

    __slots__ = ("_armed", "_broker", "_handle", "_loop", "_now", "_users")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._armed = inf
        self._users = 0
        broker.alarm = self

    def join(self, clock: Clock) -> None:
        """Count one more connection, and use its clock: earlier ones may belong to a dead loop."""
        self._users += 1
        self._now = clock.now

    def __call__(self, due: float) -> None:
        """Fire at this time of day, unless the timer fires before it anyway."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._disarm()
            self._loop = loop
        if due < self._armed:
            self._disarm()
            self._armed = due
            delay = min(max(due - self._now(), _SHORTEST_WAIT), _LONGEST_WAIT)
            self._handle = loop.call_later(delay, self._fire)

    def arm(self) -> None:
        """Fire when the next delayed message of the broker is due, if there is one."""
        due = self._broker.find_next_due()
        if due is not None:
            self(due)

    def leave(self) -> None:
        """Count one connection less. The last one takes the timer with it."""
        self._users -= 1
        if not self._users:
            self._disarm()
            self._broker.alarm = None

    def _fire(self) -> None:
        self._handle = None
        self._armed = inf
        self._broker.due(self._now())
        self.arm()

    def _disarm(self) -> None:
        self._armed = inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
