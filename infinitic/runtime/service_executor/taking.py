"""First step: receive messages, and put each where it belongs.

No more is taken than can run: what waits here would count a death if this process died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress

from msgspec.structs import replace

from infinitic.clock import Clock
from infinitic.messages.decoding import UndecodableMessage, UnknownMessageType
from infinitic.messages.service import decode
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.runtime.service_executor.deaths import SUSPECT
from infinitic.runtime.service_executor.doubts import Doubts
from infinitic.runtime.service_executor.guards import count_lost
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.running import TaskRunner
from infinitic.runtime.service_executor.work import Outbound, Work
from infinitic.runtime.subscription import Subscription
from infinitic.transport import Delivery

_logger = logging.getLogger("infinitic.executor")

REPORT_BYTES = 16 * 1024 * 1024
"""Bytes of reports that wait to be published, above which no more tasks are taken."""

NEWER_RELEASE_SECONDS = 5.0
"""Seconds until the next worker looks at a message that only a newer release knows."""

LAST_MESSAGES_SECONDS = 0.05
"""Seconds for which an executor that ends waits for messages that the broker is just delivering."""


class TaskIntake:
    """Receives tasks and hands them over to the runner.

    Args:
        subscription: where tasks come from.
        in_hand: what the executor has in hand.
        doubts: take what may run elsewhere.
        runner: takes what can run at once.
        resender: sends what goes elsewhere, and acknowledges what is done.
        clock: the time of day.
        concurrency: how many attempts run at once.
        threads: where `def` tasks run, if it counts those that are abandoned.
        ahead: how many attempts may wait for their turn here; None: any number.
        counts_redeliveries: False if a crash makes the broker forget how often it delivered
            a message.
    """

    def __init__(
        self,
        subscription: Subscription,
        in_hand: TasksInHand,
        doubts: Doubts,
        runner: TaskRunner,
        resender: Resender,
        clock: Clock,
        concurrency: int,
        *,
        threads: Threads | None,
        counts_redeliveries: bool,
        ahead: int | None = None,
    ) -> None:
        self._subscription = subscription
        self._topic = subscription.topic.name
        self._in_hand = in_hand
        self._doubts = doubts
        self._runner = runner
        self._resender = resender
        self._clock = clock
        self._concurrency = concurrency
        self._threads = threads
        self._ahead = ahead
        self._subscribed_at = 0.0
        # As many messages of before may have been in hand at a process that died. Batches have
        # more. But if all of these were in doubt, a worker that starts would count a death for a
        # whole backlog. A culprit among the others is found later: those before it go to the end.
        self._suspicious = 0 if counts_redeliveries else concurrency
        # How many messages the broker is asked for at this moment.
        self._asked_for = 0
        self._receiver: asyncio.Task[None] | None = None
        self._is_stopped = False

    async def join(self) -> None:
        """Join the subscription."""
        self._subscribed_at = self._clock.now()
        await self._subscription.join()

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Begin to receive, in this group. After `stop`, nothing is received."""
        if self._is_stopped:
            return
        self._receiver = group.create_task(self._receive())

    def stop(self) -> None:
        """Stop receiving. What is on its way comes with `receive_last`."""
        self._is_stopped = True
        if self._receiver is not None:
            self._receiver.cancel()

    async def receive_last(self) -> list[Outbound]:
        """Receive what the broker is just delivering, once receiving is stopped.

        Given back as it is, it would look as if this process had died with it.

        Returns:
            Messages to hand back.
        """
        if self._receiver is not None:
            await asyncio.wait({self._receiver})
        if not self._asked_for:
            return []
        received: list[Delivery] | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_MESSAGES_SECONDS):
                received = await self._subscription.receive(self._asked_for)
        self._asked_for = 0
        return [Outbound(delivery.message, [delivery]) for delivery in received or ()]

    async def _receive(self) -> None:
        in_hand, concurrency = self._in_hand, self._concurrency
        incoming = in_hand.received
        while True:
            if self._threads is not None and self._threads.abandoned >= concurrency:
                await self._wait_for_threads(self._threads)
            batching = self._runner.batching
            free = concurrency - len(in_hand.works) - len(in_hand.local) + in_hand.reported
            room = free if batching is None else batching.count_room()
            if self._ahead is not None:
                # What waits here could begin on another worker.
                room = min(room, self._ahead - len(in_hand.waiting))
            if room <= 0 or in_hand.report_bytes >= REPORT_BYTES:
                await in_hand.wait_for_change()
                continue
            self._asked_for = room
            received = await self._subscription.receive(room)
            self._asked_for = 0
            if received is None:
                if not await self._subscription.rejoin():
                    return
                continue
            # If this is cancelled while it waits for one of them, the others are handed back.
            incoming += received
            while incoming:
                more = self._accept(incoming.popleft())
                if more is not None:
                    await more
            self._runner.pool.wake()

    def _accept(self, delivery: Delivery) -> Awaitable[None] | None:
        """Put a delivery where it belongs.

        Returns:
            What is left to do for it, to be awaited. None: nothing.
        """
        message = delivery.message
        try:
            task = decode(message.body)
        except UndecodableMessage as error:
            self._resender.give_up_soon(delivery, error)
            return None
        except UnknownMessageType as error:
            # A copy goes to workers of a newer release: a redelivery would count as a death.
            _logger.warning("%s: %s", self._topic, error)
            later = replace(message, deliver_at=self._clock.now() + NEWER_RELEASE_SECONDS)
            self._resender.send_soon([Outbound(later, [delivery])])
            return None
        in_hand = self._in_hand
        attempt = task.attempt
        work = Work(task, attempt, [delivery], message)
        if (attempt in in_hand.works or in_hand.doubtful) and in_hand.join(work):
            return None
        if in_hand.remembered.is_done(attempt):
            return self._resender.ack(work.deliveries)
        if delivery.attempt > 1 or task.asked or (self._suspicious and self._is_suspicious(delivery)):
            self._doubts.add(work)
            return None
        if task.deaths >= SUSPECT or (task.last_failure is not None and count_lost(task) >= SUSPECT):
            return self._doubts.place(work)
        self._runner.add(work)
        return None

    def _is_suspicious(self, delivery: Delivery) -> bool:
        """True if a process may have died with it before this executor came.

        Only a broker that forgets redeliveries makes that question necessary.
        """
        self._suspicious -= 1
        return delivery.published_at < self._subscribed_at

    async def _wait_for_threads(self, threads: Threads) -> None:
        """Take nothing more while abandoned threads use up all that may run at once."""
        _logger.error(
            "%s: no more tasks are taken: %d threads still run although their attempts are over, and at most %d may",
            self._topic,
            threads.abandoned,
            self._concurrency,
        )
        self._resender.handed_back += self._in_hand.remove_idle()
        await self._resender.hand_back()
        while threads.abandoned >= self._concurrency:
            await threads.wait_for_fewer()
        _logger.warning("%s: tasks are taken again", self._topic)
