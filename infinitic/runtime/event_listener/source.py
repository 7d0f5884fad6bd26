"""One topic of an event listener: receives its events, and acknowledges them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from infinitic.errors import TransportError
from infinitic.messages.decoding import UndecodableMessage
from infinitic.runtime.backoff import retry_while_refused
from infinitic.runtime.event_listener.buffer import EventBuffer, Received
from infinitic.runtime.event_listener.conversion import EventReader
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.topics import Topic
from infinitic.transport import Delivery, TransportClosed

_logger = logging.getLogger("infinitic.events")

RECEIVED_AT_ONCE = 100
"""How many messages are received at once. Each has 256 KiB at most."""


class EventSource:
    """The subscription of a listener to one topic.

    Args:
        topic: the topic.
        subscription: the name of the subscription, which belongs to this listener.
        publisher: declares the topic, and publishes dead letters.
        reader: decodes messages.
        buffer: takes what was received.
        prefetch: how many messages may be in hand.
    """

    def __init__(
        self,
        topic: Topic,
        subscription: str,
        publisher: Publisher,
        reader: EventReader,
        buffer: EventBuffer,
        prefetch: int,
    ) -> None:
        self.topic = topic
        self._publisher = publisher
        self._reader = reader
        self._buffer = buffer
        self._subscription = Subscription(publisher, topic, prefetch, name=subscription)
        self._is_new = True

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    async def join(self) -> None:
        """Join the subscription. From here on, all events are kept for this listener."""
        self._is_new = False
        await self._subscription.join()

    async def run(self) -> None:
        """Receive until cancelled."""
        if self._is_new:
            await self.join()
        while True:
            await self._buffer.wait_for_room()
            received = await self._subscription.receive(RECEIVED_AT_ONCE)
            if received is None:
                self._buffer.discard(self.topic.name)
                if not await self._subscription.rejoin():
                    return
                continue
            without: list[Delivery] = []
            for delivery in received:
                if not await self._accept(delivery):
                    without.append(delivery)
            await self.ack(without)

    async def _accept(self, delivery: Delivery) -> bool:
        """Put the events of a message into the buffer. False if it is done with."""
        try:
            events = self._reader.read(delivery.message.body)
        except UndecodableMessage as error:
            return not await self._give_up(delivery, str(error))
        if not events:
            return False
        self._buffer.add(Received(self.topic.name, delivery, events))
        return True

    async def _give_up(self, delivery: Delivery, reason: str) -> bool:
        """Publish a message to the dead letters. True if it can be acknowledged."""
        _logger.error("%s: a message goes to the dead letters: %s", self.topic.name, reason[:500])
        try:
            await retry_while_refused(
                f"Publishing to the dead letters of {self.topic.name}",
                lambda: self._publisher.dead_letter(self.topic, [delivery], reason),
                seconds=math.inf,
            )
        except TransportClosed:
            return False
        except TransportError as error:
            _logger.error("%s: the dead letter cannot be published: %s", self.topic.name, error)
            return False
        return True

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages that are done with. Those of a lost consumer come again."""
        await self._subscription.ack_if_held(deliveries)

    async def close(self) -> None:
        """Give back what is in hand."""
        await self._subscription.close()
