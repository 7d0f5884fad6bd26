"""The consumer of a component: it joins, receives and acknowledges, and joins again when lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from infinitic.errors import TransportError
from infinitic.runtime.backoff import Losses, compute_delay, retry_while_unavailable
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic
from infinitic.transport import (
    Consumer,
    Delivery,
    TransportClosed,
    TransportUnavailable,
    UnknownTopic,
    UnsupportedCapability,
)

_logger = logging.getLogger("infinitic.runtime")


class Subscription:
    """The consumer of one component, by default on the main subscription of a topic.

    It waits with backoff while the broker is away.

    Args:
        publisher: declares topics.
        topic: where messages come from.
        prefetch: how many messages may be in hand.
        name: of the subscription; None: the main one.

    Attributes:
        joined: True while it receives: not before it is joined, nor when it is lost or closed.
    """

    def __init__(self, publisher: Publisher, topic: Topic, prefetch: int, *, name: str | None = None) -> None:
        self.topic = topic
        self._publisher = publisher
        self._prefetch = prefetch
        self._name = topic.subscription or "" if name is None else name
        self._consumer: Consumer | None = None
        self._reason: TransportError | None = None
        self._losses = Losses()
        self.joined = False

    @property
    def consumer(self) -> Consumer:
        """The consumer, once joined."""
        assert self._consumer is not None, f"{self.topic.name} is not joined yet"
        return self._consumer

    async def join(self) -> None:
        """Declare the topic and subscribe."""
        topic, transport = self.topic, self._publisher.transport
        await self._publisher.declare(topic)
        self._consumer = await retry_while_unavailable(
            f"Subscribing to {topic.name}",
            lambda: transport.subscribe(topic, self._name, self._prefetch),
        )
        self._losses.note_joined()
        self.joined = True

    async def receive(self, most: int) -> list[Delivery] | None:
        """Wait for at least one message, and take up to `most` of them.

        Returns:
            The messages. None if the consumer is lost, and with it what is in hand. A consumer that
            cannot receive now, for whatever reason, counts as lost.

        Raises:
            UnsupportedCapability: the broker cannot do what is asked for.
        """
        consumer = self.consumer
        try:
            try:
                return await consumer.receive(most)
            except TransportUnavailable:
                return await retry_while_unavailable(f"Receiving on {self.topic.name}", lambda: consumer.receive(most))
        except UnsupportedCapability:
            raise
        except TransportError as error:
            self.joined = False
            self._reason = error
            return None

    async def rejoin(self) -> bool:
        """Declare the topic and subscribe again, until it works.

        False if the transport itself is closed.
        """
        _logger.error("%s: %s; nothing is received until it is joined again", self.topic.name, self._reason)
        await asyncio.sleep(self._losses.note_lost())
        tries = 0
        while True:
            try:
                with suppress(TransportError):
                    await self.close()
                await self.join()
            except TransportClosed:
                return False
            except TransportError as error:
                tries += 1
                log = _logger.warning if tries == 1 else _logger.debug
                log("Joining %s again: %s; trying until it works", self.topic.name, error)
                await asyncio.sleep(compute_delay(tries))
            else:
                _logger.warning("%s: joined again", self.topic.name)
                return True

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries, if there are any.

        Raises:
            TransportClosed: the consumer is lost. They come again.
        """
        if deliveries:
            consumer = self.consumer
            try:
                await consumer.ack(deliveries)
            except TransportUnavailable:
                await retry_while_unavailable(f"Acknowledging on {self.topic.name}", lambda: consumer.ack(deliveries))

    async def ack_if_held(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries whose consumer may be lost by now.

        Then they come again, and are recognised.

        A consumer that may not acknowledge is closed, so that `receive` finds it lost. Otherwise
        all that it has in hand would stay there.
        """
        try:
            await self.ack(deliveries)
        except (TransportClosed, UnknownTopic) as error:
            _logger.debug("%s: %d messages will come again: %s", self.topic.name, len(deliveries), error)
        except TransportError as error:
            _logger.warning("%s: %d messages will come again: %s", self.topic.name, len(deliveries), error)
            with suppress(TransportError):
                await self.consumer.close()

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Give deliveries back to the broker.

        They come again after `delay` seconds, in order within their key.
        """
        consumer = self.consumer
        try:
            for delivery in deliveries:
                await retry_while_unavailable(
                    f"Giving back on {self.topic.name}", partial(consumer.nack, delivery, delay)
                )
        except (TransportClosed, UnknownTopic) as error:
            _logger.debug("%s: all that is in hand will come again: %s", self.topic.name, error)
        except TransportError as error:
            _logger.warning("%s: all that is in hand will come again: %s", self.topic.name, error)
            with suppress(TransportError):
                await consumer.close()

    async def close(self) -> None:
        """Give back what is in hand. Nothing happens if it was never joined."""
        self.joined = False
        if self._consumer is not None:
            await self._consumer.close()
