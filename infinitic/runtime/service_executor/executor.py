"""The executor of one service: long-lived pool members run attempts, a flusher publishes and acknowledges reports.

An attempt is done when its report is published, not before: only then is its message acknowledged. A repeat that comes
earlier is acknowledged with it, one that comes later at once; neither is run. A message that another process may have
died with is looked into before it runs (S2, see `deaths`). Whatever ends, what is in hand is published as
new: given back as it is, it would look as if this process had died with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from infinitic import topics
from infinitic.clock import Clock
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import PayloadUnavailable, TransportError
from infinitic.messages.control import Attempt
from infinitic.messages.decoding import UndecodableMessage, UnknownMessageType
from infinitic.messages.service import decode
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.attempt import MAX_DEATHS, Attempts
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.runtime.service_executor.deaths import AGAIN_SECONDS, SUSPECT, Inquiry, Remembered, Trials, judge
from infinitic.runtime.service_executor.members import Members
from infinitic.runtime.service_executor.reporting import Reporting
from infinitic.runtime.service_executor.resending import Resending
from infinitic.runtime.service_executor.work import (
    CODEC_DELAY,
    FLUSH_BYTES,
    LEFT_SECONDS,
    OUTBOX_BYTES,
    Outbound,
    Work,
    fitting,
)
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.transport import Delivery, Support

_logger = logging.getLogger("infinitic.executor")

ON_ITS_WAY_SECONDS = 0.05
"""How long an executor that ends waits for messages that the broker is just handing to it."""


class ServiceExecutor:
    """Runs the tasks of one service, at most `concurrency` at a time.

    Args:
        attempts: runs one attempt.
        publisher: publishes reports, and messages again.
        clock: the time of day.
        concurrency: how many attempts run at once.
        trials: shared by the executors of a process.
        threads: where `def` tasks run, if it counts those that are abandoned.
        leave: called with the `SystemExit` or `KeyboardInterrupt` that a task raised: the worker has to end.
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
    ) -> None:
        self.name = attempts.service.name
        self.topic = topics.service_executor(self.name)
        self._attempts = attempts
        self._publisher = publisher
        self._clock = clock
        self._concurrency = concurrency
        self._trials = trials or Trials()
        self._threads = threads
        self._leave = leave
        self._received: deque[Delivery] = deque()
        self._doubtful: dict[Attempt, Work] = {}
        self._members = Members(concurrency, self._attempt)
        self._waiting = self._members.waiting
        self._in_hand: dict[Attempt, Work] = {}  # what waits for a member, runs, or has a report to be published
        self._reported = 0  # of those
        self._remembered = Remembered(clock)
        self._reports: dict[str, list[Work]] = {}  # by topic; each has a flusher, which waits for more
        self._flush_needed: dict[str, asyncio.Future[None]] = {}
        self._flushing = 0
        self._settled: list[Delivery] = []  # whose acknowledgement was cut, by the end
        self._receiver: asyncio.Task[None] | None = None
        self._doubts: asyncio.Future[None] | None = None
        self._deciding = False
        self._draining = False
        self._outbox_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._subscription = Subscription(publisher, self.topic, 2 * concurrency)  # of them half is being reported
        self._asking = 0  # how many messages it asks the broker for
        self._reporting = Reporting(self.topic, publisher, attempts)
        self._resending = Resending(self.topic, publisher, self._subscription, self._reporting)
        self._inquiry = Inquiry(self.name, publisher, self._known)
        self._subscribed_at = 0.0
        self._durability = publisher.transport.capabilities.ack_durability
        counts = publisher.transport.capabilities.support("RED-3") is Support.GUARANTEED
        self._suspects = 0 if counts else concurrency  # a process before had no more in hand

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    async def start(self) -> None:
        """Join the subscription. Who has messages in hand hears what the others ask: that is joined first."""
        await self._inquiry.start()
        self._subscribed_at = self._clock.now()
        await self._subscription.join()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._members.begin(group)
            self._receiver = group.create_task(self._receive())
            group.create_task(self._inquiry.run())
            group.create_task(self._resolve())

    async def drain(self) -> None:
        """Stop receiving, hand back what waits, and return when everything that runs has been reported."""
        self._draining = True
        self._stop_receiving()
        await self._hand_back()
        while self._in_hand or self._flushing or self._deciding:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        await self.close()

    async def close(self) -> None:
        """Hand back what is in hand, also what was cut, and leave. Reports that were not published yet go first."""
        try:
            self._collect()
            await self._publish_rest()
            await self._hand_back()
        except TransportError as error:
            _logger.warning("%s: what is in hand goes back as it is: %s", self.topic.name, error)
        try:
            await self._resending.finish()
        finally:
            if self._threads is not None:
                self._threads.close()
            await self._inquiry.close()
            await self._subscription.close()

    def unfinished(self) -> str:
        """What is in hand, as text for the log; empty if nothing is."""
        idle = {work.attempt for work in self._waiting}
        running = [work for work in self._in_hand.values() if work.report is None and work.attempt not in idle]
        parts = [f"{n} x {task} running" for task, n in Counter(work.message.task for work in running).items()]
        if self._reported:
            parts.append(f"{self._reported} report(s) not sent")
        waiting = len(self._waiting) + len(self._doubtful) + len(self._received) + self._resending.count
        if waiting:
            parts.append(f"{waiting} task(s) not handed back")
        return f"service {self.name}: {', '.join(parts)}" if parts else ""

    # What comes in.

    def _stop_receiving(self) -> None:
        if self._receiver is not None:
            self._receiver.cancel()
        self._collect()

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._threads is not None and self._threads.abandoned >= self._concurrency:
                await self._wait_for_threads(self._threads)
            room = self._concurrency - (len(self._in_hand) - self._reported)
            # What waits here would count as one more death if this process died: leave it to others.
            if room <= 0 or self._outbox_bytes >= OUTBOX_BYTES:
                self._room = loop.create_future()
                await self._room
                continue
            self._asking = room
            received = await self._subscription.receive(room)
            self._asking = 0
            if received is None:
                if not await self._subscription.rejoin():
                    return
                continue
            self._received += received
            while self._received:
                more = self._accept(self._received.popleft())
                if more is not None:
                    await more
            self._members.wake()

    async def _hand_back(self) -> None:
        """Hand back what has not begun, and what is on its way from the broker: as it is, it would count as a death."""
        if self._receiver is not None:
            await asyncio.wait({self._receiver})
        if self._asking:  # before anything is handed back, or that would be taken again
            received: list[Delivery] | None = None
            with suppress(TimeoutError):
                async with asyncio.timeout(ON_ITS_WAY_SECONDS):
                    received = await self._subscription.receive(self._asking)
            self._asking = 0
            self._resending.handed_back += [Outbound(delivery.message, [delivery]) for delivery in received or ()]
        await self._resending.hand_back()

    async def _wait_for_threads(self, threads: Threads) -> None:
        """Take nothing more while as many threads go on without an attempt as attempts may run."""
        _logger.error(
            "%s: no more tasks are taken: %d threads go on whose attempts are over, and no more than %d may",
            self.topic.name,
            threads.abandoned,
            self._concurrency,
        )
        self._collect()
        await self._resending.hand_back()
        while threads.abandoned >= self._concurrency:
            await threads.wait_for_fewer()
        _logger.warning("%s: tasks are taken again", self.topic.name)

    def _accept(self, delivery: Delivery) -> Awaitable[None] | None:
        """Put a delivery where it belongs. If more is to be done for it, it is returned, and must be awaited."""
        try:
            message = decode(delivery.message.body)
        except UndecodableMessage as error:
            self._resending.give_up_soon(delivery, error)
            return None
        except UnknownMessageType as error:  # a copy is left to workers of a newer release: it counts no death
            _logger.warning("%s: %s", self.topic.name, error)
            later = replace(delivery.message, deliver_at=self._clock.now() + LEFT_SECONDS)
            self._resending.send_soon([Outbound(later, [delivery])])
            return None
        work = Work(message, message.attempt, [delivery], delivery.message)
        if self._joins(work):
            return None
        if self._remembered.is_done(work.attempt):
            return self._resending.ack(work.deliveries)
        if delivery.attempt > 1 or message.asked or (self._suspects > 0 and self._is_suspect(delivery)):
            self._doubtful[work.attempt] = work
            wake(self._doubts)
            return None
        if message.deaths >= SUSPECT:
            return self._place(work)
        self._enqueue(work)
        return None

    def _joins(self, work: Work) -> bool:
        """True if this attempt is in hand already: its deliveries are settled together."""
        there = self._in_hand.get(work.attempt) or self._doubtful.get(work.attempt)
        if there is None:
            return False
        there.deliveries += work.deliveries
        return True

    def _is_suspect(self, delivery: Delivery) -> bool:
        """True if another executor may have died with it, where the broker forgets that it was handed out before."""
        self._suspects -= 1
        return delivery.published_at < self._subscribed_at

    def _known(self, attempts: Iterable[Attempt]) -> dict[Attempt, bool]:
        """What this executor answers when it is asked for attempts (see `Inquiry`)."""
        remembered = self._remembered
        return {
            attempt: remembered.is_done(attempt)
            for attempt in attempts
            if attempt in self._in_hand or remembered.is_done(attempt) or remembered.is_put_off(attempt)
        }

    async def _resolve(self) -> None:
        """Ask the others for what is doubtful, and let it run, wait or go."""
        while True:
            if not self._doubtful:
                self._doubts = asyncio.get_running_loop().create_future()
                await self._doubts
            asked = list(self._doubtful.values())
            heard = await self._inquiry.ask(work.attempt for work in asked)
            # What was handed back meanwhile is in doubt no more.
            works = [work for work in asked if self._doubtful.pop(work.attempt, None) is not None]
            self._deciding = True
            try:
                await self._decide(works, heard)
            finally:
                self._deciding = False
                wake(self._drained)
            self._members.wake()

    async def _decide(self, works: list[Work], heard: Mapping[Attempt, bool]) -> None:
        """Settle doubts, as many at once as can be. What is not settled when this is cut is handed back."""
        done = [work for work in works if heard.get(work.attempt)]
        now = self._clock.now()
        judged = [(work, judge(work, heard, now, self._durability)) for work in works if not heard.get(work.attempt)]
        again = [(work, outbound) for work, outbound in judged if outbound is not None]
        suspects = deque(work for work, outbound in judged if outbound is None)
        try:
            await self._resending.ack([delivery for work in done for delivery in work.deliveries])
            while again:
                count = fitting(len(outbound.message.body) for _, outbound in again)
                sending, again = again[:count], again[count:]
                await self._resending.send([outbound for _, outbound in sending])
            while suspects:
                await self._place(suspects.popleft())
        except asyncio.CancelledError:
            left = (*(work for work, _ in again), *suspects)
            self._resending.handed_back += [work.again() for work in left]
            raise

    async def _place(self, work: Work) -> None:
        """Have it run as soon as there is a member for it; a suspect only if no other one is on trial here."""
        message = work.message
        if SUSPECT <= message.deaths < MAX_DEATHS:
            if not self._trials.begin():
                await self._resending.send([self._put_off(work, self._trials.turn())])
                return
            work.on_trial = True
            try:
                marked = work.again(self._later(AGAIN_SECONDS), asked=1, deaths=message.deaths + 1)
                await self._resending.send([marked])
            except BaseException as error:
                self._end_trial(work)
                if isinstance(error, asyncio.CancelledError):  # it has not begun, whatever its marked copy says
                    self._resending.handed_back.append(work.again())
                raise
            if work.deliveries:  # its marked copy could not be published: it went to the dead letters
                self._end_trial(work)
                return
        if self._joins(work):  # a repeat came meanwhile
            self._end_trial(work)
        elif self._remembered.is_done(work.attempt):
            self._end_trial(work)
            await self._resending.ack(work.deliveries)
        else:
            self._enqueue(work)

    def _enqueue(self, work: Work) -> None:
        """Have it run as soon as there is a member for it."""
        if self._draining:
            self._end_trial(work)
            self._resending.handed_back.append(work.again())
        else:
            self._in_hand[work.attempt] = work
            self._waiting.append(work)

    def _put_off(self, work: Work, seconds: float) -> Outbound:
        """Have it run later, here or elsewhere. Whoever asks for it until then hears that nobody died with it."""
        due = self._later(seconds)
        self._remembered.put_off(work.attempt, due)
        return work.again(due, asked=0)

    # What runs.

    async def _attempt(self, work: Work) -> None:
        stays = False
        try:
            if work.on_trial and self._durability:  # if it dies sooner, its message comes again beside its marked copy
                await asyncio.sleep(self._durability)
            report = await self._attempts.run(work.message, self._members.is_ending)
        except asyncio.CancelledError:  # the grace period is over: this process outlives the task, which clears it
            stays = not self._members.is_ending()  # then it is run again
            if not stays:
                self._resending.handed_back.append(work.again(asked=0, deaths=0))
            raise
        except PayloadUnavailable as error:
            _logger.warning("%s: a task is put off for %.0f s: %s", self.topic.name, CODEC_DELAY, error)
            self._resending.send_soon([self._put_off(work, CODEC_DELAY)])
        except (SystemExit, KeyboardInterrupt) as leaving:
            if self._leave is None:
                raise
            self._resending.handed_back.append(work.again(asked=0, deaths=work.message.deaths + 1))
            self._stop_receiving()  # or it would come here again
            self._leave(leaving)
        else:
            stays = True
            self._report(work, report)
        finally:
            if not stays:
                del self._in_hand[work.attempt]
            if work.on_trial:
                self._end_trial(work)
            if self._room is not None:
                wake(self._room)
            if self._draining:
                wake(self._drained)

    def _end_trial(self, work: Work) -> None:
        if work.on_trial:
            work.on_trial = False
            self._trials.end()

    # What goes out.

    def _later(self, seconds: float) -> float:
        return self._clock.now() + seconds

    def _collect(self) -> None:
        """What has not begun is to be handed back. What is doubtful stays so."""
        back = self._resending.handed_back
        for delivery in self._received:
            back.append(Outbound(delivery.message, [delivery]))
        self._received.clear()
        for work in (*self._waiting, *self._doubtful.values()):
            self._end_trial(work)
            self._in_hand.pop(work.attempt, None)
            back.append(work.again())
        self._waiting.clear()
        self._doubtful.clear()

    def _report(self, work: Work, report: Outgoing) -> None:
        work.report = report
        work.report_bytes = len(report.message.body)
        self._reported += 1
        self._outbox_bytes += work.report_bytes
        topic = report.topic.name
        waiting = self._reports.get(topic)
        if waiting is not None:
            waiting.append(work)
            if len(waiting) == 1:
                wake(self._flush_needed.get(topic))
        elif not self._members.is_ending():  # else the close publishes it
            self._reports[topic] = [work]
            self._group.create_task(self._flush(topic))

    async def _flush(self, topic: str) -> None:
        """Publish the reports on one topic: one that takes nothing holds up no other."""
        loop = asyncio.get_running_loop()
        waiting = self._reports[topic]
        while True:
            if not waiting:
                wake(self._drained)
                self._flush_needed[topic] = loop.create_future()
                await self._flush_needed[topic]
            count = len(waiting)
            if self._outbox_bytes > FLUSH_BYTES:  # else these have less, too
                count = fitting(work.report_bytes for work in waiting)
            reports = waiting[:count]
            del waiting[:count]
            self._flushing += 1
            published, refused = await self._reporting.publish(reports)
            for work in refused:
                self._group.create_task(self._report_refused(work))
            await self._settle(published)
            self._flushing -= 1

    async def _settle(self, reported: list[Work]) -> None:
        """These reports are published: from here on a repeat is acknowledged at once."""
        deliveries: list[Delivery] = []
        for work in reported:
            if self._in_hand.pop(work.attempt, None) is not None:
                self._reported -= 1
                self._outbox_bytes -= work.report_bytes
            deliveries += work.deliveries
        self._remembered.done(work.attempt for work in reported)
        wake(self._room)
        try:
            await self._subscription.ack_if_held(deliveries)
        except asyncio.CancelledError:  # the close goes on with it: what comes again would run again
            self._settled += deliveries
            raise

    async def _publish_rest(self) -> None:
        """Publish the reports that are left, and acknowledge what has been reported."""
        unsent = [work for work in self._in_hand.values() if work.report is not None]
        if unsent:
            published, refused = await self._reporting.publish(unsent)
            if refused:
                _logger.warning("%s: %d tasks go back, since their reports are refused", self.topic.name, len(refused))
            await self._settle(published)
        settled, self._settled = self._settled, []
        await self._resending.ack(settled)

    async def _report_refused(self, work: Work) -> None:
        """Publish what the broker has refused, once it takes it: no other report waits for that."""
        await self._reporting.publish_refused(work)
        await self._settle([work])
        wake(self._drained)
