"""Last step: finish what runs, and hand back the rest.

What has not begun is published as new, and its delivery acknowledged. A delivery that is given back
as it is would look as if this process had died with it.
"""

from __future__ import annotations

import logging

from infinitic.errors import TransportError
from infinitic.runtime.service_executor.doubts import Doubts
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.taking import TaskIntake

_logger = logging.getLogger("infinitic.executor")


class HandBack:
    """Hands back what an executor has in hand.

    Args:
        service: the name of the service, for the log.
        in_hand: what the executor has in hand.
        intake: receives messages.
        doubts: settle what may run elsewhere.
        reports: publish reports.
        resender: sends messages again.
    """

    def __init__(
        self,
        service: str,
        in_hand: TasksInHand,
        intake: TaskIntake,
        doubts: Doubts,
        reports: ReportQueue,
        resender: Resender,
    ) -> None:
        self._service = service
        self._in_hand = in_hand
        self._intake = intake
        self._doubts = doubts
        self._reports = reports
        self._resender = resender

    def stop_taking(self) -> None:
        """Stop receiving. What has not begun is going to be handed back."""
        self._intake.stop()
        self._resender.handed_back += self._in_hand.remove_idle()

    async def drain(self) -> None:
        """Stop receiving, hand back what has not begun, and wait until the rest is reported."""
        in_hand = self._in_hand
        in_hand.draining = True
        self.stop_taking()
        await self._send()
        while in_hand.works or in_hand.local or self._reports.publishing or in_hand.deciding:
            await in_hand.wait_for_change()

    async def hand_back_all(self) -> None:
        """Publish the reports that are left, and hand back the rest, also what was cancelled.

        If the broker does not take it, the deliveries go back as they are, when the subscription
        is closed. They run again.
        """
        try:
            self._resender.handed_back += self._in_hand.remove_idle()
            await self._reports.publish_rest()
            await self._send()
        except TransportError as error:
            _logger.warning("Service %s: what is in hand goes back as it is: %s", self._service, error)

    def describe_rest(self) -> str:
        """Say what is still in hand, for the log. Empty if nothing is."""
        in_hand = self._in_hand
        parts = [f"{count} x {task} running" for task, count in in_hand.count_running().items()]
        if in_hand.reported:
            parts.append(f"{in_hand.reported} report(s) not sent")
        waiting = len(in_hand.waiting) + len(in_hand.doubtful) + len(in_hand.received) + self._resender.count
        if waiting:
            parts.append(f"{waiting} task(s) not handed back")
        return f"service {self._service}: {', '.join(parts)}" if parts else ""

    async def _send(self) -> None:
        # What is on its way is received before anything is handed back, or it might be just that.
        last = await self._intake.receive_last()
        self._resender.handed_back += last
        await self._resender.hand_back()
