"""What the rules of the transport suite need: a way to reach a broker, and patient consumers."""

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
    Peeked,
    SubscriptionStats,
    Support,
    Transport,
    UnsupportedCapability,
)

T = TypeVar("T")

KEYED, SHARED = Ordering.KEYED, Ordering.SHARED
MAIN = "main"


class TransportSuite(ABC):
    """How the suite reaches a broker.

    Only `connect` has to be defined. Rules that need another method are skipped without it.

    A broker that runs as a server is the same for all connections of all processes. An *embedded*
    one is a library over files. It lives in its connections, so for it these words mean:

    - a *restart*: all connections are closed, and then opened again,
    - a *crash*: a connection is dropped, and its `close` never runs. `crash` releases what the
      system releases when a process dies, such as its locks, and does nothing else,
    - *durable*: what was accepted is there when the files are opened again, in any process.
    """

    patience: ClassVar[float] = 20.0
    """Seconds to wait for a message that must come."""
    silence: ClassVar[float] = 0.3
    """Seconds to wait for a message that must not come."""
    promptness: ClassVar[float] = 1.0
    """Seconds within which a message must come when it is due, or when it is published (FLO-5). If
    the adapter polls beside its wake-ups, this has to be shorter than its interval."""
    delay: ClassVar[float] = 0.4
    """Seconds by which messages are delayed. It is longer than `silence`."""
    scale: ClassVar[float] = 0.01
    """Multiplies the number of messages in rules that use many; 1.0 has 100,000 delayed ones."""
    virtual: ClassVar[bool] = False
    """Whether `run` has virtual time, so that a day may pass."""
    slow: ClassVar[bool] = False
    """Whether to run, in real time, also what takes a minute: RED-6, and one test of ORD-14."""
    embedded: ClassVar[bool] = False
    """Whether the broker lives in its connections. Then the suite restarts it by itself."""
    deduplication_window: ClassVar[float | None] = None
    """The `deduplication_window` of the connections, in seconds; PER-9 is skipped without it. It is
    waited for, so in real time it must be short."""

    @abstractmethod
    def connect(self) -> Transport:
        """Make a connection to the broker. It is called in the loop, several times in a test."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a test."""
        return asyncio.run(main)

    def clock(self) -> Clock:
        """The clock by which the broker delivers delayed messages."""
        return SystemClock()

    async def crash(self, transport: Transport) -> None:
        """End a connection as a power cut would: nothing tells the broker.

        Rules about lost connections are skipped without it.
        """
        pytest.skip("crash() is not provided")

    def make_connector(self) -> Callable[[], Transport]:
        """Make what connects in *another process*: a function that can be pickled.

        It is called there, in the loop. A class and its arguments are enough, for instance
        ``functools.partial(MyTransport, "mine://localhost")``. The other process finds modules
        where this one does (`sys.path`).

        Rules about processes that are killed are skipped without it.
        """
        pytest.skip("make_connector() is not provided")

    async def restart(self) -> None:
        """Restart the broker, and return when it is up again. Connections are left as they are.

        Rules about restarts are skipped without it. An `embedded` broker does not need it.
        """
        pytest.skip("restart() is not provided")

    async def remove(self, topic: Topic) -> None:
        """Remove a topic with all its messages, as an administrator of the broker may.

        Rules about removed topics are skipped without it.
        """
        pytest.skip("remove() is not provided")

    def many(self, count: int, least: int = 20) -> int:
        """Scale a number of messages for this broker.

        Args:
            count: messages at a `scale` of 1.0.
            least: messages at least.
        """
        return max(least, int(count * self.scale))


def make_mail(*names: str, at: float | None = None) -> list[Message]:
    """Make messages. The key of each is the first letter of its name, and its body is the name.

    Args:
        names: of the messages.
        at: when they are due, in seconds since the Unix epoch; None at once.
    """
    return [Message(name, name[0], name.encode(), {}, at) for name in names]


def make_numbered(key: str, count: int, start: int = 1) -> list[Message]:
    """Make messages of one key, with numbered names.

    Args:
        key: one letter.
        count: how many.
        start: the first number.
    """
    return make_mail(*(f"{key}{number}" for number in range(start, start + count)))


def read_names(deliveries: Iterable[Delivery]) -> list[str]:
    """Read the names of received messages from their bodies."""
    return [delivery.message.body.decode() for delivery in deliveries]


class Peer:
    """A consumer that waits for messages, and can tell that none comes."""

    def __init__(self, suite: TransportSuite, consumer: Consumer, transport: Transport) -> None:
        self.suite = suite
        self.consumer = consumer
        self.transport = transport
        self.ack = consumer.ack
        self.nack = consumer.nack
        self.close = consumer.close

    async def receive(self, limit: int = 100, *, within: float | None = None) -> list[Delivery]:
        """Call `receive` once.

        Args:
            limit: messages at most.
            within: seconds to wait; by default the patience of the suite.
        """
        try:
            async with asyncio.timeout(self.suite.patience if within is None else within):
                got = await self.consumer.receive(limit)
        except TimeoutError:
            raise AssertionError("a message should come, and none came") from None
        assert 0 < len(got) <= limit
        return got

    async def take(self, count: int, *, within: float | None = None) -> list[Delivery]:
        """Receive exactly so many messages.

        Args:
            count: how many.
            within: seconds to wait for each; by default the patience of the suite.
        """
        got: list[Delivery] = []
        while len(got) < count:
            got += await self.receive(count - len(got), within=within)
        return got

    async def expect_nothing(self) -> None:
        """Check that no message comes."""
        got = await self.take_rest()
        assert got == [], f"{read_names(got)[:5]} came"

    async def take_rest(self) -> list[Delivery]:
        """Receive messages until none comes for a while."""
        got: list[Delivery] = []
        try:
            while True:
                async with asyncio.timeout(self.suite.silence):
                    got += await self.consumer.receive(100)
        except TimeoutError:
            return got


class TransportBench:
    """The connections of one test. They are closed at its end."""

    def __init__(self, suite: TransportSuite) -> None:
        self.suite = suite
        self.clock = suite.clock()
        self.connections: list[Transport] = []

    async def __aenter__(self) -> Self:
        self.one = self.connect()
        self.capabilities = self.one.capabilities
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self.connections:
            await transport.close()

    def connect(self) -> Transport:
        """Make one more connection."""
        transport = self.suite.connect()
        self.connections.append(transport)
        return transport

    async def restart(self) -> None:
        """Restart the broker. An embedded one ends with its connections, and `one` is a new one."""
        if not self.suite.embedded:
            await self.suite.restart()
            return
        for transport in self.connections:
            await transport.close()
        self.connections.clear()
        self.one = self.connect()

    async def declare_topic(self, ordering: Ordering = KEYED) -> Topic:
        """Declare a new topic."""
        topic = Topic(f"conformance:{new_id()}", ordering, MAIN)
        await self.one.declare([topic])
        return topic

    async def join(
        self, topic: Topic, prefetch: int = 100, *, on: Transport | None = None, name: str = MAIN, durable: bool = True
    ) -> Peer:
        """Join a subscription.

        Args:
            topic: where.
            prefetch: how many messages may be in hand.
            on: the connection; by default a new one.
            name: of the subscription.
            durable: see `Transport.subscribe`.
        """
        transport = on or self.connect()
        return Peer(self.suite, await transport.subscribe(topic, name, prefetch, durable=durable), transport)

    async def publish(self, topic: Topic, *what: str, at: float | None = None) -> None:
        """Publish messages with these names."""
        await self.one.publish(topic, make_mail(*what, at=at))

    async def stats(self, topic: Topic, name: str = MAIN) -> SubscriptionStats:
        """Ask for the statistics of one subscription."""
        return (await self.one.stats(topic)).subscriptions[name]

    async def peek(self, topic: Topic, limit: int = 100) -> list[Peeked]:
        return await self.one.peek(topic, MAIN, limit)

    async def wait_until_durable(self) -> None:
        """Wait until acknowledgements survive a crash."""
        await asyncio.sleep(self.capabilities.ack_durability)

    async def wait_until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait until a check holds."""
        step = self.suite.patience / 100
        for _ in range(100):
            if await check():
                return
            await asyncio.sleep(step)
        raise AssertionError("the condition did not become true in time")


Body = Callable[[Any, TransportBench], Coroutine[Any, Any, None]]


def parse_rule(test: str) -> str:
    """The id of the rule that a test is named after, such as `EXC-1`."""
    _, theme, number, *_ = test.split("_")
    return f"{theme.upper()}-{number}"


def rule(body: Body) -> Callable[[Any, Callable[[str, object], None]], None]:
    """Make a test of the rule in the name of a function.

    The support that the adapter declares for the rule decides what must hold.
    """
    identifier = parse_rule(body.__name__)

    async def main(suite: TransportSuite) -> tuple[Support, BaseException | None]:
        async with TransportBench(suite) as bench:
            support = bench.capabilities.support(identifier)
            if support is Support.UNSUPPORTED:
                with pytest.raises(UnsupportedCapability):
                    await body(suite, bench)
                return support, None
            try:
                await body(suite, bench)
            except (Exception, pytest.fail.Exception) as failure:
                if support is Support.GUARANTEED:
                    raise
                return support, failure
        return support, None

    def test(self: TransportSuite, record_property: Callable[[str, object], None]) -> None:
        support, failure = self.run(main(self))
        if support is Support.BEST_EFFORT:
            record_property(f"{identifier} held", failure is None)

    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    test.__module__ = body.__module__
    return test
