"""Sending: all messages of a publish are under way together, and one future waits for the last answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic_transports.pulsar.client import PulsarClient, RawProducer, Result, answered, post
from infinitic_transports.pulsar.errors import error_of

ID = "infinitic.id"
KEY = "infinitic.key"
DUE = "infinitic.due"
_OWN = {ID, KEY, DUE}


def build(library: Any, message: Message, topic: Topic, due: float | None) -> object:
    """The message as the library takes it. A message without key is given one where keys decide who gets it.

    Raises `UsageError` for text that is not Unicode.
    """
    try:
        return _build(library, message, topic, due)
    except (UnicodeEncodeError, TypeError) as error:
        raise UsageError(f"A message for {topic.name} has an id, a key or a header that is no Unicode text") from error


def _build(library: Any, message: Message, topic: Topic, due: float | None) -> object:
    builder = library.MessageBuilder()
    builder.content(message.body)
    for name, value in message.headers.items():
        builder.property(name, value)
    builder.property(ID, message.id)
    key = message.key
    if key:
        builder.partition_key(key)
    else:
        builder.property(KEY, "empty" if key is not None else "none")
        if topic.ordering is Ordering.KEYED:
            builder.partition_key(message.id if key is None else " ")
    if due is not None:
        builder.property(DUE, repr(due))
        builder.deliver_at(int(due * 1000) + 1)
    return builder.build()


def size(message: Message) -> int:
    """Bytes that count towards the limit of the broker, but for what is the same for all."""
    total = len(message.body) + 4 * (len(message.id) + len(message.key or ""))
    if message.headers:
        total += sum(4 * len(name) + 4 * len(value) + 16 for name, value in message.headers.items())
    return total


class _Burst:
    """Messages under way together. The library counts them down from its threads; `next` of a counter is atomic."""

    __slots__ = ("_answers", "_future", "_last", "_loop", "_producer", "failure", "size")

    def __init__(self, producer: Producer, messages: Sequence[object], loop: asyncio.AbstractEventLoop) -> None:
        self._producer = producer
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()
        self._answers = count(1)
        self._last = self.size = len(messages)
        self.failure: str | None = None

    def answer(self, result: Result, _: object) -> None:
        if result != self._producer.ok:
            self.failure = result.name
        if next(self._answers) == self._last:
            post(self._loop, self._done)

    def _done(self) -> None:
        self._producer.landed(self.size)
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> str | None:
        await self._future
        return self.failure


class Producer:
    """The producer of one topic. What is under way stays below the limit of the library, which refuses the rest."""

    __slots__ = ("_idle", "_limit", "_name", "_raw", "_under_way", "_waiting", "_where", "ok", "used")

    def __init__(self, raw: RawProducer, client: PulsarClient, name: str, limit: int) -> None:
        self._raw = raw
        self._name = name
        self._where = client.where
        self._limit = limit
        self._under_way = 0
        self._idle: asyncio.Future[None] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.ok = client.library.Result.Ok
        self.used = 0.0

    @property
    def busy(self) -> bool:
        """True while something is under way."""
        return self._under_way > 0 or bool(self._waiting)

    @property
    def connected(self) -> bool:
        """False after the broker closed it, as it does when the topic is removed."""
        return self._raw.is_connected()

    async def send(self, messages: Sequence[object]) -> None:
        """Return when the broker has accepted all. Raises `TransportError`: it may have some of them, or all."""
        loop = asyncio.get_running_loop()
        start, bursts = 0, list[_Burst]()
        while start < len(messages):
            room = self._limit - self._under_way
            if room <= 0:
                await self._room(loop)
                continue
            batch = messages[start : start + room]
            start += len(batch)
            bursts.append(self._issue(batch, loop))
        failures = [await burst.wait() for burst in bursts]
        for failure in failures:
            if failure is not None:
                raise error_of(failure, f"Publishing to {self._name}", self._where)

    def _issue(self, batch: Sequence[object], loop: asyncio.AbstractEventLoop) -> _Burst:
        burst = _Burst(self, batch, loop)
        self._under_way += len(batch)
        send, answer = self._raw.send_async, burst.answer
        for message in batch:
            send(message, answer)
        return burst

    async def _room(self, loop: asyncio.AbstractEventLoop) -> None:
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
            elif self._under_way < self._limit:
                self._wake()

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def landed(self, number: int) -> None:
        """So many have been answered."""
        self._under_way -= number
        self._wake()
        if self._idle is not None and not self.busy:
            self._idle.set_result(None)
            self._idle = None

    async def idle(self) -> None:
        """Return when nothing is under way. For one caller."""
        if self.busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    async def close(self) -> None:
        """Leave the topic."""
        await answered(f"Closing a producer of {self._name}", self._where, self._raw.close_async)


def own(header: str) -> bool:
    """True for a header that is ours, not the publisher's."""
    return header in _OWN
