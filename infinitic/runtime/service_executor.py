"""The executor of one service: long-lived pool members run attempts, a flusher publishes and acknowledges reports.

An attempt is done when its report is published, not before: only then is its message acknowledged. A repeat that comes
earlier is acknowledged with it, one that comes later at once; neither is run. A message that another process may have
died with is counted before it runs (S2).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from infinitic import topics
from infinitic.clock import Clock
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import PayloadUnavailable
from infinitic.messages import service
from infinitic.messages.service import ExecuteTask, check
from infinitic.runtime.attempt import Attempts
from infinitic.runtime.backoff import insist
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.transport import Delivery, Message, MessageTooLarge, Support, TransportClosed

_logger = logging.getLogger("infinitic.executor")

RECENT = 10_000

CODEC_DELAY = 30.0
"""Seconds for which a task is put off whose arguments the payload codec cannot decode now."""

AttemptKey = tuple[str, tuple[int, int, int, int]]


class _Report(NamedTuple):
    """What became of an attempt, and the deliveries of its message so far: more may come until it is published."""

    key: AttemptKey
    message: ExecuteTask
    outgoing: Outgoing
    deliveries: list[Delivery]


class ServiceExecutor:
    """Runs the tasks of one service, at most `concurrency` at a time."""

    def __init__(self, attempts: Attempts, publisher: Publisher, clock: Clock, concurrency: int) -> None:
        self.name = attempts.service.name
        self.topic = topics.service_executor(self.name)
        self._attempts = attempts
        self._publisher = publisher
        self._clock = clock
        self._concurrency = concurrency
        self._waiting: deque[tuple[Delivery, ExecuteTask]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._members = 0
        self._running: dict[AttemptKey, list[Delivery]] = {}
        self._recent: OrderedDict[AttemptKey, None] = OrderedDict()
        self._reports: list[_Report] = []
        self._unpublished: dict[AttemptKey, list[Delivery]] = {}
        self._flush_needed: asyncio.Future[None] | None = None
        self._flushing = False
        self._drained: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._subscription = Subscription(publisher, self.topic, 2 * concurrency)  # of them half is being reported
        self._subscribed_at = 0.0
        counts = publisher.transport.capabilities.support("RED-3") is Support.GUARANTEED
        self._suspects = 0 if counts else concurrency  # a process before had no more in hand

    async def start(self) -> None:
        """Join the subscription."""
        self._subscribed_at = self._clock.now()
        await self._subscription.join()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._receiver = group.create_task(self._receive())
            group.create_task(self._flush())

    async def drain(self) -> None:
        """Stop receiving, hand back what waits, and return when everything that runs has been reported."""
        self._receiver.cancel()
        await self._hand_back()
        while self._running or self._unpublished or self._flushing:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        await self.close()

    async def _hand_back(self) -> None:
        """Publish what waits anew: given back as it is, it would look as if a process had died with it."""
        waiting = [delivery for delivery, _ in self._waiting]
        self._waiting.clear()
        if waiting:
            await self._publisher.send(self.topic, [delivery.message for delivery in waiting])
            await self._subscription.ack(waiting)

    async def close(self) -> None:
        """Give back what is in hand."""
        await self._subscription.close()

    async def _receive(self) -> None:
        consumer = self._subscription.consumer
        loop = asyncio.get_running_loop()
        while True:
            room = self._concurrency - len(self._running) - len(self._waiting)
            if room <= 0:  # what waits here would count as one more death if this process died: leave it to others
                self._room = loop.create_future()
                await self._room
                continue
            try:
                deliveries = await insist("Receiving", partial(consumer.receive, room))
            except TransportClosed:
                return
            for delivery in deliveries:
                await self._accept(delivery)
            self._wake()

    async def _accept(self, delivery: Delivery) -> None:
        try:
            message = service.decode(delivery.message.body)
            check(message)
        except Exception as error:  # noqa: BLE001 (bytes from anywhere: decoders raise whatever they like)
            await self._bury([delivery], f"This is not a task for an executor: {type(error).__name__}: {error}")
            return
        if self._suspect(delivery):
            counted = replace(message, deaths=message.deaths + 1)
            again = Message(delivery.message.id, None, service.encode(counted), delivery.message.headers)
            await self._publisher.send(self.topic, [again])
            await self._subscription.ack([delivery])
            return
        self._waiting.append((delivery, message))

    def _suspect(self, delivery: Delivery) -> bool:
        """True if another process may have died while it ran this: brokers that forget attempts need a second look."""
        if delivery.attempt > 1:
            return True
        if self._suspects <= 0:
            return False
        self._suspects -= 1
        return delivery.published_at < self._subscribed_at

    def _wake(self) -> None:
        """One more member for what waits: an idle one, or a new one."""
        if not self._waiting:
            return
        if self._idle:
            wake(self._idle.pop())
        elif self._members < self._concurrency:
            self._members += 1
            self._group.create_task(self._member())

    async def _member(self) -> None:
        waiting = self._waiting
        loop = asyncio.get_running_loop()
        while True:
            if not waiting:
                future: asyncio.Future[None] = loop.create_future()
                self._idle.append(future)
                await future
                continue
            delivery, message = waiting.popleft()
            if waiting:
                self._wake()
            await self._attempt(delivery, message)
            wake(self._room)

    async def _attempt(self, delivery: Delivery, message: ExecuteTask) -> None:
        position = (message.position, message.run, message.retry_sequence, message.retry_index)
        key = (message.workflow_id, position)
        known = self._running.get(key) or self._unpublished.get(key)
        if known is not None:
            known.append(delivery)
            return
        if key in self._recent:
            await self._subscription.ack([delivery])
            return
        deliveries = self._running[key] = [delivery]
        try:
            report = await self._attempts.run(message)
        except asyncio.CancelledError:
            del self._running[key]
            wake(self._drained)
            raise
        except PayloadUnavailable as error:
            _logger.warning("%s: a task is put off for %.0f s: %s", self.topic.name, CODEC_DELAY, error)
            await self._put_off(deliveries, CODEC_DELAY)
            del self._running[key]
            wake(self._drained)
            return
        del self._running[key]
        self._unpublished[key] = deliveries
        self._reports.append(_Report(key, message, report, deliveries))
        wake(self._flush_needed)

    async def _put_off(self, deliveries: list[Delivery], delay: float) -> None:
        """Have a message delivered later, to whomever, as if it was fresh."""
        later = replace(deliveries[0].message, deliver_at=self._clock.now() + delay)
        await self._publisher.send(self.topic, [later])
        await self._subscription.ack(deliveries)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._reports:
                wake(self._drained)
                self._flush_needed = loop.create_future()
                await self._flush_needed
            reports, self._reports = self._reports, []
            self._flushing = True
            await self._publish(reports)
            deliveries = list[Delivery]()
            for report in reports:
                deliveries += self._unpublished.pop(report.key)
                self._recent[report.key] = None
            while len(self._recent) > RECENT:
                self._recent.popitem(last=False)
            await self._subscription.ack(deliveries)
            self._flushing = False

    async def _publish(self, reports: list[_Report]) -> None:
        try:
            await self._publisher.publish([report.outgoing for report in reports])
        except MessageTooLarge as error:
            if len(reports) > 1:
                for report in reports:
                    await self._publish([report])
                return
            await self._report_less(reports[0], error)

    async def _report_less(self, report: _Report, error: MessageTooLarge) -> None:
        """The broker takes less than it was asked for at the start: the task fails, and the workflow learns why."""
        smaller = self._attempts.failed(report.message, error, error.limit)
        _logger.error("%s: the report of a task cannot be sent: %s", self.topic.name, error)
        try:
            await self._publisher.publish([smaller])
        except MessageTooLarge as again:
            await self._publisher.bury(self.topic, report.deliveries, f"No report of this task can be sent: {again}")

    async def _bury(self, deliveries: list[Delivery], reason: str) -> None:
        _logger.error("%s: a message goes to the dead letters: %s", self.topic.name, reason[:500])
        await self._publisher.bury(self.topic, deliveries, reason)
        await self._subscription.ack(deliveries)
