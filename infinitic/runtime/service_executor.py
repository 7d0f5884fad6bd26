"""The executor of one service: long-lived pool members run attempts, a flusher publishes and acknowledges reports.

An attempt is done when its report is published, not before: only then is its message acknowledged. A repeat that comes
earlier is acknowledged with it, one that comes later at once; neither is run. A message that another process may have
died with is looked into before it runs (S2, `infinitic.runtime.deaths`). Whatever ends, what is in hand is published as
new: given back as it is, it would look as if this process had died with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from infinitic import topics
from infinitic.clock import Clock
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import PayloadUnavailable, TransportError
from infinitic.messages.control import Attempt
from infinitic.messages.decoding import UndecodableMessage, UnknownMessageType
from infinitic.messages.service import ExecuteTask, decode
from infinitic.runtime.attempt import MAX_DEATHS, Attempts
from infinitic.runtime.blocking import Threads
from infinitic.runtime.deaths import AGAIN_SECONDS, SUSPECT, Inquiry, Remembered, Trials, judge
from infinitic.runtime.members import Members
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.wakeup import wake
from infinitic.runtime.work import CODEC_DELAY, FLUSH_BYTES, LEFT_SECONDS, OUTBOX_BYTES, Outbound, Work, fitting
from infinitic.transport import Delivery, MessageTooLarge, Support

_logger = logging.getLogger("infinitic.executor")


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
        self._handed_back: list[Outbound] = []
        self._handing: asyncio.Future[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._doubts: asyncio.Future[None] | None = None
        self._deciding = False
        self._draining = False
        self._outbox_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._subscription = Subscription(publisher, self.topic, 2 * concurrency)  # of them half is being reported
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
            unsent = [work for work in self._in_hand.values() if work.report is not None]
            if unsent:
                await self._publish(unsent)
                await self._settle(unsent)
            await self._hand_back()
        except TransportError as error:
            _logger.warning("%s: what is in hand goes back as it is: %s", self.topic.name, error)
        finally:
            if self._handing is not None:
                self._handing.cancel()
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
        waiting = len(self._waiting) + len(self._doubtful) + len(self._received) + len(self._handed_back)
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
            received = await self._subscription.receive(room)
            if received is None:
                if not await self._subscription.rejoin():
                    return
                continue
            self._received += received
            while self._received:
                more = self._accept(self._received[0])
                if more is not None:
                    await more
                self._received.popleft()
            self._members.wake()

    async def _wait_for_threads(self, threads: Threads) -> None:
        """Take nothing more while as many threads go on without an attempt as attempts may run."""
        _logger.error(
            "%s: no more tasks are taken: %d threads go on whose attempts are over, and no more than %d may",
            self.topic.name,
            threads.abandoned,
            self._concurrency,
        )
        self._collect()
        await self._hand_back()
        while threads.abandoned >= self._concurrency:
            await threads.wait_for_fewer()
        _logger.warning("%s: tasks are taken again", self.topic.name)

    def _accept(self, delivery: Delivery) -> Awaitable[None] | None:
        """Put a delivery where it belongs. If more is to be done for it, it is returned, and must be awaited."""
        try:
            message = decode(delivery.message.body)
        except UndecodableMessage as error:
            return self._bury([delivery], str(error))
        except UnknownMessageType as error:  # a copy is left to workers of a newer release: it counts no death
            _logger.warning("%s: %s", self.topic.name, error)
            later = replace(delivery.message, deliver_at=self._clock.now() + LEFT_SECONDS)
            return self._send([Outbound(later, [delivery])])
        work = Work(message, message.attempt, [delivery], delivery.message)
        if self._joins(work):
            return None
        if self._remembered.is_done(work.attempt):
            return self._subscription.ack_if_held(work.deliveries)
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
        again = [outbound for _, outbound in judged if outbound is not None]
        suspects = [work for work, outbound in judged if outbound is None]
        left = [*done, *(work for work, outbound in judged if outbound is not None), *suspects]
        try:
            await self._subscription.ack_if_held([delivery for work in done for delivery in work.deliveries])
            del left[: len(done)]
            while again:
                count = fitting(len(each.message.body) for each in again)
                await self._send(again[:count])
                del again[:count], left[:count]
            for work in suspects:
                await self._place(work)
                del left[0]
        except asyncio.CancelledError:
            self._handed_back += [work.again() for work in left]
            raise

    async def _place(self, work: Work) -> None:
        """Have it run as soon as there is a member for it; a suspect only if no other one is on trial here."""
        message = work.message
        if SUSPECT <= message.deaths < MAX_DEATHS:
            if not self._trials.begin():
                await self._put_off(work, self._trials.turn())
                return
            work.on_trial = True
            try:
                await self._send([work.again(self._later(AGAIN_SECONDS), asked=1, deaths=message.deaths + 1)])
            except BaseException:
                self._end_trial(work)
                raise
            if work.deliveries:  # its marked copy could not be published: it is buried
                self._end_trial(work)
                return
        if self._joins(work):  # a repeat came meanwhile
            self._end_trial(work)
        elif self._remembered.is_done(work.attempt):
            self._end_trial(work)
            await self._subscription.ack_if_held(work.deliveries)
        else:
            self._enqueue(work)

    def _enqueue(self, work: Work) -> None:
        """Have it run as soon as there is a member for it."""
        if self._draining:
            self._end_trial(work)
            self._handed_back.append(work.again())
        else:
            self._in_hand[work.attempt] = work
            self._waiting.append(work)

    async def _put_off(self, work: Work, seconds: float) -> None:
        """Have it run later, here or elsewhere. Whoever asks for it until then hears that nobody died with it."""
        due = self._later(seconds)
        self._remembered.put_off(work.attempt, due)
        await self._send([work.again(due, asked=0)])

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
                self._handed_back.append(work.again(asked=0, deaths=0))
            raise
        except PayloadUnavailable as error:
            _logger.warning("%s: a task is put off for %.0f s: %s", self.topic.name, CODEC_DELAY, error)
            try:
                await self._put_off(work, CODEC_DELAY)
            except asyncio.CancelledError:
                stays = not self._members.is_ending()
                if not stays:
                    self._handed_back.append(work.again(asked=0))
                raise
        except (SystemExit, KeyboardInterrupt) as leaving:
            if self._leave is None:
                raise
            self._handed_back.append(work.again(asked=0, deaths=work.message.deaths + 1))
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
        for delivery in self._received:
            self._handed_back.append(Outbound(delivery.message, [delivery]))
        self._received.clear()
        for work in (*self._waiting, *self._doubtful.values()):
            self._end_trial(work)
            self._in_hand.pop(work.attempt, None)
            self._handed_back.append(work.again())
        self._waiting.clear()
        self._doubtful.clear()

    async def _hand_back(self) -> None:
        """Publish as new what is to be handed back. If this is cut, the next call goes on with it: once is enough."""
        while self._handed_back:
            if self._handing is None or self._handing.done():
                self._handing = asyncio.ensure_future(self._publish_handed_back())
                self._handing.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._handing)

    async def _publish_handed_back(self) -> None:
        outbound = list(self._handed_back)
        await self._send(outbound)
        del self._handed_back[: len(outbound)]

    async def _send(self, outbound: Sequence[Outbound]) -> None:
        """Publish messages again, then acknowledge the deliveries that they stand for."""
        try:
            await self._publisher.send(self.topic, [each.message for each in outbound])
        except MessageTooLarge as error:
            if len(outbound) > 1:
                for each in outbound:
                    await self._send([each])
                return
            await self._fail_unsent(outbound[0], error)
            return
        while deliveries := [delivery for each in outbound for delivery in each.deliveries]:
            await self._subscription.ack_if_held(deliveries)
            settled = set(map(id, deliveries))
            for each in outbound:  # others may have joined meanwhile
                each.deliveries[:] = [delivery for delivery in each.deliveries if id(delivery) not in settled]

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
            await self._publish(reports)
            await self._settle(reports)
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
        await self._subscription.ack_if_held(deliveries)

    async def _publish(self, reported: list[Work]) -> None:
        try:
            await self._publisher.publish([work.report for work in reported if work.report is not None])
        except MessageTooLarge as error:
            if len(reported) > 1:
                for work in reported:
                    await self._publish([work])
                return
            _logger.error("%s: the report of a task cannot be sent: %s", self.topic.name, error)
            await self._report_less(reported[0].message, reported[0].deliveries, error)

    async def _report_less(self, message: ExecuteTask, deliveries: list[Delivery], error: MessageTooLarge) -> None:
        """The broker takes less than it was asked for at the start: the task fails, and the workflow learns why."""
        smaller = self._attempts.failed(message, error, error.limit)
        try:
            await self._publisher.publish([smaller])
        except MessageTooLarge as again:
            await self._publisher.bury(self.topic, deliveries, f"No report of this task can be sent: {again}")

    async def _fail_unsent(self, outbound: Outbound, error: MessageTooLarge) -> None:
        """The broker takes less than when this message came. Nobody else will get it: its task fails."""
        try:
            message = decode(outbound.message.body)
        except UnknownMessageType:  # whom to tell only a newer release knows
            await self._bury(outbound.deliveries, f"It cannot be sent again: {error}")
            return
        _logger.error("%s: a task cannot be sent again, and fails: %s", self.topic.name, error)
        await self._report_less(message, outbound.deliveries, error)
        await self._subscription.ack(outbound.deliveries)

    async def _bury(self, deliveries: list[Delivery], reason: str) -> None:
        _logger.error("%s: a message goes to the dead letters: %s", self.topic.name, reason[:500])
        await self._publisher.bury(self.topic, deliveries, reason)
        await self._subscription.ack_if_held(deliveries)
