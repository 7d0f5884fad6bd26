"""Third step: publish the reports of attempts, and acknowledge their deliveries.

An attempt is done when its report is published, not before. If the process dies between the two,
the message comes again and the attempt runs once more: a task runs at least once.
"""

from __future__ import annotations

import asyncio
import logging

from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.report_publisher import ReportPublisher
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import CHUNK_BYTES, Work, count_for_chunk
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.transport import Delivery, Outgoing

_logger = logging.getLogger("infinitic.executor")


class ReportQueue:
    """Reports that wait to be published. Those for one topic go together.

    Each topic has an asyncio task of its own: a topic that takes nothing holds up no other one.

    Args:
        in_hand: what the executor has in hand.
        publisher: publishes the reports.
        subscription: where deliveries are acknowledged.
        resender: acknowledges what is left in the end.

    Attributes:
        publishing: how many batches are being published and acknowledged.
    """

    def __init__(
        self, in_hand: TasksInHand, publisher: ReportPublisher, subscription: Subscription, resender: Resender
    ) -> None:
        self.publishing = 0
        self._in_hand = in_hand
        self._publisher = publisher
        self._subscription = subscription
        self._resender = resender
        self._waiting: dict[str, list[Work]] = {}
        self._wanted: dict[str, asyncio.Future[None]] = {}
        # Reported deliveries whose acknowledgement was cancelled by the end of the executor.
        self._unacknowledged: list[Delivery] = []
        self._group: asyncio.TaskGroup | None = None
        self._owner: asyncio.Task[object] | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Begin to publish, in a group that is cancelled together with the current task."""
        self._group = group
        self._owner = asyncio.current_task()

    def add(self, work: Work, report: Outgoing) -> None:
        """Take the report of an attempt that has run. It is published soon."""
        size = len(report.message.body)
        work.report = report
        work.report_bytes = size
        in_hand = self._in_hand
        in_hand.reported += 1
        in_hand.report_bytes += size
        topic = report.topic.name
        waiting = self._waiting.get(topic)
        if waiting is not None:
            waiting.append(work)
            if len(waiting) == 1:
                wake(self._wanted.get(topic))
            return
        # While the executor ends, no asyncio task can begin: `publish_rest` publishes it.
        if self._group is not None and self._owner is not None and not self._owner.cancelling():
            self._waiting[topic] = [work]
            self._group.create_task(self._publish(topic))

    async def publish_rest(self) -> None:
        """Publish what is left, and acknowledge what has been reported.

        It is called when the group of `begin` has ended.

        Raises:
            TransportError: the broker is closed, or refuses an acknowledgement.
        """
        left = [work for work in self._in_hand.works.values() if work.report is not None]
        if left:
            published, refused = await self._publisher.publish(left)
            if refused:
                _logger.warning(
                    "Service %s: %d tasks are handed back, because the broker refuses their reports",
                    self._publisher.service,
                    len(refused),
                )
            await self._settle(published)
        deliveries, self._unacknowledged = self._unacknowledged, []
        await self._resender.ack(deliveries)

    async def _publish(self, topic: str) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting[topic]
        while True:
            if not waiting:
                self._in_hand.notify()
                self._wanted[topic] = loop.create_future()
                await self._wanted[topic]
            count = len(waiting)
            # Only if all topics together are too large, the reports of this one are measured.
            if self._in_hand.report_bytes > CHUNK_BYTES:
                count = count_for_chunk(work.report_bytes for work in waiting)
            works = waiting[:count]
            del waiting[:count]
            self.publishing += 1
            published, refused = await self._publisher.publish(works)
            if refused and self._group is not None:
                for work in refused:
                    self._group.create_task(self._publish_refused(work))
            await self._settle(published)
            self.publishing -= 1

    async def _settle(self, works: list[Work]) -> None:
        """Forget attempts whose reports are published. Later repeats are only acknowledged."""
        in_hand = self._in_hand
        deliveries: list[Delivery] = []
        for work in works:
            if in_hand.works.pop(work.attempt, None) is not None:
                in_hand.reported -= 1
                in_hand.report_bytes -= work.report_bytes
            deliveries += work.deliveries
            if work.guard is not None:
                in_hand.remembered.add_guarded(work.attempt, work.guard.until)
        in_hand.remembered.add_done([work.attempt for work in works])
        in_hand.notify()
        try:
            await self._subscription.ack_if_held(deliveries)
        except asyncio.CancelledError:
            # `publish_rest` does it: what is not acknowledged would run again elsewhere.
            self._unacknowledged += deliveries
            raise

    async def _publish_refused(self, work: Work) -> None:
        """Publish a report once the broker, which has refused it, takes it. Others go on."""
        await self._publisher.publish_refused(work)
        await self._settle([work])
        self._in_hand.notify()
