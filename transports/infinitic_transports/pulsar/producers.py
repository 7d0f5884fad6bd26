"""The producers of a transport. Each is made when it is first needed.

Those for ephemeral topics are closed when they are idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from infinitic.errors import TransportError
from infinitic.topics import Ordering, Topic
from infinitic.transport import TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.client import PulsarClient
from infinitic_transports.pulsar.names import Names
from infinitic_transports.pulsar.producer import Producer
from infinitic_transports.pulsar.settings import ProducerOptions

_EPHEMERAL_TIMEOUT = 5.0
"""Seconds until a message to a client is given up: its topic may have just been removed."""


class Producers:
    """One producer for each topic.

    A producer that failed is replaced, because its topic may be gone. The old one is closed only
    after everything under way has been answered: closing it would make other publishes fail.

    Args:
        client: the connection to the brokers.
        admin: their REST interface.
        names: how topics are named there.
        options: how messages are sent.
    """

    def __init__(self, client: PulsarClient, admin: Admin, names: Names, options: ProducerOptions) -> None:
        self._admin = admin
        self._client = client
        self._names = names
        self._idle = options.idle_seconds
        self._timeout = options.send_timeout_seconds
        self._limit = max(1, options.max_pending_messages - 50)
        self._limit_bytes = options.max_pending_bytes
        self._producers: dict[str, Producer] = {}
        self._making: dict[str, asyncio.Task[Producer]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    async def send(self, topic: Topic, messages: Sequence[object], sizes: Sequence[int]) -> None:
        """Send messages in order, and return when the broker has accepted all of them.

        Args:
            topic: where they go.
            messages: built for the library.
            sizes: their bytes.

        Raises:
            UnknownTopic: the topic is gone.
            TransportUnavailable: the broker may have none, some or all of them.
            TransportClosed: the transport is closed.
        """
        ephemeral = topic.subscription is None
        producer = self._producers.get(topic.name)
        if producer is not None and ephemeral and not producer.connected:
            # Perhaps the topic is gone. Making a new producer will tell.
            self._drop(topic.name)
            producer = None
        if producer is None:
            producer = await self._make(topic)
        if ephemeral:
            producer.used = asyncio.get_running_loop().time()
        try:
            await producer.send(messages, sizes)
        except (TransportUnavailable, TransportClosed, UnknownTopic) as error:
            if self._producers.get(topic.name) is producer:
                self._drop(topic.name)
            if isinstance(error, TransportUnavailable | TransportClosed) and not self._closed:
                await self._check_again(topic)
            if isinstance(error, TransportClosed) and not self._closed:
                # The broker has closed this producer; this transport is open.
                raise TransportUnavailable(str(error)) from error
            raise

    async def close(self) -> None:
        """Close all producers, once everything under way has been answered."""
        self._closed = True
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        for name in list(self._producers):
            self._drop(name)
        await asyncio.gather(*self._leaving)

    async def _make(self, topic: Topic) -> Producer:
        if self._closed:
            raise TransportClosed("This transport is closed")
        task = self._making.get(topic.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._connect(topic))
            self._making[topic.name] = task
            task.add_done_callback(lambda done: self._add_made(topic, done))
        return await asyncio.shield(task)

    async def _connect(self, topic: Topic) -> Producer:
        ephemeral = topic.subscription is None
        if ephemeral:
            await self._check(topic)
        name, batching = self._names.full(topic), topic.ordering is Ordering.KEYED or ephemeral
        timeout = min(self._timeout, _EPHEMERAL_TIMEOUT) if ephemeral else self._timeout
        raw = await self._client.producer(name, batching=batching, timeout=timeout)
        return Producer(raw, self._client, topic.name, self._limit, self._limit_bytes)

    async def _check(self, topic: Topic) -> None:
        if await self._admin.list_subscriptions(topic) is None:
            why = "gone with its last subscriber, or never had one" if topic.subscription is None else "gone"
            raise UnknownTopic(f"The topic {topic.name!r} is {why}")

    async def _check_again(self, topic: Topic) -> None:
        """Check the topic after a failure.

        It raises `UnknownTopic` if the topic is gone. If that cannot be found out, it raises for
        the topic of a client, and not for another one.
        """
        try:
            await self._check(topic)
        except UnknownTopic:
            raise
        except TransportError:
            if topic.subscription is None:
                raise

    def _add_made(self, topic: Topic, task: asyncio.Task[Producer]) -> None:
        del self._making[topic.name]
        if task.cancelled() or task.exception() is not None:
            return
        producer = self._producers[topic.name] = task.result()
        if topic.subscription is None:
            loop = asyncio.get_running_loop()
            producer.used = loop.time()
            self._timers[topic.name] = loop.call_later(self._idle, self._close_if_idle, topic.name)

    def _close_if_idle(self, name: str) -> None:
        producer = self._producers[name]
        loop = asyncio.get_running_loop()
        rest = producer.used + self._idle - loop.time()
        if producer.busy or rest > 0:
            self._timers[name] = loop.call_later(max(rest, 1.0), self._close_if_idle, name)
        else:
            self._drop(name)

    def _drop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        task = asyncio.get_running_loop().create_task(self._leave(self._producers.pop(name)))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    @staticmethod
    async def _leave(producer: Producer) -> None:
        await producer.wait_until_idle()
        # It may be gone already.
        with contextlib.suppress(TransportError):
            await producer.close()
