"""A consumer on the far side of the network, which may lose its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, TransportClosed
from infinitic_testing.intercepting import InterceptedConsumer, Operation
from infinitic_testing.network.fates import make_error
from infinitic_testing.network.link import Link
from infinitic_testing.network.sides import Session, run_at_once, run_far
from infinitic_transports.memory.transport import InMemoryConsumer

ACK_GROUPING = 0.1
"""Seconds for which acknowledgements are collected at most, in the profile "pulsar"."""


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
        groups_acks: whether `ack` returns before the broker knows, as with Pulsar.

    Attributes:
        is_durable: whether its subscription keeps messages while it is away.
    """

    __slots__ = (
        "_acked",
        "_ended",
        "_forget",
        "_groups_acks",
        "_is_closed",
        "_is_lost",
        "_join",
        "_link",
        "_news",
        "_unsent",
        "is_durable",
    )

    inner: InMemoryConsumer

    def __init__(
        self,
        inner: InMemoryConsumer,
        link: Link,
        topic: Topic,
        join: Callable[[], InMemoryConsumer],
        forget: Callable[[NetworkConsumer], object],
        *,
        groups_acks: bool,
        is_durable: bool,
    ) -> None:
        super().__init__(inner, link, topic)
        self.is_durable = is_durable
        self._link = link
        self._join = join
        self._forget = forget
        self._groups_acks = groups_acks
        # Acknowledged by the process, and the broker does not know it yet.
        self._acked: dict[Delivery, None] = {}
        # Those of them that are not on their way yet.
        self._unsent: list[Delivery] = []
        self._is_lost = False
        self._is_closed = False
        self._ended: TransportError | None = None
        self._news: asyncio.Future[None] | None = None

    def end(self) -> None:
        self._is_lost = True
        self._unsent.clear()
        self._acked.clear()
        self.inner.crash()
        self._forget(self)

    def lose(self, seconds: float, *, rejoins: bool) -> None:
        """End the session, as the broker does that takes its process for dead.

        Args:
            seconds: until the process learns of it.
            rejoins: True: it never learns of it. The connection joins again by itself. An ephemeral
                subscription cannot do so: what comes meanwhile would be lost in silence.
        """
        if self._is_lost or self._is_closed or self._ended is not None:
            return
        self._is_lost = True
        # What was on its way to the process never arrives.
        self._received = []
        self._acked.clear()
        self.inner.crash()
        error = TransportClosed("The simulated broker has ended this consumer")
        tell = self.rejoin if rejoins and self.is_durable else partial(self._tell, error)
        run_far(seconds, partial(self._link.path.when_up, tell))

    def rejoin(self) -> None:
        """Join again at once, if the session is lost and the process has not been told."""
        if not self._is_lost or self._is_closed or self._ended is not None:
            return
        try:
            self.inner = self._join()
        except TransportError as error:
            self._tell(error)
            return
        self._is_lost = False
        self._wake()

    async def wait_for_messages(self, max_messages: int) -> list[Delivery]:
        while True:
            if self._ended is not None:
                raise self._ended
            if self._is_lost and not self._is_closed:
                await self._wait_for_news()
                continue
            inner = self.inner
            try:
                received = await inner.receive(max_messages)
            except TransportClosed:
                if self._is_closed or not (self._is_lost or self.inner is not inner):
                    raise
                continue
            violation = self._link.notify(self._link.who, Operation("receive", self.topic), received)
            if violation is not None:
                raise violation
            seconds = self._link.fates.draw_early_redelivery()
            if seconds is not None:
                run_far(seconds, partial(self._redeliver, received))
            return received

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        operation = Operation("ack", self.topic, deliveries=settled)
        seconds = self._link.fates.draw_lost_ack()
        if seconds is not None:
            run_far(seconds, partial(self._redeliver, settled))
            if not self._groups_acks:
                await self._link.perform(operation, partial(self._ack, ()))
                raise make_error("ack", is_outcome_unknown=True)
            self._check()
        elif self._groups_acks:
            self._check()
            if not self._unsent:
                # In the context of the process: if it dies before, they are lost.
                delay = self._link.fates.draw_grouping(ACK_GROUPING)
                asyncio.get_running_loop().call_later(delay, self._send_acks)
            self._unsent += settled
            self._acked |= dict.fromkeys(settled)
        else:
            await self._link.perform(operation, partial(self._ack, settled))

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        if delivery in self._acked:
            return
        operation = Operation("nack", self.topic, deliveries=[delivery])
        await self._link.perform(operation, partial(self._nack, delivery, delay))

    async def close(self) -> None:
        if self._acked and not self._is_closed:
            # They are sent before the consumer leaves.
            acked = list(self._acked)
            self._link.act(Operation("ack", self.topic, deliveries=acked), partial(self._ack, acked))
        self._is_closed = True
        self._forget(self)
        await self.inner.close()
        self._wake()

    def _send_acks(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._is_closed:
            operation = Operation("ack", self.topic, deliveries=unsent)
            # The connection is made again, and then what is not acknowledged comes again.
            self._link.send(operation, partial(self._ack, unsent), if_lost=partial(self._redeliver, unsent))

    async def _ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Acknowledge, and return those of which the broker takes notice."""
        self._check()
        for delivery in deliveries:
            self._acked.pop(delivery, None)
        if self._is_lost:
            return []
        in_hand = self.inner.in_hand
        # For Pulsar it does not matter who has a message in hand.
        settled = list(deliveries) if self._groups_acks else [each for each in deliveries if each in in_hand]
        await self.inner.ack(deliveries)
        return settled

    async def _nack(self, delivery: Delivery, delay: float) -> None:
        self._check()
        if not self._is_lost:
            await self.inner.nack(delivery, delay)

    def _redeliver(self, deliveries: Sequence[Delivery]) -> None:
        """Let those deliveries come again that are in hand, while the process works on them."""
        if self._is_lost or self._is_closed or self._ended is not None:
            return
        for delivery in deliveries:
            run_at_once(partial(self.inner.nack, delivery))

    def _check(self) -> None:
        if self._is_closed:
            raise TransportClosed("This consumer is closed")
        if self._ended is not None:
            raise self._ended

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
