"""The connection to an in-memory broker: the asyncio shell around `Broker`.

Its verbs run through without suspending, but for a `receive` that has nothing to return: that one waits on a
single future. A broker has at most one timer, for the earliest of what is put off. All connections of a
broker belong to one event loop and are to be given one clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field

from infinitic.clock import Clock, SystemClock
from infinitic.errors import UsageError
from infinitic.plugins import Settings
from infinitic.topics import Topic
from infinitic.transport import (
    Capabilities,
    Consumer,
    Delivery,
    Message,
    TopicStats,
    Transport,
    TransportClosed,
)
from infinitic_transports.memory.broker import Broker
from infinitic_transports.memory.parts import Receiver

_brokers: dict[str, Broker] = {}

_LONGEST_WAIT = 3600.0
"""Seconds until the time of day is looked at again: while a laptop sleeps, loop clocks stand still."""

_SHORTEST_WAIT = 1e-6
"""Seconds. A timer that fires before its time of day, by rounding, must not spin."""


class InMemorySettings(Settings):
    """A broker in this process, for tests and development."""

    name: str = Field(default="default", min_length=1, description="Name of the broker; one of a name in each process")


class InMemoryTransport(Transport):
    """A connection to a broker in this process.

    `broker` is shared with other connections; by default it is one of its own, with `max_payload` (bytes of
    body, default 5 MiB) as its limit. `clock` tells the time of day for `deliver_at`, delays and
    `published_at`. Raises `UsageError` for a `max_payload` beside a `broker`.
    """

    __slots__ = ("_alarm", "_broker", "_closed", "_consumers", "_now", "capabilities")

    Settings: ClassVar[type[BaseModel]] = InMemorySettings

    def __init__(
        self, broker: Broker | None = None, *, clock: Clock | None = None, max_payload: int | None = None
    ) -> None:
        if broker is None:
            broker = Broker() if max_payload is None else Broker(max_payload=max_payload)
        elif max_payload is not None:
            raise UsageError("The limit of a shared broker is its own: give it to Broker(max_payload=…)")
        clock = clock or SystemClock()
        self.capabilities = Capabilities(max_payload=broker.max_payload)
        self._broker = broker
        self._now = clock.now
        self._consumers: dict[_Consumer, None] = {}
        self._closed = False
        self._alarm = broker.alarm if isinstance(broker.alarm, _Alarm) else _Alarm(broker)
        self._alarm.join(clock)

    @classmethod
    def named(cls, name: str = "default", *, clock: Clock | None = None) -> Self:
        """A connection to the broker of this name, which is made once and lives as long as the process."""
        return cls(_brokers.setdefault(name, Broker()), clock=clock)

    @classmethod
    def from_settings(cls, settings: Any, *, horizon: float) -> Self:
        """A connection to the broker of the name in the settings. It keeps no message longer than the process."""
        return cls.named(settings.name)

    @property
    def broker(self) -> Broker:
        """What this connection shares with others."""
        return self._broker

    async def declare(self, topics: Iterable[Topic]) -> None:
        """See `Transport.declare`. Raises `UsageError` if a topic exists with another ordering."""
        self._check_open()
        self._broker.declare(topics)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._check_open()
        self._broker.publish(topic, messages, self._now())

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        """See `Transport.subscribe`. Raises `UnknownTopic` unless the topic is declared or ephemeral."""
        self._check_open()
        if prefetch < 1:
            raise UsageError(f"A prefetch is at least 1, not {prefetch}")
        join = partial(self._broker.attach, topic, subscription, prefetch, durable=durable)
        consumer = _Consumer(self._broker, self._now, self._consumers, join)
        self._alarm.arm()
        return consumer

    async def stats(self, topic: Topic) -> TopicStats:
        self._check_open()
        self._broker.due(self._now())
        return self._broker.stats(topic)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for consumer in list(self._consumers):
                await consumer.close()
            self._alarm.leave()

    def crash(self) -> None:
        """Cut the power of this connection: all that its consumers have in hand goes to others.

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


class _Consumer(Consumer):
    __slots__ = ("_broker", "_now", "_receiver", "_siblings", "_waiter")

    def __init__(
        self,
        broker: Broker,
        now: Callable[[], float],
        siblings: dict[_Consumer, None],
        join: Callable[[Callable[[], None]], Receiver],
    ) -> None:
        self._broker = broker
        self._now = now
        self._waiter: asyncio.Future[None] | None = None
        self._receiver = join(self._wake)
        self._siblings = siblings
        siblings[self] = None

    async def receive(self, max_messages: int) -> list[Delivery]:
        """See `Consumer.receive`. Raises `UsageError` for a `max_messages` below 1, and for a second call."""
        if max_messages < 1:
            raise UsageError(f"At least 1 message is received, not {max_messages}")
        if self._waiter is not None:
            raise UsageError("One `receive` of a consumer at a time")
        while True:
            taken = self._broker.take(self._receiver, max_messages, self._now())
            if taken:
                return taken
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except BaseException:  # cancelled
                self._broker.stop_waiting(self._receiver)
                raise
            finally:
                self._waiter = None

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        if self._receiver.closed:
            raise TransportClosed("This consumer is closed")
        self._broker.ack(self._receiver, deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        if self._receiver.closed:
            raise TransportClosed("This consumer is closed")
        self._broker.nack(self._receiver, delivery, delay, self._now())

    async def close(self) -> None:
        self._broker.detach(self._receiver)
        self._siblings.pop(self, None)

    def crash(self) -> None:
        """Die without a word."""
        self._broker.crash(self._receiver)
        self._siblings.pop(self, None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Alarm:
    """The one timer of a broker, set to the earliest of what is put off while any connection is open.

    It is the broker's `alarm`. It holds the loop of the call that set it, and starts anew on another one.
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
        """A connection is made. Its clock is used from now on: those of earlier ones may belong to a dead loop."""
        self._users += 1
        self._now = clock.now

    def __call__(self, due: float) -> None:
        """Fire at this time of day, if nothing is to fire before."""
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
        """Fire when the broker next has something due, if it has anything put off."""
        due = self._broker.next_due()
        if due is not None:
            self(due)

    def leave(self) -> None:
        """A connection is closed; with the last one the timer goes, and the next connection makes another."""
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
