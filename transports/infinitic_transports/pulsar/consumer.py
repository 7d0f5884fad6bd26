"""Receiving: one outstanding request to the library at a time, drained in bursts; one wake-up of the loop for each."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeVar

from infinitic.clock import Clock
from infinitic.errors import TransportError, UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Consumer, Delivery, Message, TransportClosed, UnknownTopic
from infinitic_transports.pulsar.client import CLOSE_SECONDS, RawMessage, Result, post
from infinitic_transports.pulsar.errors import error_of
from infinitic_transports.pulsar.held import Held, Shelf
from infinitic_transports.pulsar.outgoing import DUE, ID, KEY, own
from infinitic_transports.pulsar.sources import ACK_GROUPING_SECONDS, Source

T = TypeVar("T")

PARKED = 20_000
"""Messages that are put off in this process before it takes no more: the broker stops at 50,000 a consumer."""

PARKED_BYTES = 64 * 1024 * 1024
"""Bytes of their bodies before it takes no more."""

RECEIVE_BYTES = 8 * 1024 * 1024
"""Bytes of bodies that one `receive` returns, or one message more."""

_LONGEST_WAIT = 3600.0
_SHORTEST_WAIT = 1e-3

_logger = logging.getLogger("infinitic.transports.pulsar")


class PulsarConsumer(Consumer):
    """See `Consumer`. The library calls `_arrived` from its threads, or within `_pump` for what it already has."""

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
        self._shelf = Shelf(keyed=topic.ordering is Ordering.KEYED)
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
        """See `Consumer.receive`. Raises `UsageError` for a `max_messages` below 1, and for a second call."""
        if max_messages < 1:
            raise UsageError(f"At least 1 message is received, not {max_messages}")
        if self._receiver is not None:
            raise UsageError("One `receive` of a consumer at a time")
        shelf = self._shelf
        while True:
            self._check_open()
            self._wanted = min(max_messages, self._prefetch - len(shelf.in_hand))
            if self._wanted > 0:
                self._pump()
                if shelf.ready:
                    return shelf.take(self._wanted, RECEIVE_BYTES)
            if self._failure is not None:
                raise self._failure
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None

    @property
    def connected(self) -> bool:
        """False while the broker is away, and when the topic is gone. Nothing is asked."""
        return self._source.connected

    def lose(self, error: TransportError) -> None:
        """Nothing will come any more: `receive` says why, to whoever waits now and to all who call later."""
        if self._failure is None and self._closing is None:
            self._failure = error
            self._wake()

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._check_open()
        settle, ack = self._shelf.settle, self._source.ack
        for delivery in deliveries:
            settled = settle(delivery)
            if settled is not None:
                ack(settled)
        self._last_ack = self._loop.time()
        self._wake()

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        self._check_open()
        now = self._now()
        if self._shelf.give_back(delivery, now + delay if delay > 0 else 0.0):
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
            pass  # a broker that is away, or frozen, gives back what was in hand when the connection is gone
        finally:
            await self._after_close(self)

    def _pump(self) -> None:
        """Ask for what a receiver wants, and no more: the rest is for other consumers.

        What was given back does not count: it would hide the others. What the library already has comes at once,
        within the call.
        """
        shelf, arrivals = self._shelf, self._arrivals
        while not self._asking and self._closing is None and self._failure is None:
            if arrivals:
                self._unpack()
            room = min(self._wanted + shelf.returned, self._prefetch - len(shelf.in_hand)) - len(shelf.ready)
            size = shelf.ready_bytes - shelf.returned_bytes
            if room <= 0 or size >= RECEIVE_BYTES or self._is_full():
                return
            while room > 0 and size < RECEIVE_BYTES and not self._asking:
                self._asking = True
                self._source.next(self._arrived)
                room -= 1
                if not self._asking and arrivals[-1][0] == self._ok:
                    size += arrivals[-1][1].length()

    def _is_full(self) -> bool:
        shelf = self._shelf
        return shelf.parked >= PARKED or shelf.parked_bytes >= PARKED_BYTES

    def _arrived(self, result: Result, message: RawMessage) -> None:
        self._arrivals.append((result, message))
        self._asking = False
        if not self._waking:
            self._waking = True
            post(self._loop, self._look)

    def _look(self) -> None:
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
                error = error_of(result.name, f"Receiving from {self._topic.name}", self._where)
                self.lose(error if isinstance(error, UnknownTopic) else TransportClosed(str(error)))
                continue
            self._shelve(raw)

    def _shelve(self, raw: RawMessage) -> None:
        """Redelivered after a lost connection while it is still here: it is the same one."""
        id = raw.message_id()
        identity = id.serialize()
        known = self._shelf.known.get(identity)
        if known is not None:
            known.id = id
            return
        if self._shelf.was_settled(identity):
            self._source.ack(id)
            return
        headers = self._decoded(raw.properties, dict[str, str]())
        key: str | None
        match headers.get(KEY):
            case None:
                key = self._decoded(raw.partition_key, "")
            case "none":
                key = None
            case _:
                key = ""
        message_id, body, due = headers.get(ID, ""), raw.data(), 0.0
        if len(headers) == 1 and message_id:
            message = Message(message_id, key, body)
        else:
            due = _due(headers[DUE], self._topic) if DUE in headers else 0.0
            message = Message(message_id, key, body, {k: v for k, v in headers.items() if not own(k)}, due or None)
            if due <= self._now():
                due = 0.0
        held = Held(id, identity, next(self._numbers), len(body))
        self._shelf.arrive(message, held, raw.redelivery_count() + 1, raw.publish_timestamp() / 1000, due)
        if due:
            self._arm()

    def _decoded(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except UnicodeDecodeError as error:
            _logger.warning("A message on %s has a key or headers that are no UTF-8: %s", self._topic.name, error)
            return otherwise

    def _release(self) -> None:
        self._shelf.release(self._now())
        self._arm()

    def _arm(self) -> None:
        """Be called when the first of what is put off is due."""
        due = self._shelf.next_due()
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


def _due(text: str, topic: Topic) -> float:
    """When a message is due; at once if somebody else wrote what is no time."""
    try:
        due = float(text)
    except ValueError:
        due = math.nan
    if math.isfinite(due):
        return due
    _logger.warning("A message on %s has %r for its due time: it is delivered at once", topic.name, text[:40])
    return 0.0
