"""Sends. All messages of a publish are under way together; one future waits for the last answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import count

from infinitic_transports.pulsar.client import PulsarClient, RawProducer, Result, call_async, run_on_loop
from infinitic_transports.pulsar.errors import make_error


class _Burst:
    """Messages that are under way together.

    The library counts the answers in its threads. That needs no lock: `next` of a counter is
    atomic.
    """

    __slots__ = ("_answers", "_bytes", "_future", "_last", "_loop", "_producer", "failure")

    def __init__(self, producer: Producer, number: int, bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._producer = producer
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()
        self._answers = count(1)
        self._last = number
        self._bytes = bytes
        self.failure: str | None = None

    def answer(self, result: Result, _: object) -> None:
        if result != self._producer.ok:
            self.failure = result.name
        if next(self._answers) == self._last:
            run_on_loop(self._loop, self._done)

    def _done(self) -> None:
        self._producer.count_answered(self._last, self._bytes)
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> str | None:
        await self._future
        return self.failure


class Producer:
    """The producer of one topic.

    What is under way stays below the limit of the library, which would refuse the rest. It stays
    below a limit in bytes as well, which the library does not have.

    Args:
        raw: the producer of the library.
        client: the connection.
        name: the topic, for errors.
        limit: messages that may be under way.
        limit_bytes: bytes that they may have. One message may have more.
    """

    __slots__ = (
        "_bytes",
        "_idle",
        "_limit",
        "_limit_bytes",
        "_name",
        "_raw",
        "_under_way",
        "_waiting",
        "_where",
        "ok",
        "used",
    )

    def __init__(self, raw: RawProducer, client: PulsarClient, name: str, limit: int, limit_bytes: int) -> None:
        self._raw = raw
        self._name = name
        self._where = client.where
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._under_way = 0
        self._bytes = 0
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
        """False after the broker has closed it, as it does when the topic is removed."""
        return self._raw.is_connected()

    async def send(self, messages: Sequence[object], sizes: Sequence[int]) -> None:
        """Send messages, and return when the broker has accepted all of them.

        Args:
            messages: built for the library.
            sizes: their bytes.

        Raises:
            TransportError: the broker may have none, some or all of them.
        """
        loop = asyncio.get_running_loop()
        start, bursts = 0, list[_Burst]()
        while start < len(messages):
            end, total = self._find_fitting(sizes, start)
            if end == start:
                await self._wait_for_room(loop)
                continue
            bursts.append(self._issue(messages[start:end], total, loop))
            start = end
        failures = [await burst.wait() for burst in bursts]
        for failure in failures:
            if failure is not None:
                raise make_error(failure, f"Publishing to {self._name}", self._where)

    def _find_fitting(self, sizes: Sequence[int], start: int) -> tuple[int, int]:
        """Find up to which message there is room now, and how many bytes these have."""
        end = min(len(sizes), start + max(0, self._limit - self._under_way))
        total = sum(sizes[start:end])
        while end > start and self._bytes + total > self._limit_bytes and (end > start + 1 or self._under_way):
            end -= 1
            total -= sizes[end]
        return end, total

    def _issue(self, batch: Sequence[object], total: int, loop: asyncio.AbstractEventLoop) -> _Burst:
        burst = _Burst(self, len(batch), total, loop)
        self._under_way += len(batch)
        self._bytes += total
        send, answer = self._raw.send_async, burst.answer
        for message in batch:
            send(message, answer)
        return burst

    async def _wait_for_room(self, loop: asyncio.AbstractEventLoop) -> None:
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

    def count_answered(self, number: int, bytes: int) -> None:
        """Count messages that have been answered, and their bytes."""
        self._under_way -= number
        self._bytes -= bytes
        self._wake()
        if self._idle is not None and not self.busy:
            self._idle.set_result(None)
            self._idle = None

    async def wait_until_idle(self) -> None:
        """Wait until nothing is under way. Only one caller may wait."""
        if self.busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    async def close(self) -> None:
        """Leave the topic."""
        await call_async(f"Closing a producer of {self._name}", self._where, self._raw.close_async)
