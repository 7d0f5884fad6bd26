"""What a service executor has in hand, and what it still knows of what it had before.

An attempt is in hand from its first delivery until its report is published. All parts of the
executor share one `TasksInHand`: taking adds to it, reporting removes, and ending hands back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping

from infinitic.clock import Clock
from infinitic.messages.control import Attempt, CancelTasks
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.work import Batch, Outbound, Work
from infinitic.runtime.wakeup import wake
from infinitic.transport import Delivery

REMEMBERED_ATTEMPTS = 10_000
"""How many attempts an executor remembers, of each kind."""


CANCELLED_SECONDS = 600.0
"""For how long an executor remembers that a task is cancelled."""

CANCELLED_TASKS = 100_000
"""How many cancelled tasks it remembers at most: those that were cancelled last."""


class Remembered:
    """What an executor knows of attempts that it has not in hand any more, or not yet.

    It knows the last 10,000 that were reported, the last 10,000 that were put off, and the tasks
    that were cancelled in the last ten minutes.

    Args:
        clock: the time of day.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done: OrderedDict[Attempt, None] = OrderedDict()
        self._put_off: OrderedDict[Attempt, float] = OrderedDict()
        # Those of them with a guard that may still be on its way, and when its timeout is over.
        self._guarded: OrderedDict[Attempt, float] = OrderedDict()
        # By instance, position and run: the retry sequence, and until when it is remembered.
        self._cancelled: OrderedDict[tuple[str, int, int], tuple[int, float]] = OrderedDict()

    def add_done(self, attempts: Iterable[Attempt]) -> None:
        """Remember attempts whose reports are published."""
        done = self._done
        for attempt in attempts:
            done[attempt] = None
        while len(done) > REMEMBERED_ATTEMPTS:
            done.popitem(last=False)

    def add_guarded(self, attempt: Attempt, until: float) -> None:
        """Remember that a guard of an attempt that is done may still come.

        Args:
            attempt: the attempt.
            until: when the timeout of the guard is over, in seconds since the Unix epoch.
        """
        self._guarded[attempt] = until
        if len(self._guarded) > REMEMBERED_ATTEMPTS:
            self._guarded.popitem(last=False)

    def list_guarded(self) -> list[Attempt]:
        """List the attempts that are done, and whose last guard may still come."""
        now = self._clock.now()
        return [attempt for attempt, until in self._guarded.items() if until > now]

    def add_put_off(self, attempt: Attempt, due: float) -> None:
        """Remember that another message is on its way, by which an executor will run this attempt.

        Args:
            attempt: the attempt.
            due: when the message is delivered, in seconds since the Unix epoch.
        """
        self._put_off[attempt] = due
        if len(self._put_off) > REMEMBERED_ATTEMPTS:
            self._put_off.popitem(last=False)

    def add_cancelled(self, message: CancelTasks) -> Callable[[Attempt], bool]:
        """Remember that tasks are cancelled. An attempt of them may still be on its way.

        Returns:
            What tells whether the task of an attempt is cancelled.
        """
        now, cancelled = self._clock.now(), self._cancelled
        for position, sequence in message.tasks:
            task = (message.workflow_id, position, message.run)
            # A repeat may be older than what is remembered.
            known, _ = cancelled.pop(task, (sequence, 0.0))
            cancelled[task] = max(sequence, known), now + CANCELLED_SECONDS
        while cancelled and (len(cancelled) > CANCELLED_TASKS or next(iter(cancelled.values()))[1] < now):
            cancelled.popitem(last=False)
        return self._is_cancelled

    def is_done(self, attempt: Attempt) -> bool:
        """True if nothing is left to do for this attempt.

        Its report is published, or its task is cancelled.
        """
        if attempt in self._done:
            return True
        return self._is_cancelled(attempt) if self._cancelled else False

    def _is_cancelled(self, attempt: Attempt) -> bool:
        workflow_id, position, run, sequence, _ = attempt
        found = self._cancelled.get((workflow_id, position, run))
        return found is not None and sequence <= found[0] and self._clock.now() < found[1]

    def is_put_off(self, attempt: Attempt) -> bool:
        """True if this attempt will run, but not yet.

        Nobody has it in hand then. That is no sign that a process died with it.
        """
        due = self._put_off.get(attempt)
        return due is not None and self._clock.now() < due


class TasksInHand:
    """All that one service executor has in hand.

    Args:
        clock: the time of day.
        trials: which suspect runs in this process.

    Attributes:
        works: attempts that wait for their turn, run, or have a report that is not published.
        waiting: those of them that wait for their turn, by themselves or as batches.
        local: attempts that run for steps which are not committed, or wait for their turn for them.
        batches: all batches that are not done, in order: those that take attempts, wait or run.
        doubtful: attempts that may be in hand elsewhere, or may have ended a process.
        deciding: True while it is acted on what others have answered about some of these. They are
            not among `doubtful` any more. The drain waits for that.
        received: deliveries that nobody has looked at.
        reported: how many of `works` have a report.
        report_bytes: bytes of these reports.
        draining: True once nothing more may begin to run.
        remembered: what is known of attempts that are not in hand any more.
    """

    def __init__(self, clock: Clock, trials: Trials) -> None:
        self.works: dict[Attempt, Work] = {}
        self.waiting: deque[Work | Batch] = deque()
        self.local: dict[Work, None] = {}
        self.batches: dict[Batch, None] = {}
        self.doubtful: dict[Attempt, Work] = {}
        self.deciding = False
        self.received: deque[Delivery] = deque()
        self.reported = 0
        self.report_bytes = 0
        self.draining = False
        self.remembered = Remembered(clock)
        self._clock = clock
        self._trials = trials
        self._changed: asyncio.Future[None] | None = None

    def join(self, work: Work) -> bool:
        """Add the deliveries of `work` to those of the same attempt. False if it is not in hand.

        They are acknowledged together, once the report is published: if the session of the first
        delivery is lost, the second one is the message.

        An attempt that was handed back takes over from a guard in doubt that came before it: no
        worker is lost.
        """
        there = self.works.get(work.attempt) or self.doubtful.get(work.attempt)
        if there is None:
            return False
        number = 0 if work.attempt in self.works else there.count_guards()
        if number and work.was_handed_back_with(number):
            del self.doubtful[work.attempt]
            work.deliveries[:0] = there.deliveries
            return False
        there.deliveries += work.deliveries
        older, newer = there.message.guard, work.message.guard
        in_doubt = there.attempt in self.doubtful
        if in_doubt and older is not None and newer is not None and older.number < newer.number:
            # The newest guard stands for all of them.
            there.message, there.carrier = work.message, work.carrier
        return True

    def is_doubting(self) -> bool:
        """Whether doubts are being settled. A guard that is held waits for nothing but its time."""
        return self.deciding or any(not work.is_held for work in self.doubtful.values())

    def find_guard(self, attempt: Attempt) -> int:
        """Find the number of the newest guard of an attempt that is here; 0: it has none."""
        work = self.works.get(attempt)
        if work is not None:
            return 0 if work.guard is None else work.guard.number
        in_doubt = self.doubtful.get(attempt)
        return 0 if in_doubt is None else in_doubt.count_guards()

    def has_newer(self, attempt: Attempt, number: int) -> bool:
        """Whether a guard with a higher number is in doubt here."""
        in_doubt = self.doubtful.get(attempt)
        return in_doubt is not None and in_doubt.count_guards() > number

    def find_known(self, attempts: Iterable[Attempt]) -> dict[Attempt, bool]:
        """Tell which attempts this executor knows, for the answer to another one (see `Inquiry`).

        Returns:
            True for an attempt for which nothing is left to do, False for one that is in hand or
            put off.
        """
        remembered = self.remembered
        local = {work.attempt for work in self.local} if self.local else ()
        return {
            attempt: remembered.is_done(attempt)
            for attempt in attempts
            if attempt in self.works
            or remembered.is_done(attempt)
            or remembered.is_put_off(attempt)
            or attempt in local
        }

    def put_off(self, work: Work, seconds: float) -> Outbound:
        """Make the message that has an attempt run later, here or elsewhere.

        If another executor asks for the attempt before that, it learns that no process died with
        it.

        Args:
            work: the attempt.
            seconds: how much later.
        """
        due = self._clock.now() + seconds
        self.remembered.add_put_off(work.attempt, due)
        return work.make_handed_back(due, asked=0)

    def list_waiting(self) -> list[Work]:
        """The attempts that wait for their turn, also those in batches. Local ones are left out."""
        waiting = [each for each in self.waiting if isinstance(each, Work) and each not in self.local]
        for batch in self.batches:
            if batch.member is None:
                waiting += batch.works.values()
        return waiting

    def remove_waiting(self, work: Work) -> None:
        """Take out an attempt that waits for its turn. A batch that is empty then goes, too."""
        del self.works[work.attempt]
        batch = work.batch
        if batch is None:
            self.waiting.remove(work)
            return
        batch.remove(work)
        if not batch.works:
            if batch in self.waiting:
                self.waiting.remove(batch)
            self.end_batch(batch)

    def end_batch(self, batch: Batch) -> None:
        """Forget a batch: all its attempts are settled, or are elsewhere."""
        if batch.timer is not None:
            batch.timer.cancel()
            batch.timer = None
        self.batches.pop(batch, None)

    def remove_idle(self) -> list[Outbound]:
        """Take out all that does not run, as messages to hand back."""
        back = [Outbound(delivery.message, [delivery]) for delivery in self.received]
        self.received.clear()
        for work in (*self.list_waiting(), *self.doubtful.values()):
            self._trials.end(work)
            self.works.pop(work.attempt, None)
            back.append(work.make_copy())
        for batch in [batch for batch in self.batches if batch.member is None]:
            self.end_batch(batch)
        idle = set(map(id, self.waiting))
        for local in [work for work in self.local if id(work) in idle]:
            local.withdraw()
        self.waiting.clear()
        self.doubtful.clear()
        return back

    def count_held(self) -> Mapping[str, int]:
        """Count attempts, deliveries that nobody has looked at, and reports."""
        return {
            "attempts": len(self.works) + len(self.waiting) + len(self.doubtful),
            "local attempts": len(self.local),
            "batches": len(self.batches),
            "bytes of batches": sum(batch.size for batch in self.batches),
            "deliveries": len(self.received),
            "reports": self.reported,
            "bytes of reports": self.report_bytes,
        }

    def count_running(self) -> Counter[str]:
        """Count the attempts that run, by the name of their task."""
        idle = {work.attempt for work in self.list_waiting()}
        running = [work for work in self.works.values() if work.report is None and work.attempt not in idle]
        running += [work for work in self.local if work.member is not None]
        return Counter(work.message.task for work in running)

    async def wait_for_change(self) -> None:
        """Return after the next `notify`. One caller at a time waits."""
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    def notify(self) -> None:
        """Wake who waits for room or for the end: something has ended, or was reported."""
        if self._changed is not None:
            wake(self._changed)
