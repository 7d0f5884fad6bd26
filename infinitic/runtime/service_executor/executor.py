"""The executor of one service. Its parts are the steps of a task:

1. `TaskIntake` receives a message and decides where it goes.
2. `TaskRunner` runs the attempt.
3. `ReportQueue` publishes the report, then acknowledges the message.
4. `HandBack` ends the executor: what has not begun goes to other workers.

`Doubts` stands beside the first step: a message that came before is looked into before it runs.
`Cancelling` stops what nobody waits for any more, wherever it is.
All of them share `TasksInHand`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from infinitic import topics
from infinitic.clock import Clock
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.announcing import TaskAnnouncer
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.batching import choose_prefetch, find_batch_methods
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.runtime.service_executor.cancelling import Cancelling
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.doubts import Doubts
from infinitic.runtime.service_executor.ending import HandBack
from infinitic.runtime.service_executor.guards import Guards, LostAttempts
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.inquiry import Inquiry
from infinitic.runtime.service_executor.local_attempts import LocalAttempts
from infinitic.runtime.service_executor.pace import Pace
from infinitic.runtime.service_executor.report_publisher import ReportPublisher
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.running import TaskRunner
from infinitic.runtime.service_executor.taking import TaskIntake
from infinitic.runtime.subscription import Subscription
from infinitic.transport import Support


class ServiceExecutor:
    """Runs the tasks of one service, at most `concurrency` at a time.

    Args:
        attempts: runs one attempt.
        publisher: publishes reports, and messages again.
        clock: the time of day.
        concurrency: how many attempts run at once.
        trials: shared by the executors of a process; None: this is the only one.
        threads: where `def` tasks run, if it counts those that are abandoned.
        max_per_second: how many attempts begin in a second at most; None: any number.
        leave: called with the `SystemExit` or `KeyboardInterrupt` that a task raised: the worker
            has to end.
        event_switch: whether event listeners are told; None: they are not.
    """

    def __init__(
        self,
        attempts: Attempts,
        publisher: Publisher,
        clock: Clock,
        concurrency: int,
        *,
        trials: Trials | None = None,
        threads: Threads | None = None,
        leave: Callable[[BaseException], object] | None = None,
        event_switch: EventSwitch | None = None,
        max_per_second: float | None = None,
    ) -> None:
        self.name = attempts.service.name
        self.topic = topics.service_executor(self.name)
        self._threads = threads
        self._leave = leave
        self.local: LocalAttempts | None = None
        """Runs its local tasks; None: it has none."""
        capabilities = publisher.transport.capabilities
        durability = capabilities.ack_durability
        trials = trials or Trials()
        self._in_hand = in_hand = TasksInHand(clock, trials)
        batches = find_batch_methods(attempts.service)
        prefetch = choose_prefetch(batches, concurrency)
        pace = None if max_per_second is None else Pace(max_per_second)
        # A batch needs more tasks than begin in a second, or it would never be full.
        ahead = None if pace is None or batches else pace.ahead
        if ahead is not None:
            # What runs is in hand, too, until it is reported.
            prefetch = min(prefetch, concurrency + 2 * ahead)
        self._subscription = subscription = Subscription(publisher, self.topic, prefetch)
        self._announcer = announcer = TaskAnnouncer(
            self.name, attempts.worker_name, publisher, clock.now, event_switch or EventSwitch()
        )
        report_publisher = ReportPublisher(self.topic, publisher, attempts, clock.now, announcer)
        self._resender = resender = Resender(self.topic, publisher, subscription, report_publisher)
        self._reports = ReportQueue(in_hand, report_publisher, subscription, resender)
        guards = Guards(self.topic, publisher, attempts, resender, clock)
        self._runner = TaskRunner(
            attempts,
            concurrency,
            in_hand,
            trials,
            self._reports,
            resender,
            announcer,
            guards,
            durability=durability,
            leave=None if leave is None else self._leave_worker,
            pace=pace,
        )
        if any(task.local for task in attempts.service.tasks.values()):
            self.local = LocalAttempts(
                attempts,
                self._runner.pool,
                in_hand,
                self._reports,
                resender,
                announcer,
                concurrency,
                threads=threads,
                leave=None if leave is None else self._leave_worker,
            )
        cancelling = Cancelling(in_hand, trials, resender)
        self._inquiry = Inquiry(
            self.name,
            publisher,
            in_hand.find_known,
            in_hand.find_guard,
            in_hand.has_newer,
            cancelling.cancel,
            cancelling.stop_lost,
        )
        self._lost = lost = LostAttempts(publisher, attempts, report_publisher, resender, in_hand, clock)
        most_held = max(1, prefetch // 4)
        self._doubts = Doubts(
            in_hand, self._inquiry, trials, self._runner, resender, guards, lost, clock, durability, most_held
        )
        self._intake = TaskIntake(
            subscription,
            in_hand,
            self._doubts,
            self._runner,
            resender,
            clock,
            concurrency,
            threads=threads,
            ahead=ahead,
            counts_redeliveries=capabilities.support("RED-3") is Support.GUARANTEED,
        )
        self._hand_back = HandBack(self.name, in_hand, self._intake, self._doubts, self._reports, resender)

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done."""
        return {
            **self._in_hand.count_held(),
            "batches of reports": self._reports.publishing,
            "messages to be sent": self._resender.count,
        }

    async def start(self) -> None:
        """Join the subscription."""
        # Whoever has messages in hand must hear what the others ask. So that is joined first.
        await self._inquiry.start()
        await self._intake.join()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._reports.begin(group)
            self._runner.pool.begin(group)
            self._intake.begin(group)
            group.create_task(self._inquiry.run())
            group.create_task(self._doubts.run())
            group.create_task(self._announcer.run())

    async def drain(self) -> None:
        """Stop receiving, hand back what waits, and leave when all that runs is reported."""
        await self._hand_back.drain()
        await self.close()

    async def close(self) -> None:
        """Hand back what is in hand, also attempts that were cancelled, and leave."""
        await self._hand_back.hand_back_all()
        try:
            await self._lost.tell_done()
            await self._resender.finish()
        finally:
            if self._threads is not None:
                self._threads.close()
            await self._inquiry.close()
            await self._subscription.close()

    def unfinished(self) -> str:
        """Say what is in hand, for the log. Empty if nothing is."""
        return self._hand_back.describe_rest()

    def _leave_worker(self, leaving: BaseException) -> None:
        """End the worker, because a task wants that. Its message must not come here again."""
        assert self._leave is not None
        self._hand_back.stop_taking()
        self._leave(leaving)
