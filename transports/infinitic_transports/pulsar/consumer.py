"""Receiving. One request to the library is outstanding at a time.

What the library has already is taken in bursts, and the loop is woken once for each burst.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeVar

from infinitic.clock import Clock
from infinitic.errors import TransportError, UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Consumer, Delivery, TransportClosed, UnknownTopic
from infinitic_transports.pulsar.buffer import BufferedMessage, ReceiveBuffer
from infinitic_transports.pulsar.client import CLOSE_SECONDS, RawMessage, Result, run_on_loop
from infinitic_transports.pulsar.errors import make_error
from infinitic_transports.pulsar.incoming import read_message
from infinitic_transports.pulsar.sources import ACK_GROUPING_SECONDS, Source

T = TypeVar("T")

MAX_WAITING = 20_000
"""Messages that may wait in this process before it takes no more.

The broker gives a consumer at most 50,000.
"""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of the bodies of these before it takes no more."""

RECEIVE_BYTES = 8 * 1024 * 1024
"""Bytes of bodies that one `receive` returns, but for its last message."""

_LONGEST_WAIT = 3600.0
_SHORTEST_WAIT = 1e-3

_logger = logging.getLogger("infinitic.transports.pulsar")


class PulsarConsumer(Consumer):
    """A consumer of a Pulsar topic, see `Consumer`.

    The library calls `_arrived` from its threads, or within `_pump` for messages that it already
    has.

    Args:
        source: where messages come from.
        topic: the topic, for errors.
        subscription: its name; None for a reader.
        prefetch: how many messages may be in hand.
        clock: tells when delayed messages are due.
        ok: the result of a call that succeeded.
        where: the URL of the broker, for errors.
        after_close: called once when the consumer has left.
    """

    def __init__(
        self,
        source: Source,
        topic: Topic,
        subscription: str | None,
        prefetch: int,
        clock: Clock,
        ok: object,
        where: str,
        after_close: Callable[[PulsarConsumer], Awaitable[None]],
    ) -> None:
        self._source = source
        self._topic = self.topic = topic
        self.subscription = subscription
        self._prefetch = prefetch
        self._now = clock.now
        self._ok = ok
        self._where = where
        self._after_close = after_close
        self._loop = asyncio.get_running_loop()
        self._buffer = ReceiveBuffer(keyed=topic.ordering is Ordering.KEYED)
        self._numbers = count(1)
        self._arrivals: deque[tuple[Result, RawMessage]] = deque()
        self._asking = False
        self._waking = False
        self._receiver: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._last_ack = 0.0
        self._failure: TransportError | None = None
        self._wanted = 0
        self._closing: asyncio.Task[None] | None = None

    async def receive(self, max_messages: int) -> list[Delivery]:
        """Wait for messages, see `Consumer.receive`.

        Raises:
            UsageError: `max_messages` is below 1, or another `receive` of this consumer is waiting.
        """
        if max_messages < 1:
            raise UsageError(f"max_messages has to be at least 1, not {max_messages}")
        if self._receiver is not None:
            raise UsageError("Another `receive` of this consumer is waiting: call it once at a time")
        buffer = self._buffer
        while True:
            self._check_open()
            self._wanted = min(max_messages, self._prefetch - len(buffer.in_hand))
            if self._wanted > 0:
                self._pump()
                if buffer.ready:
                    return buffer.take(self._wanted, RECEIVE_BYTES)
            if self._failure is not None:
                raise self._failure
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None

    @property
    def connected(self) -> bool:
        """False while the broker is away, and when the topic is gone. It asks nobody."""
        return self._source.connected

    def lose(self, error: TransportError) -> None:
        """End this consumer: `receive` raises the error, now and in every later call."""
        if self._failure is None and self._closing is None:
            self._failure = error
            self._wake()

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._check_open()
        settle, ack = self._buffer.settle, self._source.ack
        for delivery in deliveries:
            settled = settle(delivery)
            if settled is not None:
                ack(settled)
        self._last_ack = self._loop.time()
        self._wake()

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        self._check_open()
        now = self._now()
        if self._buffer.give_back(delivery, now + delay if delay > 0 else 0.0):
            self._release()
            self._wake()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._source.keeps:
                    rest = self._last_ack + ACK_GROUPING_SECONDS - self._loop.time()
                    if self._last_ack and rest > 0:
                        await asyncio.sleep(rest)
                await self._source.close()
        except (TransportError, TimeoutError):
            # A broker that does not answer gives back what was in hand when the connection ends.
            pass
        finally:
            await self._after_close(self)

    def _pump(self) -> None:
        """Request as many messages as `receive` wants. The rest is for other consumers.

        Messages that were given back do not count, since they would keep new ones away. The library
        hands over what it already has within the call.
        """
        buffer, arrivals = self._buffer, self._arrivals
        while not self._asking and self._closing is None and self._failure is None:
            if arrivals:
                self._unpack()
            room = min(self._wanted + buffer.returned, self._prefetch - len(buffer.in_hand)) - len(buffer.ready)
            size = buffer.ready_bytes - buffer.returned_bytes
            if room <= 0 or size >= RECEIVE_BYTES or self._is_full():
                return
            while room > 0 and size < RECEIVE_BYTES and not self._asking:
                self._asking = True
                self._source.request(self._arrived)
                room -= 1
                if not self._asking and arrivals[-1][0] == self._ok:
                    size += arrivals[-1][1].length()

    def _is_full(self) -> bool:
        buffer = self._buffer
        return buffer.waiting >= MAX_WAITING or buffer.waiting_bytes >= MAX_WAITING_BYTES

    def _arrived(self, result: Result, message: RawMessage) -> None:
        self._arrivals.append((result, message))
        self._asking = False
        if not self._waking:
            self._waking = True
            run_on_loop(self._loop, self._handle_arrivals)

    def _handle_arrivals(self) -> None:
        self._waking = False
        self._unpack()
        if self._receiver is not None:
            self._pump()
            self._wake()

    def _unpack(self) -> None:
        arrivals = self._arrivals
        while arrivals:
            result, raw = arrivals.popleft()
            if result != self._ok:
                error = make_error(result.name, f"Receiving from {self._topic.name}", self._where)
                self.lose(error if isinstance(error, UnknownTopic) else TransportClosed(str(error)))
                continue
            self._keep(raw)

    def _keep(self, raw: RawMessage) -> None:
        """Keep a message, unless it is here already.

        After a lost connection the broker sends messages again that are still here.
        """
        id = raw.message_id()
        identity = id.serialize()
        known = self._buffer.known.get(identity)
        if known is not None:
            known.id = id
            return
        if self._buffer.was_settled(identity):
            self._source.ack(id)
            return
        message = read_message(raw, self._topic)
        due = message.deliver_at or 0.0
        if due and due <= self._now():
            due = 0.0
        buffered = BufferedMessage(id, identity, next(self._numbers), len(message.body))
        self._buffer.add(message, buffered, raw.redelivery_count() + 1, raw.publish_timestamp() / 1000, due)
        if due:
            self._arm()

    def _release(self) -> None:
        self._buffer.release(self._now())
        self._arm()

    def _arm(self) -> None:
        """Arrange to be called when the first delayed message is due."""
        due = self._buffer.find_next_due()
        if due is None or (self._timer is not None and self._armed <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = due
        delay = min(max(due - self._now(), _SHORTEST_WAIT), _LONGEST_WAIT)
        self._timer = self._loop.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._closing is None:
            self._release()
            self._wake()

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise TransportClosed("This consumer is closed")
