"""Guards: messages that have a task run again if its worker falls silent.

The delivery of a task with a heartbeat timeout is acknowledged before the task runs. What stands
for the task from then on is a *guard*: a copy of its message that is due later, with what the task
said last. Each heartbeat that travels is a new guard, with the next number. So the state of a
heartbeat is with the broker, and neither in the head nor in the history of the instance.

When a guard comes, whoever gets it asks the other executors (`Inquiry`). If one of them has a newer
guard out, or has reported the attempt, this one is done with. If the attempt is in hand and this
is its newest guard, the guard comes again later. If nobody knows of the attempt, twice, then its
worker is *lost*: the attempt counts as failed.

- It is held here meanwhile, and not sent again: a worker that stands still may be the one to get
  it. If several workers hold guards of one attempt, the newest one stands for all.
- A guard comes first when two thirds of the timeout are over, and the second time at its end. So
  another worker gets the task about one timeout after the last heartbeat that travelled.
- A duplicate of a guard, of any age, asks again, and changes nothing.
- A lost attempt is reported before anybody is told that it is lost, and its guard is acknowledged
  last. After a crash in between, the guard comes again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from contextlib import suppress

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.failures import qualified_name
from infinitic.messages import control
from infinitic.messages.control import Attempt, AttemptsLost
from infinitic.messages.service import ExecuteTask, Guard
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.pulse import HeartbeatTimedOut, Pulse
from infinitic.runtime.service_executor.report_publisher import ReportPublisher
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Outbound, Work
from infinitic.topics import Topic
from infinitic.transport import Message, Outgoing, TransportClosed

_logger = logging.getLogger("infinitic.executor")

PAGE = 1000
"""How many attempts one message names that tells which ones are done."""

TELL_SECONDS = 1.0
"""How long an executor that ends tries to tell the others what it has done."""

AGAIN_SECONDS = 5.0
"""Seconds until a guard is looked at again whose attempt could not be reported as lost."""


class WorkerLost(HeartbeatTimedOut):
    """Nobody has heard of the worker of an attempt within its heartbeat timeout.

    If the task has no retry policy, it runs again all the same, as after every death of a worker.
    After five such attempts in a row it fails with `WorkerDied`.
    """


_LOST = qualified_name(WorkerLost)


def count_lost(message: ExecuteTask) -> int:
    """Count how many attempts before this one were lost, one after the other."""
    count, failure = 0, message.last_failure
    while failure is not None and failure.exception.name == _LOST:
        count, failure = count + 1, failure.previous
    return count


class Guards:
    """Publishes the guards of what runs here.

    Args:
        topic: where the tasks come from, and guards go to.
        publisher: publishes.
        attempts: knows the tasks.
        resender: acknowledges what a guard stands for.
        clock: the time of day.
    """

    def __init__(
        self, topic: Topic, publisher: Publisher, attempts: Attempts, resender: Resender, clock: Clock
    ) -> None:
        self._topic = topic
        self._publisher = publisher
        self._attempts = attempts
        self._resender = resender
        self._clock = clock
        self._timeouts = {
            name: task.heartbeat_timeout
            for name, task in attempts.service.tasks.items()
            if task.heartbeat_timeout is not None
        }

    @property
    def are_needed(self) -> bool:
        """Whether a task of this service has a heartbeat timeout."""
        return bool(self._timeouts)

    def is_guarded(self, message: ExecuteTask) -> bool:
        """Whether a task has a heartbeat timeout."""
        return message.task in self._timeouts

    async def begin(self, work: Work) -> Pulse | None:
        """Publish the first guard of an attempt. None: its task has no heartbeat timeout.

        If the broker refuses the guard, the attempt runs without it, and its delivery is kept.
        """
        seconds = self._timeouts.get(work.message.task)
        if seconds is None:
            return None
        # It may have run before: here, or on a worker that has handed it back. Guards count on.
        before = work.guard or work.message.guard
        work.guard = Guard(0 if before is None else before.number, 0.0, seconds)

        async def send(details: Raw, ago: float) -> bool:
            return await self._send(work, details, ago)

        await self._send(work, work.message.last_heartbeat, 0.0)
        return self._attempts.make_pulse(work.message, seconds, send)

    async def _send(self, work: Work, details: Raw, ago: float) -> bool:
        before = work.guard
        assert before is not None
        until = self._clock.now() - ago + before.seconds
        guard = Guard(before.number + 1, until, before.seconds)
        message = work.make_copy(until - before.seconds / 3, asked=1, guard=guard, last_heartbeat=details).message
        replaced = list(work.deliveries)
        try:
            await self._publisher.send(self._topic, [message])
        except TransportClosed:
            raise
        except TransportError as error:
            _logger.warning("%s: a heartbeat cannot be sent: %s", self._topic.name, error)
            return False
        work.guard = guard
        settled = set(map(id, replaced))
        work.deliveries[:] = [each for each in work.deliveries if id(each) not in settled]
        self._resender.ack_soon(replaced)
        return True


def judge_guard(
    work: Work, heard: Mapping[Attempt, bool], newest: Mapping[Attempt, int], now: float
) -> Outbound | float | bool:
    """Decide what becomes of a guard that has come.

    Args:
        work: the guard.
        heard: what the other executors answered, see `Inquiry.ask`.
        newest: the numbers of the newest guards of those that are in hand.
        now: the time of day, in seconds since the Unix epoch.

    Returns:
        The message to send in its place. True: the guard is done with. False: its worker is lost.
        A number: seconds that the guard is held, until it is asked for the attempt once more.
    """
    message = work.message
    guard = message.guard
    assert guard is not None
    known = heard.get(work.attempt)
    if known is None:
        if message.asked > 1:
            return False
        return min(max(guard.until - now, 0.0), guard.seconds)
    if known or newest.get(work.attempt, 0) > guard.number:
        return True
    return work.make_copy(now + guard.seconds / 3, asked=1)


class LostAttempts:
    """Reports attempts whose worker is lost, and tells all executors of the service.

    Args:
        publisher: publishes.
        attempts: makes the reports, by the retry policy of the task.
        reports: publishes the reports.
        resender: sends again what cannot be reported now.
        in_hand: remembers that the attempts are done.
        clock: the time of day.
    """

    def __init__(
        self,
        publisher: Publisher,
        attempts: Attempts,
        reports: ReportPublisher,
        resender: Resender,
        in_hand: TasksInHand,
        clock: Clock,
    ) -> None:
        self._topic = topics.service_control(attempts.service.name)
        self._publisher = publisher
        self._attempts = attempts
        self._reports = reports
        self._resender = resender
        self._in_hand = in_hand
        self._clock = clock

    async def settle(self, works: list[Work]) -> None:
        """Report these attempts. Then tell whoever still runs one to stop."""
        for work in works:
            work.report = self._make_report(work.message)
        published, refused = await self._reports.publish(works)
        if refused:
            due = self._clock.now() + AGAIN_SECONDS
            self._resender.send_soon([work.make_copy(due) for work in refused])
        if not published:
            return
        attempts = [work.attempt for work in published]
        self._in_hand.remembered.add_done(attempts)
        await self._tell(attempts)
        await self._resender.ack([delivery for work in published for delivery in work.deliveries])

    async def tell_done(self) -> None:
        """Tell the others what this executor has done, whose guards may come when it is gone.

        Without that they would take the worker for lost, and say so to event listeners. A broker
        that is away is not waited for.
        """
        attempts = self._in_hand.remembered.list_guarded()
        with suppress(TimeoutError, TransportClosed):
            async with asyncio.timeout(TELL_SECONDS):
                for start in range(0, len(attempts), PAGE):
                    await self._tell(attempts[start : start + PAGE])

    async def _tell(self, attempts: list[Attempt]) -> None:
        over = Message("control", None, control.encode(AttemptsLost(tuple(attempts))))
        try:
            await self._publisher.send(self._topic, [over])
        except TransportClosed:
            raise
        except TransportError as error:
            # It is a courtesy: what they report of it changes nothing.
            _logger.warning("%s: nobody can be told that attempts are over: %s", self._topic.name, error)

    def _make_report(self, message: ExecuteTask) -> Outgoing:
        task = self._attempts.service.tasks.get(message.task)
        if count_lost(message) + 1 >= MAX_DEATHS or task is None:
            return self._attempts.report_deaths(replace(message, deaths=MAX_DEATHS))
        guard = message.guard
        seconds = 0.0 if guard is None else guard.seconds
        error = WorkerLost(f"Nobody has heard of the worker that ran this attempt for {seconds:g} s")
        if task.retry is None:
            task = dataclasses.replace(task, retry=_retry_at_once)
        return self._attempts.failures.make(message, error, task, dict(message.meta), self._clock.now())


def _retry_at_once(retry_index: int, error: Exception) -> float:
    return 0.0
