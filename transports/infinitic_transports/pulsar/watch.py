"""Finds consumers that are cut off from their topic, and ends those that are cut off for good.

The library reconnects by itself, and reports nothing while it cannot. That is so when the broker is
away, which passes, and when the topic was removed, which does not pass. To look costs a call within
the process. REST is asked only about consumers that are cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar.admin import Admin

WATCH_SECONDS = 3.0
"""Seconds between looks."""

LOST_SECONDS = 20.0
"""Seconds for which a consumer may be cut off while its topic exists, before it is ended."""

_logger = logging.getLogger("infinitic.transports.pulsar")


class WatchedConsumer(Protocol):
    """What the watch needs of a consumer."""

    @property
    def topic(self) -> Topic: ...
    @property
    def subscription(self) -> str | None: ...
    @property
    def connected(self) -> bool: ...
    def lose(self, error: TransportError, /) -> None: ...


class ConsumerWatch:
    """Watches all consumers of a transport. It has a task while there are any.

    Args:
        admin: REST, which tells whether a topic exists.
        forget: told of topics that are gone.
    """

    def __init__(self, admin: Admin, forget: Callable[[Topic], None]) -> None:
        self._admin = admin
        self._forget = forget
        self._since: dict[WatchedConsumer, float | None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, consumer: WatchedConsumer) -> None:
        """Watch this consumer from now on."""
        self._since[consumer] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, consumer: WatchedConsumer) -> None:
        """Watch this consumer no more."""
        self._since.pop(consumer, None)
        if not self._since and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            cut_off: list[WatchedConsumer] = []
            for consumer in self._since:
                if consumer.connected:
                    self._since[consumer] = None
                else:
                    cut_off.append(consumer)
            for consumer, found in zip(
                cut_off,
                await asyncio.gather(*(self._check(consumer) for consumer in cut_off), return_exceptions=True),
                strict=True,
            ):
                if isinstance(found, Exception):  # a fault of ours, or an answer that is none of REST
                    _logger.error("Looking at the topic %s failed", consumer.topic.name, exc_info=found)

    async def _check(self, consumer: WatchedConsumer) -> None:
        topic, name = consumer.topic, consumer.subscription
        now = asyncio.get_running_loop().time()
        try:
            if topic.subscription is None:  # nobody else would make it again, and the library goes on once it is there
                await self._admin.make_topic(topic, partitions=None)
                return
            found = await self._admin.list_subscriptions(topic)
        except TransportUnavailable as error:
            _logger.info("The topic %s cannot be reached: %s", topic.name, error)
            self._set_since(consumer, None)
            return
        except TransportError as error:
            _logger.info("It is unknown whether the topic %s exists: %s", topic.name, error)
            found = None if name is None else [name]
            if topic.subscription is None or isinstance(error, TransportClosed):
                return
        if found is None or (name is not None and name not in found):
            what = f"The topic {topic.name!r}" if found is None else f"The subscription {name!r} of {topic.name!r}"
            self._forget(topic)
            consumer.lose(UnknownTopic(f"{what} is gone: it was removed"))
            return
        since = self._since.get(consumer)
        if since is None:
            self._set_since(consumer, now)
        elif now - since >= LOST_SECONDS:
            text = f"The consumer of {topic.name!r} has been cut off for {now - since:.0f} s, although its topic exists"
            consumer.lose(TransportClosed(text))

    def _set_since(self, consumer: WatchedConsumer, since: float | None) -> None:
        if consumer in self._since:
            self._since[consumer] = since
