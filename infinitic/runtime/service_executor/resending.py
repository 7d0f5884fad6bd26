"""What an executor sends to its own topic again, or to the dead letters.

Each message is published first; then the deliveries that it replaces are acknowledged. A crash
between the two leaves both: the attempt may run twice, but it is never lost. A cancellation
between the two must not do that. So the caller may be cancelled, but what was begun goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from infinitic.errors import TransportError
from infinitic.messages.decoding import UndecodableMessage
from infinitic.runtime.backoff import retry_while_refused
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.report_publisher import ReportPublisher, dead_letter
from infinitic.runtime.service_executor.work import Outbound
from infinitic.runtime.subscription import Subscription
from infinitic.topics import Topic
from infinitic.transport import Delivery, MessageTooLarge, TransportClosed

_logger = logging.getLogger("infinitic.executor")


class Resender:
    """Sends messages of one topic again.

    Args:
        topic: the topic, from which the deliveries came too.
        publisher: publishes.
        subscription: where deliveries are acknowledged.
        reports: tells workflows of tasks whose messages cannot be sent or read.

    Attributes:
        handed_back: what `hand_back` sends.
    """

    def __init__(
        self, topic: Topic, publisher: Publisher, subscription: Subscription, reports: ReportPublisher
    ) -> None:
        self.handed_back: list[Outbound] = []
        self._topic = topic
        self._publisher = publisher
        self._subscription = subscription
        self._reports = reports
        # The value is how many messages are being sent.
        self._under_way: dict[asyncio.Task[None], int] = {}

    @property
    def count(self) -> int:
        """How many messages are to be sent, or are being sent."""
        return len(self.handed_back) + sum(self._under_way.values())

    async def send(self, outbound: Sequence[Outbound]) -> None:
        """Publish messages, then acknowledge the deliveries that they replace.

        If this is cancelled, sending goes on, and `finish` waits for it. The caller must not send
        the messages once more then.
        """
        if outbound:
            await asyncio.shield(self._begin(self._send(outbound), len(outbound)))

    def send_soon(self, outbound: Sequence[Outbound]) -> None:
        """Do the same as `send`, without waiting for it."""
        if outbound:
            self._begin(self._send(outbound), len(outbound))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries. If this is cancelled, it goes on."""
        if deliveries:
            await asyncio.shield(self._begin(self._subscription.ack_if_held(deliveries), 0))

    def ack_soon(self, deliveries: list[Delivery]) -> None:
        """Acknowledge deliveries, without waiting for it."""
        self._begin(self._subscription.ack_if_held(deliveries), 0)

    def give_up_soon(self, delivery: Delivery, why: UndecodableMessage) -> None:
        """Send a delivery that cannot be decoded to the dead letters, and tell its workflow.

        It does not wait for that.

        Args:
            delivery: the delivery. It is acknowledged after that.
            why: what is wrong with it.
        """
        self._begin(self._give_up(delivery, why), 1)

    async def hand_back(self) -> None:
        """Publish as new what is in `handed_back`."""
        while self.handed_back:
            outbound, self.handed_back = self.handed_back, []
            await self.send(outbound)

    async def finish(self) -> None:
        """Wait for all that was begun. If this is cancelled, that is cancelled too."""
        try:
            while self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()

    def _begin(self, call: Coroutine[Any, Any, None], count: int) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(call)
        self._under_way[task] = count
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.warning("%s: what is in hand goes back as it is: %s", self._topic.name, error)

    async def _send(self, outbound: Sequence[Outbound]) -> None:
        messages = [each.message for each in outbound]
        try:
            await self._publisher.send(self._topic, messages)
        except TransportClosed:
            raise
        except TransportError as error:
            if len(outbound) > 1:
                await asyncio.gather(*(self._send([each]) for each in outbound))
            else:
                await self._send_refused(outbound[0], error)
        else:
            await self._settle(outbound)

    async def _send_refused(self, outbound: Outbound, error: TransportError) -> None:
        """Send a message that the broker refused, for a minute. Then it becomes a dead letter."""
        what = f"Sending a task to {self._topic.name} again"
        try:
            if isinstance(error, MessageTooLarge):
                raise error
            await retry_while_refused(what, lambda: self._publisher.send(self._topic, [outbound.message]))
        except MessageTooLarge as larger:
            await self._reports.fail_unsent(outbound, larger)
            await self._subscription.ack_if_held(outbound.deliveries)
        except TransportClosed:
            raise
        except TransportError as refusal:
            await self._dead_letter(outbound.deliveries, f"It cannot be sent again: {refusal}")
        else:
            await self._settle([outbound])

    async def _settle(self, outbound: Sequence[Outbound]) -> None:
        """Acknowledge the deliveries of published messages, also those that joined meanwhile."""
        while deliveries := [delivery for each in outbound for delivery in each.deliveries]:
            await self._subscription.ack_if_held(deliveries)
            settled = set(map(id, deliveries))
            for each in outbound:
                each.deliveries[:] = [delivery for delivery in each.deliveries if id(delivery) not in settled]

    async def _give_up(self, delivery: Delivery, why: UndecodableMessage) -> None:
        # The workflow is told first: after a crash the delivery comes again, and the workflow is
        # told once more, which changes nothing.
        await self._reports.fail_unreadable(delivery.message.id, why)
        await self._dead_letter([delivery], str(why))

    async def _dead_letter(self, deliveries: Sequence[Delivery], reason: str) -> None:
        await dead_letter(self._publisher, self._topic, deliveries, reason)
        await self._subscription.ack_if_held(deliveries)
