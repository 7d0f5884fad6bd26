"""Parking: an instance whose messages fail for too long takes none any more (rule S38).

A message is tried again for a minute. Then this one and all later ones of its key go to the dead
letters, in order. So one bad message cannot make others overtake it, and it stops no other key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from infinitic.clock import Clock
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.tags import free_claims, free_custom_ids
from infinitic.errors import StorageError
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.flagging import make_flag_change
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.runtime.state_engine.questions import answer_questions
from infinitic.runtime.state_engine.refusing import Refusing
from infinitic.storage import Flag, Lost
from infinitic.transport import Delivery, Outgoing

_logger = logging.getLogger("infinitic.engine")

_TAKEN_WHILE_PARKED = (b'{"t":"unpark"', b'{"t":"terminate"')

REMEMBERED = 10_000
"""How many ids of parked instances are kept in memory.

Those that the storage knows are found there, too.
"""


class Parking:
    """Parks instances of one workflow.

    Args:
        name: the workflow.
        group_commit: writes that an instance is parked.
        refusing: moves messages to the dead letters.
        clock: the time of day.
    """

    def __init__(self, name: str, group_commit: GroupCommit, refusing: Refusing, clock: Clock) -> None:
        self._name = name
        self._group_commit = group_commit
        self._refusing = refusing
        self._clock = clock
        self._ids: dict[str, bool] = {}

    @property
    def ids(self) -> Mapping[str, bool]:
        """The ids of instances that this worker has parked lately, and whether that is written."""
        return self._ids

    def is_due(self, lane: Lane, head: WorkflowHead | None, now: float) -> bool:
        """True if this instance is parked, or its first message has failed for too long.

        Args:
            lane: its messages.
            head: its head; None if there is none.
            now: seconds since the Unix epoch.
        """
        if head is not None and (head.closed or (not head.parked and self._ids.get(lane.key))):
            # Another worker has terminated or unparked it since it was parked here.
            self._ids.pop(lane.key, None)
        if lane.key in self._ids or (head is not None and head.parked):
            return True
        return lane.tries > 0 and lane.is_exhausted(now)

    @staticmethod
    def find_unpark(lane: Lane) -> int | None:
        """Find the first message of a lane that unparks its instance; None if there is none.

        Its termination does so, too: a tombstone is not parked.
        """
        for index, delivery in enumerate(lane.waiting):
            if delivery.message.body.startswith(_TAKEN_WHILE_PARKED):
                return index
        return None

    async def unpark(self, lane: Lane, instance: CachedInstance, before: int) -> None:
        """Move what waits before the message that unparks an instance to the dead letters.

        That message is then taken as any other input. So a crash changes nothing: the instance is
        parked until its change is written, and a repeat of the message is recognised.

        Args:
            lane: its messages.
            instance: the instance.
            before: how many messages wait before the one that unparks it.
        """
        self._ids.pop(lane.key, None)
        if before:
            reason = f"The instance {lane.key} is parked"
            deliveries = lane.waiting[:before]
            answers = self._answer(deliveries, instance.head)
            await self._refusing.dead_letter(lane, deliveries, reason, answers, self._free(instance, deliveries))

    async def park(self, lane: Lane, instance: CachedInstance | None) -> None:
        """Park an instance, if it is not parked yet, and move its messages to the dead letters.

        A closed instance is not parked: only the messages that wait for it now are moved. A crash
        before the write changes nothing: the messages come again, and are tried again. After it the
        next worker finds the instance parked.

        Args:
            lane: its messages.
            instance: the instance; None if its state cannot be loaded.

        Raises:
            StorageError: it could not be written. Nothing was moved.
        """
        reason = str(lane.failure) if lane.failure is not None else f"The instance {lane.key} is parked"
        head = None if instance is None else instance.head
        if head is not None and head.closed:
            # A tombstone takes nothing anyway. Written again, it would be listed as running, and
            # would never be removed.
            _logger.error(
                "Workflow %s %s is closed, and these messages go to the dead letters: %s", self._name, lane.key, reason
            )
        elif lane.key not in self._ids:
            if instance is not None and head is not None and not head.parked and not await self._write(instance, head):
                return  # the head was an old one: the lane is run again with the new one
            self._remember(lane.key, written=instance is not None and instance.version is not None)
            _logger.error(
                "Workflow %s %s is parked, its messages go to the dead letters: %s", self._name, lane.key, reason
            )
        deliveries = list(lane.waiting)
        answers = self._answer(deliveries, head)
        await self._refusing.dead_letter(lane, deliveries, reason, answers, self._free(instance, deliveries))

    def _free(self, instance: CachedInstance | None, deliveries: Sequence[Delivery]) -> list[Outgoing]:
        """Free the custom ids of starts that have made no instance, and of those not re-opened."""
        if instance is None or (instance.head is not None and not instance.head.closed):
            return []
        free = free_custom_ids if instance.head is None else free_claims
        return free(self._name, [each.message for each in deliveries], self._clock.now())

    def _answer(self, deliveries: Sequence[Delivery], head: WorkflowHead | None) -> dict[Delivery, Outgoing]:
        if head is None:
            return {}
        shown = head if head.closed else replace(head, parked=True)
        return answer_questions(self._name, deliveries, shown)

    async def _write(self, instance: CachedInstance, head: WorkflowHead) -> bool:
        """Write that it is parked. False if another worker has changed it meanwhile."""
        if instance.version is None:
            return True
        # No wake is left armed: it would be a dead letter, too.
        change = make_flag_change(instance, replace(head, parked=True), Flag.PARKED, None, self._clock.now())
        [outcome] = await self._group_commit.commit([change])
        if isinstance(outcome, StorageError):
            raise outcome
        return not isinstance(outcome, Lost)

    def _remember(self, workflow_id: str, *, written: bool) -> None:
        self._ids[workflow_id] = written
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
