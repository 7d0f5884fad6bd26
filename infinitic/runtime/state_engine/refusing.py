"""Messages that lead to no step: they are dead letters.

They are published first, then acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from infinitic.runtime.lane import Lane
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.transport import Delivery, Outgoing

_logger = logging.getLogger("infinitic.engine")


class Refusing:
    """Moves messages to the dead letters of the state engine.

    Args:
        publisher: publishes the dead letters.
        subscription: where the messages came from.
    """

    def __init__(self, publisher: Publisher, subscription: Subscription) -> None:
        self._publisher = publisher
        self._subscription = subscription

    async def dead_letter_all(self, lane: Lane, reason: str) -> None:
        """Move all that waits in a lane to the dead letters, since it can be of no instance.

        Args:
            lane: whose messages.
            reason: why, for the log and for the dead letters.
        """
        deliveries = list(lane.waiting)
        _logger.error(
            "%s: %d messages go to the dead letters: %s", self._subscription.topic.name, len(deliveries), reason
        )
        await self.dead_letter(lane, deliveries, reason)

    async def dead_letter(
        self,
        lane: Lane,
        deliveries: Sequence[Delivery],
        reason: str,
        answers: dict[Delivery, Outgoing] | None = None,
        others: Sequence[Outgoing] = (),
    ) -> None:
        """Move deliveries to the dead letters, but answer the questions among them. Settle all.

        A crash before the acknowledgement makes them come again: they are dead letters twice then,
        with the same id.

        Args:
            lane: where they wait.
            deliveries: all that are to be settled, in order.
            reason: why they go to the dead letters.
            answers: what is sent for those of them that are only questions.
            others: what else is sent.
        """
        answers = answers or {}
        dead = [delivery for delivery in deliveries if delivery not in answers]
        if dead:
            await self._publisher.dead_letter(self._subscription.topic, dead, reason)
        if answers or others:
            await self._publisher.publish([*answers.values(), *others])
        await self._subscription.ack(deliveries)
        lane.settle(deliveries)
