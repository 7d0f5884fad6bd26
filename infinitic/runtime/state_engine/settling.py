"""Phase 5 of a step: **settled**.

Keep the instance in memory, acknowledge the messages, and let the lane go on.

What a crash here does: the messages come again. They are recognised by their positions and ids, and
change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infinitic.messages.engine import Delete
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.publishing import PublishedSteps
from infinitic.runtime.subscription import Subscription
from infinitic.transport import Delivery


class Settling:
    """Ends steps of one workflow.

    Args:
        instances: those in memory.
        subscription: where the messages came from.
        purge_soon: called when an instance was deleted.
    """

    def __init__(self, instances: Instances, subscription: Subscription, purge_soon: Callable[[], None]) -> None:
        self._instances = instances
        self._subscription = subscription
        self._purge_soon = purge_soon

    async def settle(self, published: PublishedSteps) -> None:
        """End these steps: from here on the next step of their keys can begin.

        Raises:
            TransportError: the messages cannot be acknowledged. They come again.
        """
        await self._subscription.ack(self._keep(published))
        self._end(published)

    def settle_acknowledged(self, published: PublishedSteps) -> None:
        """End steps whose messages are acknowledged already."""
        self._keep(published)
        self._end(published)

    def _keep(self, published: PublishedSteps) -> Sequence[Delivery]:
        """Keep the instances in memory, and return the messages of all steps."""
        instances = self._instances
        deliveries: list[Delivery] = []
        for step in published.steps:
            instance, change = step.instance, step.change
            # All that the step wanted to be sent is sent: from here on it may be evicted.
            instance.sent = True
            if instance.version is not None:
                head = instance.head
                if head is None or head.closed_at is None:
                    instances.keep(instance)
                elif change is not None:
                    # The storage may know already that it is sent.
                    instances.release_closed(instance, sends_tasks=step.sends_tasks and not instance.published)
                    if any(type(message) is Delete for _, message in step.inputs.decoded):
                        self._purge_soon()
                else:
                    # A late message came for a tombstone. It must not take the place of an instance
                    # that runs. Whether its last outbox had tasks is not known here.
                    instances.release_closed(instance, sends_tasks=not instance.published)
            deliveries += step.inputs.deliveries
        for repeats in published.repeats:
            deliveries += repeats.deliveries
        return deliveries

    def _end(self, published: PublishedSteps) -> None:
        """Let the lanes go on."""
        for step in published.steps:
            step.lane.settle(step.inputs.deliveries)
        for repeats in published.repeats:
            repeats.lane.settle(repeats.deliveries)
        self._instances.evict()
