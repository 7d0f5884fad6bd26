"""A consumer on the far side of the network, which may lose its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, TransportClosed
from infinitic_testing.intercepting import InterceptedConsumer, Operation
from infinitic_testing.network.link import Link
from infinitic_testing.network.sides import Session, run_far
from infinitic_transports.memory.transport import InMemoryConsumer


class NetworkConsumer(InterceptedConsumer, Session):
    """A consumer whose broker may take it for dead.

    Then the broker gives what is in hand to others at once. The process learns of it later, or
    never: either `receive` raises `TransportClosed`, or the consumer is joined again by itself.
    Until then nothing arrives, and acknowledgements do nothing.

    Args:
        inner: the consumer of the broker.
        link: the way there.
        topic: of the consumer.
        join: joins the subscription again, at once.
        forget: called when the consumer has left for good.
    """

    __slots__ = ("_ended", "_forget", "_is_closed", "_is_lost", "_join", "_link", "_news")

    inner: InMemoryConsumer

    def __init__(
        self,
        inner: InMemoryConsumer,
        link: Link,
        topic: Topic,
        join: Callable[[], InMemoryConsumer],
        forget: Callable[[NetworkConsumer], object],
    ) -> None:
        super().__init__(inner, link, topic)
        self._link = link
        self._join = join
        self._forget = forget
        self._is_lost = False
        self._is_closed = False
        self._ended: TransportError | None = None
        self._news: asyncio.Future[None] | None = None

    def end(self) -> None:
        self._is_lost = True
        self.inner.crash()
        self._forget(self)

    def lose(self, seconds: float, *, rejoins: bool) -> None:
        """End the session, as the broker does that takes its process for dead.

        Args:
            seconds: until the process learns of it.
            rejoins: True: it never learns of it. The connection joins again by itself.
        """
        if self._is_lost or self._is_closed or self._ended is not None:
            return
        self._is_lost = True
        # What was on its way to the process never arrives.
        self._received = []
        self.inner.crash()
        tell = self._rejoin if rejoins else partial(self._tell, TransportClosed("The broker has ended this consumer"))
        run_far(seconds, partial(self._link.server.when_up, tell))

    def heal(self) -> None:
        """Join again at once, if the session is lost and the process has not been told."""
        if self._is_lost and self._ended is None:
            self._rejoin()

    async def wait_for_messages(self, max_messages: int) -> list[Delivery]:
        while True:
            if self._ended is not None:
                raise self._ended
            inner = self.inner
            if self._is_lost and not self._is_closed:
                await self._wait_for_news()
                continue
            try:
                received = await inner.receive(max_messages)
            except TransportClosed:
                if self._is_closed or not (self._is_lost or self.inner is not inner):
                    raise
            else:
                violation = self._link.notify(self._link.who, Operation("receive", self.topic), received)
                if violation is not None:
                    raise violation
                return received

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        await self._link.perform(Operation("ack", self.topic, deliveries=settled), partial(self._ack, settled))

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        await self._link.perform(
            Operation("nack", self.topic, deliveries=[delivery]), partial(self._nack, delivery, delay)
        )

    async def close(self) -> None:
        self._is_closed = True
        self._forget(self)
        await self.inner.close()
        self._wake()

    async def _ack(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Acknowledge, and return those that were in hand. The broker ignores the others."""
        self._check()
        if self._is_lost:
            return []
        in_hand = self.inner.in_hand
        settled = [each for each in deliveries if each in in_hand]
        await self.inner.ack(settled)
        return settled

    async def _nack(self, delivery: Delivery, delay: float) -> None:
        self._check()
        if not self._is_lost:
            await self.inner.nack(delivery, delay)

    def _check(self) -> None:
        if self._is_closed:
            raise TransportClosed("This consumer is closed")
        if self._ended is not None:
            raise self._ended

    def _rejoin(self) -> None:
        if not self._is_lost or self._is_closed or self._ended is not None:
            return
        try:
            self.inner = self._join()
        except TransportError as error:
            self._tell(error)
            return
        self._is_lost = False
        self._wake()

    def _tell(self, error: TransportError) -> None:
        """Let the process learn that the consumer is dead, unless it was healed meanwhile."""
        if self._is_lost and self._ended is None:
            self._ended = error
            self._forget(self)
            self._wake()

    async def _wait_for_news(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def cast_consumer(consumer: Consumer) -> InMemoryConsumer:
    """The consumer with its true type: the network stands before in-memory brokers only."""
    assert isinstance(consumer, InMemoryConsumer)
    return consumer
