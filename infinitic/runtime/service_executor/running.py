"""Second step: run an attempt that was taken, and hand over its report.

Whatever does not end with a report leaves as a new message. The delivery itself, given back as it
is, would look as if this process had died with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from infinitic.errors import PayloadUnavailable
from infinitic.runtime.service_executor.announcing import TaskAnnouncer
from infinitic.runtime.service_executor.attempt import CODEC_DELAY, Attempts
from infinitic.runtime.service_executor.batch_attempts import BatchAttempts
from infinitic.runtime.service_executor.batch_running import BatchRunner
from infinitic.runtime.service_executor.batching import Batching, find_batch_methods
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.guards import Guards
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.pace import Pace
from infinitic.runtime.service_executor.pool import AttemptPool
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Batch, Work

_logger = logging.getLogger("infinitic.executor")


class TaskRunner:
    """Runs attempts in a pool.

    Args:
        attempts: runs one attempt.
        concurrency: how many attempts run at once.
        in_hand: what the executor has in hand.
        trials: which suspect runs in this process.
        reports: takes the reports.
        resender: sends again what has to run later or elsewhere.
        announcer: tells event listeners.
        guards: stand for tasks with a heartbeat timeout while they run.
        durability: seconds after which an acknowledgement survives a crash of the broker.
        leave: called with the `SystemExit` or `KeyboardInterrupt` that a task raised, after its
            message is among those to hand back. None: it is raised, and ends the executor.
        pace: how often attempts begin; None: as soon as they can.

    Attributes:
        batching: puts tasks together; None: this service has no batches.
        pool: what runs attempts and batches.
    """

    def __init__(
        self,
        attempts: Attempts,
        concurrency: int,
        in_hand: TasksInHand,
        trials: Trials,
        reports: ReportQueue,
        resender: Resender,
        announcer: TaskAnnouncer,
        guards: Guards,
        *,
        durability: float,
        leave: Callable[[BaseException], object] | None,
        pace: Pace | None = None,
    ) -> None:
        has_batches = bool(find_batch_methods(attempts.service))
        self.batching = Batching(attempts.service, in_hand, concurrency, self._wake) if has_batches else None
        self._batches = BatchRunner(
            BatchAttempts(attempts), in_hand, trials, reports, resender, durability=durability, leave=leave
        )
        self.pool = AttemptPool(
            concurrency,
            in_hand.waiting,
            self._run_any if has_batches else self._run,
            pace=pace,
            note_begun=in_hand.notify,
        )
        self._name = attempts.service.name
        self._attempts = attempts
        self._guards = guards
        self._is_guarded = guards.are_needed
        self._in_hand = in_hand
        self._trials = trials
        self._reports = reports
        self._resender = resender
        self._announcer = announcer
        self._event_switch = announcer.switch
        self._durability = durability
        self._leave = leave

    def add(self, work: Work) -> None:
        """Have an attempt run as soon as a member of the pool is free. Call `pool.wake` then."""
        in_hand = self._in_hand
        if in_hand.draining:
            self._trials.end(work)
            self._resender.handed_back.append(work.make_copy())
        else:
            in_hand.works[work.attempt] = work
            if self.batching is None or not self.batching.add(work):
                in_hand.waiting.append(work)

    def _wake(self) -> None:
        self.pool.wake()

    def _run_any(self, work: Work | Batch) -> Awaitable[None]:
        if not isinstance(work, Batch):
            return self._run(work)
        if self._announcer.is_on:
            for each in work.works.values():
                self._announcer.note_started(each.message)
        return self._batches.run(work, self.pool.is_ending)

    async def _run(self, work: Work) -> None:
        try:
            if work.on_trial and self._durability:
                # If the broker died sooner, the message of this suspect would come again beside
                # its marked copy, and both would run.
                await asyncio.sleep(self._durability)
            pulse = work.pulse = await self._guards.begin(work) if self._is_guarded else None
            if self._event_switch.on:
                self._announcer.note_started(work.message)
            report = await self._attempts.run(work.message, self.pool.is_ending, work.begin, pulse)
        except asyncio.CancelledError:
            if work.is_cancelled:
                self._drop(work)
                if not self.pool.is_ending():
                    return
            # If the pool goes on, this attempt stays in hand, and the pool runs it again.
            elif self.pool.is_ending():
                # The grace period is over. This process outlives the task, so no death counts.
                self._hand_back(work, asked=0, deaths=0)
            raise
        except PayloadUnavailable as error:
            _logger.warning("Service %s: a task is put off for %.0f s: %s", self._name, CODEC_DELAY, error)
            del self._in_hand.works[work.attempt]
            self._resender.send_soon([self._in_hand.put_off(work, CODEC_DELAY)])
        except (SystemExit, KeyboardInterrupt) as leaving:
            if self._leave is None:
                del self._in_hand.works[work.attempt]
                raise
            self._hand_back(work, asked=0, deaths=work.message.deaths + 1)
            self._leave(leaving)
        else:
            if work.is_cancelled:
                self._drop(work)
            else:
                self._reports.add(work, report)
        finally:
            work.member = work.current = work.pulse = None
            if work.on_trial:
                self._trials.end(work)
            self._in_hand.notify()

    def _drop(self, work: Work) -> None:
        """Forget an attempt that was cancelled, and has ended. Nobody waits for its report."""
        del self._in_hand.works[work.attempt]
        self._resender.ack_soon(work.deliveries)

    def _hand_back(self, work: Work, **changes: int) -> None:
        del self._in_hand.works[work.attempt]
        self._resender.handed_back.append(work.make_handed_back(**changes))
