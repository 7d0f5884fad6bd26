"""How workflows are told what came of their tasks, also if the broker refuses that.

A report that is refused is published later, while others go on. If a report is too large for the
broker, the task fails, and its workflow is told that instead. What cannot be told at all becomes a
dead letter.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from infinitic import ids, topics
from infinitic.errors import InfiniticError, TransportError, UsageError
from infinitic.ids import check_name
from infinitic.messages import engine
from infinitic.messages.decoding import UnknownMessageType
from infinitic.messages.service import ExecuteTask, decode
from infinitic.runtime.backoff import retry_while_refused
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.announcing import TaskAnnouncer
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.tag_removals import make_tag_removals
from infinitic.runtime.service_executor.work import Outbound, Work
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, MessageTooLarge, Outgoing, TransportClosed

_logger = logging.getLogger("infinitic.executor")


class ReportPublisher:
    """Publishes the reports of attempts.

    Args:
        topic: where the tasks come from.
        publisher: publishes.
        attempts: makes the report of a task that failed.
        now: tells the time, in seconds since the Unix epoch.
        announcer: tells event listeners.

    Attributes:
        service: the name of the service.
    """

    def __init__(
        self, topic: Topic, publisher: Publisher, attempts: Attempts, now: Callable[[], float], announcer: TaskAnnouncer
    ) -> None:
        self.service = attempts.service.name
        self._topic = topic
        self._publisher = publisher
        self._attempts = attempts
        self._now = now
        self._announcer = announcer

    async def publish(self, works: list[Work]) -> tuple[list[Work], list[Work]]:
        """Publish the reports of attempts. A broker that is away is waited for.

        Args:
            works: attempts that have a report.

        Returns:
            The attempts that are done with, and those whose reports the broker refuses now.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        if self._announcer.is_on:
            await self._announcer.tell_reports(works)
        return await self._publish_reports(works)

    async def _publish_reports(self, works: list[Work]) -> tuple[list[Work], list[Work]]:
        try:
            await self._publisher.publish([work.report for work in works if work.report is not None])
        except TransportClosed:
            raise
        except TransportError as error:
            if len(works) > 1:
                return await self._publish_each(works)
            if not isinstance(error, MessageTooLarge):
                return [], works
            await self._fail(works[0].message, works[0].deliveries, error)
            return works, []
        await self._tell_tag_engine(works)
        return works, []

    async def publish_refused(self, work: Work) -> None:
        """Publish a report that the broker has refused, until it takes it.

        If it refuses it for a minute, the message of the task becomes a dead letter.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        assert work.report is not None
        report = work.report
        what = f"Publishing a report to {report.topic.name}"
        try:
            await retry_while_refused(what, lambda: self._publisher.publish([report]))
            await self._tell_tag_engine([work])
        except MessageTooLarge as error:
            await self._fail(work.message, work.deliveries, error)
        except TransportClosed:
            raise
        except TransportError as error:
            await dead_letter(self._publisher, self._topic, work.deliveries, f"Its report cannot be sent: {error}")

    async def fail_unsent(self, outbound: Outbound, error: MessageTooLarge) -> None:
        """Report that a task has failed whose message is too large to be sent again.

        The broker takes less than when the message came. Nobody else is going to get it.

        Args:
            outbound: the message. The caller acknowledges its deliveries.
            error: what the broker said.
        """
        try:
            message = decode(outbound.message.body)
        except UnknownMessageType:
            # Only a newer release can read it. Its id says whom to tell.
            await self.fail_unreadable(outbound.message.id, error)
            reason = f"It cannot be sent again: {error}"
            await dead_letter(self._publisher, self._topic, outbound.deliveries, reason)
        else:
            await self._fail(message, outbound.deliveries, error)

    async def fail_unreadable(self, message_id: str, why: InfiniticError) -> None:
        """Report that a task has failed whose message nobody here can read.

        Nobody is told if the id of the message does not say which task it is, or if the broker
        refuses the report for a minute.

        Args:
            message_id: the id of the message, see `ids.task_message_id`.
            why: why it cannot be handled.
        """
        named = ids.read_task_message(message_id)
        if named is None:
            return
        name, attempt = named
        try:
            workflow_id = check_name("The id of a workflow", attempt[0])
            topic = topics.workflow_engine(check_name("The name of a workflow", name))
        except UsageError:
            return
        report = self._attempts.failures.make_unread(attempt, why)
        outgoing = Outgoing(topic, Message(ids.attempt_id(*attempt), workflow_id, engine.encode(report)))
        try:
            await retry_while_refused("Publishing that a task failed", lambda: self._publisher.publish([outgoing]))
        except TransportClosed:
            raise
        except TransportError as error:
            _logger.error("%s: no report of task %s can be sent: %s", self._topic.name, message_id, error)

    async def _tell_tag_engine(self, works: list[Work]) -> None:
        """Tell the tag engine that tasks have completed, if they have tags.

        It comes after the reports, and before the messages of the tasks are acknowledged. Whatever
        a crash does in between: tasks that are not reported keep their tags, and those that are
        reported run again, or lose them. If the broker refuses it for a minute, the tags stay until
        the deduplication window is over.
        """
        outgoing = [each for work in works if work.message.tags for each in make_tag_removals(work, self._now())]
        if not outgoing:
            return
        try:
            await retry_while_refused(
                "Publishing that tasks have lost their tags", lambda: self._publisher.publish(outgoing)
            )
        except TransportClosed:
            raise
        except TransportError as error:
            _logger.error("%s: the tags of completed tasks cannot be removed: %s", self._topic.name, error)

    async def _publish_each(self, works: list[Work]) -> tuple[list[Work], list[Work]]:
        all_published, all_refused = list[Work](), list[Work]()
        for work in works:
            published, refused = await self._publish_reports([work])
            all_published += published
            all_refused += refused
        return all_published, all_refused

    async def _fail(self, message: ExecuteTask, deliveries: list[Delivery], error: MessageTooLarge) -> None:
        """Report that a task has failed because the broker takes less than it said at the start."""
        _logger.error("%s: a task fails, since its message or report is too large: %s", self._topic.name, error)
        if self._announcer.is_on:
            await self._announcer.tell_failed(message, error)
        smaller = self._attempts.failures.make_oversized(message, error, error.limit)
        try:
            await retry_while_refused("Publishing that a task failed", lambda: self._publisher.publish([smaller]))
        except TransportClosed:
            raise
        except TransportError as again:
            await dead_letter(self._publisher, self._topic, deliveries, f"No report of this task can be sent: {again}")


async def dead_letter(publisher: Publisher, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
    """Publish deliveries to the dead letters. The caller acknowledges them after that.

    It waits as long as the broker refuses it: a message must not be lost.

    Args:
        publisher: publishes.
        topic: where the deliveries came from.
        deliveries: the deliveries.
        reason: why they are given up.
    """
    _logger.error("%s: a message goes to the dead letters: %s", topic.name, reason[:500])
    await retry_while_refused(
        f"Publishing to the dead letters of {topic.name}",
        lambda: publisher.dead_letter(topic, deliveries, reason),
        seconds=math.inf,
    )
