"""Moves delayed messages to their KEYED topic when they are due, while this process consumes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar.client import CLOSE_SECONDS
from infinitic_transports.pulsar.consumer import PulsarConsumer

Publish = Callable[[Sequence[Message]], Awaitable[None]]
Start = Callable[[Topic], Awaitable[tuple[PulsarConsumer, Publish]]]

_BATCH = 256
_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

_logger = logging.getLogger("infinitic.transports.pulsar")


class Forwarder:
    """Publishes messages that are due to their topic, then acknowledges them.

    Args:
        consumer: receives the messages when they are due.
        publish: publishes them.
        replace: makes a new consumer after this one was lost.
    """

    def __init__(self, consumer: PulsarConsumer, publish: Publish, replace: Callable[[], Awaitable[PulsarConsumer]]):
        self._consumer = consumer
        self._publish = publish
        self._replace = replace
        self._refused: set[str] = set()
        self._idle = False
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop, once the messages being moved are acknowledged: they would be moved twice."""
        self._stopping = True
        if self._idle:
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        self._task.cancel()
        await self._consumer.close()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._forward()
            except (TransportClosed, UnknownTopic) as error:
                self._idle = True
                if not await self._join_again(error):
                    return
                self._idle = False

    async def _join_again(self, reason: TransportError) -> bool:
        """Make the topic and a consumer again, however long it takes.

        False if the whole transport is closed.
        """
        await self._consumer.close()
        pause = _AGAIN_SECONDS
        while True:
            try:
                self._consumer = await self._replace()
            except TransportClosed:
                return False
            except TransportError as error:
                _logger.warning("Delayed messages wait, since their topic is lost (%s): %s", reason, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                _logger.warning("Delayed messages are delivered again. Their topic was lost (%s)", reason)
                return True

    async def _forward(self) -> None:
        while not self._stopping:
            self._idle = True
            deliveries = await self._consumer.receive(_BATCH)
            self._idle = False
            alone = [each for each in deliveries if each.message.id in self._refused]
            together = [each for each in deliveries if each.message.id not in self._refused]
            for batch in (together, *([each] for each in alone)):
                if batch:
                    await self._move(batch)

    async def _move(self, deliveries: list[Delivery]) -> None:
        try:
            await self._publish([delivery.message for delivery in deliveries])
        except TransportClosed:
            raise
        except TransportError as error:
            if len(deliveries) > 1 and not isinstance(error, TransportUnavailable):
                # One message that cannot be published must not hold up the others.
                for delivery in deliveries:
                    await self._move([delivery])
                return
            if not isinstance(error, TransportUnavailable):
                self._refused.add(deliveries[0].message.id)
            for delivery in deliveries:
                await self._consumer.nack(delivery, _AGAIN_SECONDS)
        else:
            await self._consumer.ack(deliveries)
            self._refused.difference_update(delivery.message.id for delivery in deliveries)


class Forwarders:
    """One forwarder for each KEYED topic that is consumed here. The consumers of a topic share it.

    Args:
        start: makes what a forwarder needs: its consumer, and a function that publishes.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._users: dict[str, int] = {}
        self._running: dict[str, Forwarder] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def join(self, topic: Topic) -> None:
        """Count one more consumer of the topic. The first one starts its forwarder."""
        async with self._get_lock(topic.name):
            if topic.name not in self._running:
                self._running[topic.name] = await self._make_forwarder(topic)
            self._users[topic.name] = self._users.get(topic.name, 0) + 1

    async def leave(self, topic: Topic) -> None:
        """Count one consumer less. The last one stops the forwarder."""
        async with self._get_lock(topic.name):
            left = self._users.get(topic.name, 0) - 1
            if left > 0:
                self._users[topic.name] = left
            else:
                self._users.pop(topic.name, None)
                await self._stop(topic.name)

    async def close(self) -> None:
        """Stop all forwarders."""
        await asyncio.gather(*(self._stop(name) for name in list(self._running)))

    async def _make_forwarder(self, topic: Topic) -> Forwarder:
        consumer, publish = await self._start(topic)

        async def replace() -> PulsarConsumer:
            return (await self._start(topic))[0]

        return Forwarder(consumer, publish, replace)

    async def _stop(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is not None:
            await running.stop()

    def _get_lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
