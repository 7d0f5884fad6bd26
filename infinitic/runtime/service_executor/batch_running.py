"""Runs batches in the pool of an executor, and hands over what comes of each task.

As for a single attempt (see `running`), what does not end with a report leaves as a new message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from infinitic.errors import PayloadUnavailable
from infinitic.runtime.service_executor.attempt import CODEC_DELAY
from infinitic.runtime.service_executor.batch_attempts import BatchAttempts
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Batch, Work
from infinitic.transport import Outgoing

_logger = logging.getLogger("infinitic.executor")


class BatchRunner:
    """Runs batches. The arguments are those of `TaskRunner`."""

    def __init__(
        self,
        attempts: BatchAttempts,
        in_hand: TasksInHand,
        trials: Trials,
        reports: ReportQueue,
        resender: Resender,
        *,
        durability: float,
        leave: Callable[[BaseException], object] | None,
    ) -> None:
        self._attempts = attempts
        self._in_hand = in_hand
        self._trials = trials
        self._reports = reports
        self._resender = resender
        self._durability = durability
        self._leave = leave

    async def run(self, batch: Batch, is_ending: Callable[[], bool]) -> None:
        """Run a batch. If this is cancelled and the pool goes on, it is called again.

        What is settled by then is out of the batch, and does not run again.

        Args:
            batch: a batch that is closed.
            is_ending: says whether a cancellation comes from the end of the executor.
        """
        works = list(batch.works.values())
        for work in works:
            work.member = batch.member
        try:
            if self._durability and any(work.on_trial for work in works):
                # As for a single suspect: its message must not come again beside its marked copy.
                await asyncio.sleep(self._durability)
            await self._attempts.run(batch, is_ending, self._settle)
        except asyncio.CancelledError:
            self._drop_cancelled(batch)
            if is_ending():
                # The grace period is over. This process outlives the tasks, so no death counts.
                self._hand_back(batch, deaths=0)
                raise
            if batch.works:
                raise
        except (SystemExit, KeyboardInterrupt) as leaving:
            if self._leave is None:
                for work in list(batch.works.values()):
                    batch.remove(work)
                    del self._in_hand.works[work.attempt]
                raise
            self._drop_cancelled(batch)
            self._hand_back(batch, deaths=1)
            self._leave(leaving)
        finally:
            batch.member = batch.current = None
            for work in works:
                work.member = work.current = None
                self._trials.end(work)
            if not batch.works:
                self._in_hand.end_batch(batch)
            self._in_hand.notify()

    def _settle(self, work: Work, report: Outgoing | PayloadUnavailable | None) -> None:
        """Take an attempt out of its batch."""
        assert work.batch is not None
        work.batch.remove(work)
        if report is None:
            self._drop(work)
        elif isinstance(report, PayloadUnavailable):
            _logger.warning("A task of a batch is put off for %.0f s: %s", CODEC_DELAY, report)
            del self._in_hand.works[work.attempt]
            self._resender.send_soon([self._in_hand.put_off(work, CODEC_DELAY)])
        else:
            self._reports.add(work, report)

    def _drop_cancelled(self, batch: Batch) -> None:
        for work in [work for work in batch.works.values() if work.is_cancelled]:
            batch.remove(work)
            self._drop(work)

    def _drop(self, work: Work) -> None:
        """Forget an attempt that was cancelled. Nobody waits for its report."""
        del self._in_hand.works[work.attempt]
        self._resender.ack_soon(work.deliveries)

    def _hand_back(self, batch: Batch, deaths: int) -> None:
        """Hand back what is left of a batch.

        Args:
            batch: the batch.
            deaths: how many more deaths count for its tasks; 0: none count any more.
        """
        for work in list(batch.works.values()):
            batch.remove(work)
            del self._in_hand.works[work.attempt]
            counted = work.message.deaths + deaths if deaths else 0
            self._resender.handed_back.append(work.make_copy(asked=0, deaths=counted))
