"""What the rules of the transport conformance suite stand on: the seams to a broker, and patient consumers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, Self, TypeVar

import pytest

from infinitic.clock import Clock, SystemClock
from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Consumer,
    Delivery,
    Message,
    SubscriptionStats,
    Support,
    Transport,
    UnsupportedCapability,
)

T = TypeVar("T")

KEYED, SHARED = Ordering.KEYED, Ordering.SHARED
MAIN = "main"


class Seams(ABC):
    """How the suite reaches a broker. Only `connect` is needed; rules that need another seam are skipped."""

    patience: ClassVar[float] = 20.0
    """Seconds to wait for what must come."""
    silence: ClassVar[float] = 0.3
    """Seconds to wait for what must not come."""
    promptness: ClassVar[float] = 1.0
    """Seconds after its time within which a delayed message must come."""
    delay: ClassVar[float] = 0.4
    """Seconds that messages are put off by; longer than `silence`."""
    scale: ClassVar[float] = 0.01
    """Multiplies the counts of the rules that run with many messages; 1.0 has 100,000 pending."""
    virtual: ClassVar[bool] = False
    """True if `run` has virtual time, so that a day may pass."""

    @abstractmethod
    def connect(self) -> Transport:
        """A new connection to the same broker. It is called in the loop, several times in a test."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a test."""
        return asyncio.run(main)

    def clock(self) -> Clock:
        """The clock that the broker is taken to follow."""
        return SystemClock()

    async def crash(self, transport: Transport) -> None:
        """Cut the power of a connection: nothing of it says goodbye."""
        pytest.skip("crash() is not provided")

    async def restart(self) -> None:
        """Restart the broker; return when it is up again."""
        pytest.skip("restart() is not provided")

    async def remove(self, topic: Topic) -> None:
        """Remove a topic with all that is in it, as an administrator of the broker may."""
        pytest.skip("remove() is not provided")

    def many(self, count: int, least: int = 20) -> int:
        """The count for this broker."""
        return max(least, int(count * self.scale))


def mail(*names: str, at: float | None = None) -> list[Message]:
    """Messages whose key is the first letter of their name, and whose body is the name."""
    return [Message(name, name[0], name.encode(), {}, at) for name in names]


def numbered(key: str, count: int, start: int = 1) -> list[Message]:
    """Messages of one key, numbered."""
    return mail(*(f"{key}{number}" for number in range(start, start + count)))


def names(deliveries: Iterable[Delivery]) -> list[str]:
    """What was received, by body."""
    return [delivery.message.body.decode() for delivery in deliveries]


class Peer:
    """A consumer that waits with patience, and can tell that nothing comes."""

    def __init__(self, seams: Seams, consumer: Consumer, transport: Transport) -> None:
        self.seams = seams
        self.consumer = consumer
        self.transport = transport
        self.ack = consumer.ack
        self.nack = consumer.nack
        self.close = consumer.close

    async def receive(self, limit: int = 100, *, within: float | None = None) -> list[Delivery]:
        """One `receive`."""
        try:
            async with asyncio.timeout(self.seams.patience if within is None else within):
                got = await self.consumer.receive(limit)
        except TimeoutError:
            raise AssertionError("a message was to come, and none came") from None
        assert 0 < len(got) <= limit
        return got

    async def take(self, count: int, *, within: float | None = None) -> list[Delivery]:
        """Receive this many."""
        got: list[Delivery] = []
        while len(got) < count:
            got += await self.receive(count - len(got), within=within)
        return got

    async def nothing(self) -> None:
        """Nothing comes."""
        got = await self.rest()
        assert got == [], f"{names(got)[:5]} came"

    async def rest(self) -> list[Delivery]:
        """All that comes before it is silent."""
        got: list[Delivery] = []
        try:
            while True:
                async with asyncio.timeout(self.seams.silence):
                    got += await self.consumer.receive(100)
        except TimeoutError:
            return got


class Bench:
    """The connections of one test. They are closed at its end."""

    def __init__(self, seams: Seams) -> None:
        self.seams = seams
        self.clock = seams.clock()
        self.connections: list[Transport] = []

    async def __aenter__(self) -> Self:
        self.one = self.connect()
        self.capabilities = self.one.capabilities
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self.connections:
            await transport.close()

    def connect(self) -> Transport:
        """One more connection."""
        transport = self.seams.connect()
        self.connections.append(transport)
        return transport

    async def topic(self, ordering: Ordering = KEYED) -> Topic:
        """A new topic, declared."""
        topic = Topic(f"conformance:{new_id()}", ordering, MAIN)
        await self.one.declare([topic])
        return topic

    async def join(
        self, topic: Topic, prefetch: int = 100, *, on: Transport | None = None, name: str = MAIN, durable: bool = True
    ) -> Peer:
        """A consumer, by default on a connection of its own."""
        transport = on or self.connect()
        return Peer(self.seams, await transport.subscribe(topic, name, prefetch, durable=durable), transport)

    async def publish(self, topic: Topic, *what: str, at: float | None = None) -> None:
        """Publish messages by name."""
        await self.one.publish(topic, mail(*what, at=at))

    async def stats(self, topic: Topic, name: str = MAIN) -> SubscriptionStats:
        """The statistics of one subscription."""
        return (await self.one.stats(topic)).subscriptions[name]

    async def settled(self) -> None:
        """Wait until acknowledgements survive a crash."""
        await asyncio.sleep(self.capabilities.ack_durability)

    async def eventually(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait until a check holds."""
        step = self.seams.patience / 100
        for _ in range(100):
            if await check():
                return
            await asyncio.sleep(step)
        raise AssertionError("it did not come about")


Body = Callable[[Any, Bench], Coroutine[Any, Any, None]]


def rule_of(test: str) -> str:
    """The id of the rule that a test is named after."""
    _, theme, number, *_ = test.split("_")
    return f"{theme.upper()}-{number}"


def rule(body: Body) -> Callable[[Any, Callable[[str, object], None]], None]:
    """A test of the rule in its name, held to the support that the adapter declares for it."""
    identifier = rule_of(body.__name__)

    async def main(seams: Seams) -> tuple[Support, BaseException | None]:
        async with Bench(seams) as bench:
            support = bench.capabilities.support(identifier)
            if support is Support.UNSUPPORTED:
                with pytest.raises(UnsupportedCapability):
                    await body(seams, bench)
                return support, None
            try:
                await body(seams, bench)
            except (Exception, pytest.fail.Exception) as failure:
                if support is Support.GUARANTEED:
                    raise
                return support, failure
        return support, None

    def test(self: Seams, record_property: Callable[[str, object], None]) -> None:
        support, failure = self.run(main(self))
        if support is Support.BEST_EFFORT:
            record_property(f"{identifier} held", failure is None)

    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    test.__module__ = body.__module__
    return test
