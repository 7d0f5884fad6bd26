"""A transport that keeps messages in one folder: an example of an adapter of your own.

It keeps the whole contract of `infinitic.transport`, for the processes of one machine, with the
standard library. It is small, and not fast: each call is a transaction that waits for the disk.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field

from infinitic.clock import SystemClock
from infinitic.errors import TransportError, UsageError
from infinitic.plugins import Settings
from infinitic.topics import Topic
from infinitic.transport import (
    Batch,
    Capabilities,
    Consumer,
    Delivery,
    Message,
    MessageTooLarge,
    Peeked,
    TopicStats,
    Transport,
    TransportClosed,
    UnknownTopic,
    check_batches,
)
from infinitic_shelf.queues import Claimed, Queues
from infinitic_shelf.session import LOOK_SECONDS, Session

T = TypeVar("T")

DEFAULT_MAX_PAYLOAD = 5 * 1024 * 1024


class ShelfTransportSettings(Settings):
    """One folder, for the processes of one machine."""

    path: Path = Field(description="The folder. Created if it is missing")
    max_payload_bytes: int = Field(DEFAULT_MAX_PAYLOAD, gt=0, description="Bytes of the body of one message at most")


class ShelfTransport(Transport):
    """A connection to the queues of a folder.

    A message that nobody acknowledges is kept for ever, which is longer than any deduplication
    window.

    Args:
        path: the folder, which is made if it is missing.
        max_payload: bytes of the body of one message.
    """

    Settings: ClassVar[type[BaseModel]] = ShelfTransportSettings

    def __init__(self, path: Path | str, *, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self.capabilities = Capabilities(max_payload)
        self._now = SystemClock().now
        self._session = Session(Path(path))
        self._thread = ThreadPoolExecutor(1, "infinitic-shelf")
        self._consumers: set[ShelfConsumer] = set()
        self._closing: asyncio.Future[None] | None = None
        self._is_listening = False

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        return cls(settings.path, max_payload=settings.max_payload_bytes)

    async def declare(self, topics: Iterable[Topic]) -> None:
        wanted = list(topics)
        await self.do(lambda queues: queues.declare(wanted))

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        (error,) = await self.publish_all([(topic, messages)])
        if error is not None:
            raise error

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        check_batches(batches)
        now = self._now()

        def publish(queues: Queues) -> list[TransportError | None]:
            return [self._try_to_publish(queues, topic, messages, now) for topic, messages in batches]

        # One transaction for all topics.
        try:
            return await self.do(publish)
        except TransportClosed:
            raise
        except TransportError as error:
            return [error] * len(batches)

    def _try_to_publish(
        self, queues: Queues, topic: Topic, messages: Sequence[Message], now: float
    ) -> TransportError | None:
        limit = self.capabilities.max_payload
        for each in messages:
            # Before anything is written, so that a batch that fails leaves nothing.
            if len(each.body) > limit:
                return MessageTooLarge(len(each.body), limit, topic.name)
            if each.deliver_at is not None and not math.isfinite(each.deliver_at):
                raise UsageError(f"A message is to be delivered at {each.deliver_at}, which is not a time")
        try:
            queues.publish(topic, messages, now)
        except UnknownTopic as error:
            return error
        return None

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        if prefetch < 1:
            raise UsageError(f"A prefetch has to be at least 1, not {prefetch}")

        def join(queues: Queues) -> tuple[int, int]:
            return queues.join(self._session.number, topic, subscription, durable=durable)

        # If this is cancelled, a consumer may stay that takes nothing. It goes with the connection.
        joined = await self.do(join)
        self._listen()
        consumer = ShelfConsumer(self, *joined, prefetch)
        self._consumers.add(consumer)
        return consumer

    async def stats(self, topic: Topic) -> TopicStats:
        now = self._now()
        return await self.do(lambda queues: queues.stats(topic, now))

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        if limit < 1:
            raise UsageError(f"The limit of a peek has to be at least 1, not {limit}")
        now = self._now()
        return await self.do(lambda queues: queues.peek(topic, subscription, limit, now))

    async def remove(self, topic: Topic) -> None:
        """Remove a topic with all its messages, as an administrator may."""
        await self.do(lambda queues: queues.remove(topic))

    async def close(self) -> None:
        await self._end(self._session.close)

    async def crash(self) -> None:
        """Drop the connection, as the end of the process does. For tests."""
        await self._end(self._session.drop)

    async def do(self, verb: Callable[[Queues], T], then: Callable[[T], object] | None = None) -> T:
        """Run a verb in the thread, alone with the file.

        If it is cancelled before its turn, it never runs. Later, it runs to its end.

        Args:
            verb: what to run in a transaction.
            then: called in the thread with the result, after the commit. This may be cancelled by
                then.
        """
        if self._closing is not None:
            raise TransportClosed("This transport is closed")

        def alone() -> T:
            result = self._session.run(verb)
            if then is not None:
                then(result)
            return result

        return await asyncio.get_running_loop().run_in_executor(self._thread, alone)

    def forget(self, consumer: ShelfConsumer) -> None:
        self._consumers.discard(consumer)

    async def _end(self, end: Callable[[], None]) -> None:
        if self._closing is None:
            loop = asyncio.get_running_loop()
            if self._is_listening and self._session.socket is not None:
                loop.remove_reader(self._session.socket)
            self._closing = loop.run_in_executor(self._thread, end)
            self._thread.shutdown(wait=False)
            for consumer in self._consumers:
                consumer.wake()
        await asyncio.shield(self._closing)

    def _listen(self) -> None:
        if not self._is_listening and self._session.socket is not None and self._closing is None:
            self._is_listening = True
            asyncio.get_running_loop().add_reader(self._session.socket, self._hear)

    def _hear(self) -> None:
        assert self._session.socket is not None
        with suppress(BlockingIOError):
            while True:
                self._session.socket.recv(1)
        for consumer in self._consumers:
            consumer.wake()


class ShelfConsumer(Consumer):
    """A consumer. `ShelfTransport.subscribe` makes it."""

    def __init__(self, transport: ShelfTransport, subscription: int, number: int, prefetch: int) -> None:
        self._transport = transport
        self._subscription = subscription
        self._number = number
        self._prefetch = prefetch
        # What the thread has taken in hand. A `receive` that is cancelled leaves it to the next.
        self._taken: deque[Delivery] = deque()
        self._woken = asyncio.Event()
        self._is_receiving = False
        self._is_closed = False

    async def receive(self, max_messages: int) -> list[Delivery]:
        if max_messages < 1:
            raise UsageError(f"max_messages has to be at least 1, not {max_messages}")
        if self._is_receiving:
            raise UsageError("Another `receive` of this consumer is waiting: call it once at a time")
        self._is_receiving = True
        try:
            while True:
                self._check_open()
                self._woken.clear()
                seconds = 0.0 if self._taken else await self._take(max_messages)
                if self._taken:
                    return [self._taken.popleft() for _ in range(min(max_messages, len(self._taken)))]
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._woken.wait()
        finally:
            self._is_receiving = False

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._check_open()
        settled = list(deliveries)
        await self._transport.do(lambda queues: queues.ack(self._subscription, self._number, settled))

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        self._check_open()
        ready_at = SystemClock().now() + max(0.0, delay)
        await self._transport.do(lambda queues: queues.nack(self._subscription, self._number, delivery, ready_at))

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.wake()
            self._transport.forget(self)
            with suppress(TransportClosed):
                await asyncio.shield(self._transport.do(lambda queues: queues.leave(self._number)))

    def wake(self) -> None:
        self._woken.set()

    async def _take(self, limit: int) -> float:
        """Take messages in hand, and return the seconds after which to look again."""
        now = SystemClock().now()

        def claim(queues: Queues) -> Claimed:
            return queues.claim(self._subscription, self._number, limit, self._prefetch, now)

        # After the commit, and in the thread: so nothing is lost if this is cancelled.
        _, next_time = await self._transport.do(claim, lambda claimed: self._taken.extend(claimed[0]))
        return min(LOOK_SECONDS, max(0.0, next_time - now))

    def _check_open(self) -> None:
        if self._is_closed:
            raise TransportClosed("This consumer is closed")
