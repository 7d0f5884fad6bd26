"""Phase 4 of a step: **published**. Send the outbox, the answers and the dead letters.

What a crash here does: some messages are sent, others are not. The inputs come again, and whoever
takes the instance over publishes the whole outbox again, with the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.runtime.blame import is_counted
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.committing import CommittedSteps, Repeats
from infinitic.topics import Topic
from infinitic.transport import Outgoing, TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.engine")


class PublishedSteps(msgspec.Struct, frozen=True, eq=False):
    """Steps of which all is sent. Made by `Publishing`: nothing else may be acknowledged.

    Attributes:
        steps: their outboxes, answers and dead letters have been accepted by the broker.
        repeats: inputs that need no step; the clients that sent them have been answered.
    """

    steps: Sequence[DecidedStep]
    repeats: Sequence[Repeats]


class Publishing:
    """Sends what steps of one workflow want to be sent.

    Args:
        name: the workflow.
        topic: where its messages came from: dead letters name it.
        publisher: sends messages, and waits for a broker that is away.
        clock: the time of day.
    """

    def __init__(self, name: str, topic: Topic, publisher: Publisher, clock: Clock) -> None:
        self._name = name
        self._topic = topic
        self._publisher = publisher
        self._clock = clock

    async def publish(self, committed: CommittedSteps) -> PublishedSteps:
        """Send all of these steps together; one by one if the broker refuses some of it.

        A step of which something is refused fails its lane. It stays committed: its outbox is
        published when the instance is loaded again.

        Raises:
            TransportClosed: nothing can be sent any more.
        """
        steps, repeats = committed.steps, committed.repeats
        outgoing: list[Outgoing] = []
        has_dead_letters = False
        for step in steps:
            outgoing += step.outgoing
            if step.inputs.dead_letters:
                has_dead_letters = True
        for repeated in repeats:
            outgoing += repeated.outgoing
        refused = False
        try:
            await self._publisher.publish(outgoing)
        except (TransportClosed, TransportUnavailable):
            raise
        except TransportError:
            refused = True
        if not refused and not has_dead_letters:
            return PublishedSteps(steps, repeats)
        return PublishedSteps(
            [step for step in steps if await self._publish_alone(step, refused=refused)],
            [each for each in repeats if not refused or await self._repeat_alone(each)],
        )

    async def _publish_alone(self, step: DecidedStep, *, refused: bool) -> bool:
        """Send the dead letters of one step, and first the rest if that was refused.

        False if its lane has failed.
        """
        try:
            if refused:
                await self._publisher.publish(step.outgoing)
            for delivery, reason in step.inputs.dead_letters:
                _logger.error(
                    "Workflow %s %s: a message goes to the dead letters: %s", self._name, step.lane.key, reason
                )
                await self._publisher.dead_letter(self._topic, [delivery], reason)
        except (TransportClosed, TransportUnavailable):
            raise
        except TransportError as error:
            step.instance.discard_live()
            step.lane.fail(error, self._clock.now(), counted=is_counted(error))
            return False
        return True

    async def _repeat_alone(self, repeats: Repeats) -> bool:
        try:
            await self._publisher.publish(repeats.outgoing)
        except (TransportClosed, TransportUnavailable):
            raise
        except TransportError as error:
            repeats.lane.fail(error, self._clock.now(), counted=is_counted(error))
            return False
        return True
