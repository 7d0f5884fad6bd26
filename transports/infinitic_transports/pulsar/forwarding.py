"""What moves due messages to their KEYED topic, while this process has a consumer there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, TransportClosed, TransportUnavailable
from infinitic_transports.pulsar.consumer import PulsarConsumer

Publish = Callable[[Sequence[Message]], Awaitable[None]]
Start = Callable[[Topic], Awaitable[tuple[PulsarConsumer, Publish]]]

_BATCH = 256
_AGAIN_SECONDS = 1.0


class _Forwarder:
    def __init__(self, consumer: PulsarConsumer, task: asyncio.Task[None]) -> None:
        self.consumer = consumer
        self.task = task

    async def stop(self) -> None:
        await self.consumer.close()
        await asyncio.gather(self.task, return_exceptions=True)


class Forwarders:
    """One for each KEYED topic that is consumed here, shared by its consumers."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._users: dict[str, int] = {}
        self._running: dict[str, _Forwarder] = {}
        self._turn = asyncio.Lock()

    async def join(self, topic: Topic) -> None:
        """There is one more consumer of the topic."""
        async with self._turn:
            if topic.name not in self._running:
                consumer, publish = await self._start(topic)
                task = asyncio.get_running_loop().create_task(forward(consumer, publish))
                self._running[topic.name] = _Forwarder(consumer, task)
            self._users[topic.name] = self._users.get(topic.name, 0) + 1

    async def leave(self, topic: Topic) -> None:
        """There is one less."""
        async with self._turn:
            left = self._users.get(topic.name, 0) - 1
            if left > 0:
                self._users[topic.name] = left
                return
            self._users.pop(topic.name, None)
            running = self._running.pop(topic.name, None)
            if running is not None:
                await running.stop()

    async def close(self) -> None:
        """Stop all."""
        async with self._turn:
            running, self._running = self._running, {}
            for each in running.values():
                await each.stop()


async def forward(consumer: PulsarConsumer, publish: Publish) -> None:
    """Publish what is due to where it belongs, then acknowledge it. Until the consumer is closed."""
    try:
        while True:
            await _move(consumer, publish, await consumer.receive(_BATCH))
    except TransportClosed:
        return


async def _move(consumer: PulsarConsumer, publish: Publish, deliveries: list[Delivery]) -> None:
    try:
        await publish([delivery.message for delivery in deliveries])
    except TransportClosed:
        raise
    except TransportError as error:
        if len(deliveries) > 1 and not isinstance(error, TransportUnavailable):
            for delivery in deliveries:  # one that cannot be published holds none of the others up
                await _move(consumer, publish, [delivery])
            return
        for delivery in deliveries:
            await consumer.nack(delivery, _AGAIN_SECONDS)
    else:
        await consumer.ack(deliveries)
