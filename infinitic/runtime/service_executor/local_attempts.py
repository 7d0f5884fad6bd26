"""Runs local tasks: attempts for steps of the state engine beside, which are not committed yet.

They have the slots, the pace, the threads, the middlewares and the failures of all others. What
differs: no message stands for them, and their report goes to the step. If the step is not waited
for, they are adopted: then they are attempts like those that came by message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from infinitic import ids
from infinitic.errors import PayloadUnavailable
from infinitic.messages import service
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.local_tasks import LocalAttempt
from infinitic.runtime.service_executor.announcing import TaskAnnouncer
from infinitic.runtime.service_executor.attempt import CODEC_DELAY, Attempts
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.pool import AttemptPool
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Work
from infinitic.transport import Message

_logger = logging.getLogger("infinitic.executor")

_NO_MESSAGE = Message("", None, b"")


class LocalWork(Work, eq=False):
    """A local attempt in hand. It is a `LocalAttempt`.

    Args:
        notify: called when it has ended; None once nobody is to be told.
        owner: what runs it.
        is_adopted: True once it is an attempt like all others.
        is_unrun: see `LocalAttempt`.
        deaths: see `LocalAttempt`.
    """

    notify: Callable[[], object] | None = None
    owner: LocalAttempts | None = None
    is_adopted: bool = False
    is_unrun: bool = False
    deaths: int = 0

    def withdraw(self) -> bool:
        """See `LocalAttempt`."""
        return self.owner is not None and self.owner.withdraw(self)

    def stop(self) -> None:
        """See `LocalAttempt`."""
        if self.owner is not None:
            self.owner.stop(self)

    def adopt(self) -> None:
        """See `LocalAttempt`."""
        if self.owner is not None:
            self.owner.adopt(self)


class LocalAttempts:
    """Runs the local tasks of one service. It is a `LocalRunner`.

    Args:
        attempts: runs one attempt.
        pool: what attempts run in.
        in_hand: what the executor has in hand.
        reports: takes the reports of attempts that were adopted.
        resender: sends again what has to run later or elsewhere.
        announcer: tells event listeners.
        concurrency: how many attempts run at once.
        threads: where `def` tasks run, if it counts those that are abandoned.
        leave: called with the `SystemExit` or `KeyboardInterrupt` that a task raised.
    """

    def __init__(
        self,
        attempts: Attempts,
        pool: AttemptPool,
        in_hand: TasksInHand,
        reports: ReportQueue,
        resender: Resender,
        announcer: TaskAnnouncer,
        concurrency: int,
        *,
        threads: Threads | None,
        leave: Callable[[BaseException], object] | None,
    ) -> None:
        self._run_others = pool.run
        pool.run = self.run_any
        self._names = frozenset(name for name, task in attempts.service.tasks.items() if task.local)
        self._attempts = attempts
        self._pool = pool
        self._in_hand = in_hand
        self._reports = reports
        self._resender = resender
        self._announcer = announcer
        self._concurrency = concurrency
        self._threads = threads
        self._leave = leave
        self._is_ending = pool.is_ending

    def can_run(self, task: str) -> bool:
        """See `LocalRunner`."""
        if task not in self._names or self._in_hand.draining or not self._pool.is_running:
            return False
        return self._threads is None or self._threads.abandoned < self._concurrency

    def begin(self, message: ExecuteTask, notify: Callable[[], object]) -> LocalAttempt:
        """See `LocalRunner`."""
        work = LocalWork(message, message.attempt, [], _NO_MESSAGE, notify=notify, owner=self)
        self._in_hand.local[work] = None
        if not self._pool.begin_at_once(work, self.run):
            self._in_hand.waiting.append(work)
            self._pool.wake()
        return work

    async def tell_reports(self, attempts: Sequence[LocalAttempt]) -> None:
        """See `LocalRunner`."""
        if self._announcer.is_on:
            await self._announcer.tell_reports([each for each in attempts if isinstance(each, LocalWork)])

    def run_any(self, work: Any) -> Awaitable[None]:
        """Run an attempt or a batch, whichever way it came."""
        return self.run(work) if isinstance(work, LocalWork) else self._run_others(work)

    async def run(self, work: LocalWork) -> None:
        """Run one attempt to its end. Only a cancellation of the pool leaves it."""
        report = None
        try:
            if self._announcer.is_on:
                self._announcer.note_started(work.message)
            report = await self._attempts.run(work.message, self._is_ending, work.begin)
        except asyncio.CancelledError:
            if not work.is_cancelled:
                if not self._is_ending():
                    raise  # the pool runs it again
                self._give_back(work, deaths=0)
            self._end(work)
            if self._is_ending():
                raise
        except PayloadUnavailable as error:
            if work.is_adopted:
                _logger.warning("Service %s: a task is put off: %s", self._attempts.service.name, error)
                del self._in_hand.works[work.attempt]
                self._resender.send_soon([self._in_hand.put_off(work, CODEC_DELAY)])
            self._end(work)
        except (SystemExit, KeyboardInterrupt) as leaving:
            self._give_back(work, deaths=1)
            self._end(work)
            if self._leave is None:
                raise
            self._leave(leaving)
        else:
            if work.is_cancelled:
                self._end(work)
            elif work.is_adopted:
                self._reports.add(work, report)
                self._end(work, has_report=True)
            else:
                work.report = report
                self._end(work, has_report=True)

    def withdraw(self, work: LocalWork) -> bool:
        """See `LocalAttempt`."""
        if work.is_adopted or work.report is not None or work not in self._in_hand.waiting:
            return False
        self._in_hand.waiting.remove(work)
        self._in_hand.local.pop(work, None)
        self._end(work)
        return True

    def stop(self, work: LocalWork) -> None:
        """See `LocalAttempt`."""
        work.notify = None
        if self.withdraw(work) or work.is_cancelled or work.report is not None or work.is_unrun:
            return
        work.is_cancelled = True
        if work.current is not None:
            work.current.cancel()
        if work.member is not None and (work.current is None or not work.current.is_blocking):
            work.member.cancel()

    def adopt(self, work: LocalWork) -> None:
        """See `LocalAttempt`."""
        in_hand = self._in_hand
        work.notify = None
        if work.is_cancelled or work.is_unrun or work.is_adopted:
            return
        if work.attempt in in_hand.works or in_hand.remembered.is_done(work.attempt):
            # An older message has brought it here, too. Or another worker has gone on with the
            # instance, and has cancelled it, before this one heard of its own commit.
            self.stop(work)
            return
        message = work.message
        number = ids.attempt_id(
            message.workflow_id, message.position, message.run, message.retry_sequence, message.retry_index
        )
        body = service.encode(message)
        work.carrier = Message(ids.task_message_id(message.workflow_name, number), None, body)
        work.is_adopted = True
        in_hand.local.pop(work, None)
        in_hand.works[work.attempt] = work
        if work.report is not None:
            self._reports.add(work, work.report)

    def _give_back(self, work: LocalWork, *, deaths: int) -> None:
        """Have an attempt that did not end run elsewhere."""
        work.deaths = deaths
        if work.is_adopted:
            del self._in_hand.works[work.attempt]
            self._resender.handed_back.append(work.make_handed_back(asked=0, deaths=work.message.deaths + deaths))

    def _end(self, work: LocalWork, *, has_report: bool = False) -> None:
        """Let go of an attempt whose code has ended, or has not begun and never will."""
        in_hand = self._in_hand
        in_hand.local.pop(work, None)
        if work.is_cancelled and work.is_adopted and in_hand.works.get(work.attempt) is work:
            del in_hand.works[work.attempt]
            self._resender.ack_soon(work.deliveries)
        work.member = work.current = None
        work.is_unrun = not has_report and not work.is_cancelled
        in_hand.notify()
        notify, work.notify = work.notify, None
        if notify is not None:
            notify()
