"""Stops tasks that nobody waits for any more (S6).

What waits is acknowledged and never runs. What runs is told: an `async def` task is cancelled, a
`def` task has to look at `is_cancelled`. No report is sent of either.
"""

from __future__ import annotations

from infinitic.messages.control import AttemptsLost, CancelTasks
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Batch, Work


class Cancelling:
    """Does what a `CancelTasks` asks for, with what this executor has in hand.

    Args:
        in_hand: what the executor has in hand. It remembers what comes later.
        trials: which suspect runs in this process.
        resender: acknowledges what does not run.
    """

    def __init__(self, in_hand: TasksInHand, trials: Trials, resender: Resender) -> None:
        self._in_hand = in_hand
        self._trials = trials
        self._resender = resender

    def cancel(self, message: CancelTasks) -> None:
        """Stop these tasks, and remember that they are stopped. A repeat changes nothing."""
        in_hand = self._in_hand
        is_cancelled = in_hand.remembered.add_cancelled(message)
        for work in list(in_hand.doubtful.values()):
            if is_cancelled(work.attempt):
                del in_hand.doubtful[work.attempt]
                self._resender.ack_soon(work.deliveries)
        batches = dict[Batch, None]()
        # The report of an attempt that has ended already is on its way, and does no harm.
        for work in [work for work in in_hand.works.values() if work.report is None]:
            if is_cancelled(work.attempt):
                if work.member is None:
                    self._drop_waiting(work)
                elif not work.is_cancelled:
                    _stop(work)
                    if work.batch is not None:
                        batches[work.batch] = None
        for batch in batches:
            batch.stop()
        in_hand.notify()

    def stop_lost(self, message: AttemptsLost) -> None:
        """Stop attempts that were reported as lost. What comes of them changes nothing any more."""
        in_hand = self._in_hand
        in_hand.remembered.add_done(message.attempts)
        for attempt in message.attempts:
            if (doubtful := in_hand.doubtful.pop(attempt, None)) is not None:
                self._resender.ack_soon(doubtful.deliveries)
            work = in_hand.works.get(attempt)
            if work is None or work.report is not None:
                continue
            if work.member is None:
                self._drop_waiting(work)
            elif not work.is_cancelled:
                _stop(work)
        in_hand.notify()

    def _drop_waiting(self, work: Work) -> None:
        self._in_hand.remove_waiting(work)
        self._trials.end(work)
        self._resender.ack_soon(work.deliveries)


def _stop(work: Work) -> None:
    """Tell an attempt that runs to stop. What it does until then is its own business."""
    work.is_cancelled = True
    current, member = work.current, work.member
    if current is not None:
        current.cancel()
    if work.batch is not None:
        # The others in it may still be waited for.
        return
    # A thread cannot be stopped. Without its caller nobody would count it.
    if member is not None and (current is None or not current.is_blocking):
        member.cancel()
