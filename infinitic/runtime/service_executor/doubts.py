"""Attempts that were delivered before: who has them, and did a process die with them?

No attempt in doubt runs before the other executors of the service were asked (see `deaths`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from msgspec.structs import replace

from infinitic.clock import Clock
from infinitic.messages.control import Attempt
from infinitic.runtime.service_executor.deaths import MARKED_COPY_SECONDS, MAX_DEATHS, SUSPECT, Trials, judge
from infinitic.runtime.service_executor.guards import Guards, LostAttempts, count_lost, judge_guard
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.inquiry import Inquiry
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.running import TaskRunner
from infinitic.runtime.service_executor.work import Outbound, Work, count_for_chunk
from infinitic.runtime.wakeup import wake


class Doubts:
    """Settles for attempts in doubt whether they run here, wait, or are done.

    Args:
        in_hand: what the executor has in hand.
        inquiry: asks the other executors.
        trials: which suspect runs in this process.
        runner: runs attempts.
        resender: sends messages again.
        guards: know which tasks have a heartbeat timeout.
        lost: reports attempts whose worker is lost.
        clock: the time of day.
        durability: seconds after which an acknowledgement survives a crash of the broker.
        most_held: how many guards may be held at once. Each takes the place of a task.
    """

    def __init__(
        self,
        in_hand: TasksInHand,
        inquiry: Inquiry,
        trials: Trials,
        runner: TaskRunner,
        resender: Resender,
        guards: Guards,
        lost: LostAttempts,
        clock: Clock,
        durability: float,
        most_held: int,
    ) -> None:
        self._most_held = most_held
        self._in_hand = in_hand
        self._inquiry = inquiry
        self._trials = trials
        self._runner = runner
        self._resender = resender
        self._guards = guards
        self._lost = lost
        self._clock = clock
        self._durability = durability
        self._wanted: asyncio.Future[None] | None = None

    def add(self, work: Work) -> None:
        """Take an attempt that is in doubt."""
        self._in_hand.doubtful[work.attempt] = work
        wake(self._wanted)

    async def run(self) -> None:
        """Settle doubts until cancelled."""
        doubtful = self._in_hand.doubtful
        while True:
            asked = [work for work in doubtful.values() if not work.is_held]
            if not asked:
                self._wanted = asyncio.get_running_loop().create_future()
                await self._wanted
                continue
            heard = await self._inquiry.ask({work.attempt: work.count_guards() for work in asked})
            # Some may have been handed back meanwhile, or replaced. They are in doubt no more.
            works = [work for work in asked if doubtful.get(work.attempt) is work]
            for work in works:
                del doubtful[work.attempt]
            self._in_hand.deciding = True
            try:
                await self._decide(works, heard)
            finally:
                self._in_hand.deciding = False
                self._in_hand.notify()
            if self._runner.batching is not None:
                self._runner.batching.note_settled(self._durability)
            self._runner.pool.wake()

    def _hold(self, work: Work, seconds: float) -> None:
        """Keep a guard of which nobody knows, until it is time to ask once more."""
        if self._in_hand.draining:
            self._resender.handed_back.append(work.make_copy())
            return
        if sum(each.is_held for each in self._in_hand.doubtful.values()) >= self._most_held:
            # A worker that stands still may get it. But if these were all, no task would come.
            self._resender.send_soon([work.make_copy(self._clock.now() + seconds, asked=2)])
            return
        work.message, work.is_held = replace(work.message, asked=2), True
        self._in_hand.doubtful[work.attempt] = work
        asyncio.get_running_loop().call_later(seconds, self._release, work)

    def _release(self, work: Work) -> None:
        work.is_held = False
        if self._in_hand.doubtful.get(work.attempt) is work:
            wake(self._wanted)

    async def place(self, work: Work) -> None:
        """Have an attempt run as soon as a member of the pool is free.

        A suspect runs only if no other one does. Otherwise it is put off.
        """
        deaths = max(work.message.deaths, count_lost(work.message))
        if SUSPECT <= deaths < MAX_DEATHS and not await self._begin_trial(work):
            return
        if self._in_hand.join(work):
            # Another delivery of it came while this waited.
            self._trials.end(work)
        elif self._in_hand.remembered.is_done(work.attempt):
            self._trials.end(work)
            await self._resender.ack(work.deliveries)
        else:
            self._runner.add(work)

    async def _begin_trial(self, work: Work) -> bool:
        """Publish the marked copy of a suspect. False if it does not run now."""
        if not self._trials.begin(work):
            await self._resender.send([self._in_hand.put_off(work, self._trials.choose_delay())])
            return False
        if self._guards.is_guarded(work.message):
            # Its first guard is published before it runs, and stands for it as a marked copy does.
            return True
        due = self._clock.now() + MARKED_COPY_SECONDS
        try:
            await self._resender.send([work.make_copy(due, asked=1, deaths=work.message.deaths + 1)])
        except BaseException as error:
            self._trials.end(work)
            if isinstance(error, asyncio.CancelledError):
                # It has not begun, whatever its marked copy says.
                self._resender.handed_back.append(work.make_copy())
            raise
        if work.deliveries:
            # Its marked copy could not be published: it went to the dead letters, or has failed.
            self._trials.end(work)
            return False
        return True

    async def _decide(self, works: list[Work], heard: Mapping[Attempt, bool]) -> None:
        """Act on the answers, for many attempts at once. Cancelled, it hands back the rest."""
        now = self._clock.now()
        done = [work for work in works if heard.get(work.attempt)]
        lost = list[Work]()
        again: list[tuple[Work, Outbound]] = []
        to_run = deque[Work]()
        for work in works:
            if heard.get(work.attempt):
                continue
            if work.message.guard is not None and work.message.asked:
                verdict = judge_guard(work, heard, self._inquiry.guards, now)
                if isinstance(verdict, Outbound):
                    again.append((work, verdict))
                elif isinstance(verdict, bool):
                    (done if verdict else lost).append(work)
                else:
                    self._hold(work, verdict)
                continue
            outbound = judge(work, heard, now, self._durability)
            if outbound is None:
                to_run.append(work)
            else:
                again.append((work, outbound))
        try:
            await self._resender.ack([delivery for work in done for delivery in work.deliveries])
            while again:
                count = count_for_chunk(len(outbound.message.body) for _, outbound in again)
                sending, again = again[:count], again[count:]
                await self._resender.send([outbound for _, outbound in sending])
            if lost:
                await self._lost.settle(lost)
                lost = []
            while to_run:
                await self.place(to_run.popleft())
        except asyncio.CancelledError:
            left = (*(work for work, _ in again), *lost, *to_run)
            self._resender.handed_back += [work.make_copy() for work in left]
            raise
