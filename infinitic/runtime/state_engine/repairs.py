"""An instance whose state is damaged is listed as stalled, and its messages wait for a repair."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

from infinitic.clock import Clock
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.decide import stall
from infinitic.errors import DecodingError, StorageError
from infinitic.messages import engine as inputs
from infinitic.runtime.lane import Lane
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.flagging import make_flag_change
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.runtime.state_engine.news import News, Telling
from infinitic.runtime.state_engine.questions import answer_questions
from infinitic.runtime.subscription import Subscription
from infinitic.storage import STORAGE_OUTAGES, DamagedState, Flag, Lost, StateStorage, Written
from infinitic.transport import Delivery, TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.engine")

_WAKE = b'{"t":"wake"'


class Repairs:
    """Has lanes wait whose instances are damaged. Nothing is computed from what is damaged.

    Args:
        name: the workflow.
        states: where instances are loaded.
        group_commit: writes that an instance is stalled.
        publisher: sends answers to those who ask.
        subscription: where the messages came from.
        clock: the time of day.
        telling: tells that an instance stalls, once that is written in its head.
    """

    def __init__(
        self,
        name: str,
        states: StateStorage,
        group_commit: GroupCommit,
        publisher: Publisher,
        subscription: Subscription,
        clock: Clock,
        telling: Telling,
    ) -> None:
        self._name = name
        self._states = states
        self._group_commit = group_commit
        self._publisher = publisher
        self._subscription = subscription
        self._clock = clock
        self._telling = telling

    async def wait(self, lane: Lane, instance: CachedInstance | None, damage: DamagedState) -> None:
        """Have a lane wait. The instance is listed as stalled, and who asks is told why.

        Args:
            lane: its messages. They are tried again, with backoff.
            instance: the instance; None if its head is damaged.
            damage: what is damaged.

        Raises:
            StorageError: the storage fails as a whole. So does the broker with `TransportError`.
        """
        try:
            await self._show(lane, instance, damage)
        except (TransportClosed, TransportUnavailable, *STORAGE_OUTAGES):
            raise
        except Exception:
            _logger.exception("Workflow %s %s: its damage cannot be shown", self._name, lane.key)
        lane.fail(damage, self._clock.now(), counted=False)

    async def _show(self, lane: Lane, instance: CachedInstance | None, damage: DamagedState) -> None:
        if instance is not None and not await self._is_current(instance):
            return  # another worker had it meanwhile, or it was purged: nothing is damaged, it is looked at again
        head = None if instance is None else instance.head
        if instance is None or head is None or head.closed or head.parked or head.stalled is not None:
            log = _logger.error if lane.tries == 0 else _logger.debug
            log("Workflow %s %s waits for a repair: %s", self._name, lane.key, damage)
        else:
            await self._mark_stalled(instance, head, damage)
        asked = answer_questions(self._name, lane.waiting, head, str(damage))
        if asked:
            await self._publisher.publish(list(asked.values()))
            await self._settle(lane, list(asked))
        await self.drop_surplus(lane)

    async def drop_surplus(self, lane: Lane) -> None:
        """Acknowledge wakes of which there is more than one for one instant.

        An overdue instance that waits gets a wake each hour.
        """
        await self._settle(lane, find_surplus_wakes(lane.waiting))

    async def _settle(self, lane: Lane, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await self._subscription.ack(deliveries)
            lane.drop(deliveries)

    async def _is_current(self, instance: CachedInstance) -> bool:
        stored = (await self._states.load([instance.key])).get(instance.key)
        return (None if stored is None else stored.version) == instance.version

    async def _mark_stalled(self, instance: CachedInstance, head: WorkflowHead, damage: DamagedState) -> None:
        """Write in the head why it stalls, and nothing else. An outbox that waits is kept."""
        now = self._clock.now()
        head = stall(head, str(damage))
        change = make_flag_change(instance, head, Flag.STALLED, head.armed, now)
        news = News(damage)
        try:
            outcome = (await self._group_commit.commit([change]))[0]
            if isinstance(outcome, StorageError):
                raise outcome
        except Exception:
            self._telling.keep(change, news)
            raise
        if isinstance(outcome, Written):
            self._telling.tell(instance.key.id, news)
        elif isinstance(outcome, Lost) and outcome.current == change.version:
            self._telling.keep(change, news)


def find_surplus_wakes(waiting: Iterable[Delivery]) -> list[Delivery]:
    """Find the wakes for one instant, but for the first."""
    wakes = [each for each in waiting if each.message.body.startswith(_WAKE)]
    if len(wakes) < 2:
        return []
    seen = set[float]()
    surplus: list[Delivery] = []
    for each in wakes:
        with suppress(DecodingError):
            message = inputs.decode(each.message.body)
            if isinstance(message, inputs.Wake):
                if message.due in seen:
                    surplus.append(each)
                seen.add(message.due)
    return surplus
