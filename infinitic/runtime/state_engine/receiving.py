"""Phase 1 of a step: **received**. Find the instance for the messages that wait in a lane.

What a crash here does: nothing. No message is acknowledged yet, so all of them come again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from infinitic.clock import Clock
from infinitic.engines import state
from infinitic.messages.decoding import UndecodableMessage, check_key
from infinitic.runtime.blame import is_counted
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.loading import load_states
from infinitic.runtime.state_engine.news import Telling
from infinitic.runtime.state_engine.parking import Parking
from infinitic.runtime.state_engine.refusing import Refusing
from infinitic.runtime.state_engine.repairs import Repairs
from infinitic.runtime.state_engine.takeover import Takeover
from infinitic.storage import DamagedState, StateKey, StateStorage

_logger = logging.getLogger("infinitic.engine")


class ReceivedStep(msgspec.Struct, frozen=True, eq=False):
    """The messages of one lane, and the instance that they are for. Made by `Receiving`.

    Attributes:
        lane: what waits for this instance, in order.
        instance: the instance as this worker knows it. It is out of the cache: nobody else has it.
        current_for: how many of the deliveries in the lane had arrived before the head was loaded.
            For these the head is new enough: it contains everything that caused them. It is 0 for a
            head from memory, because another worker may have had this key meanwhile.
    """

    lane: Lane
    instance: CachedInstance
    current_for: int


class Receiving:
    """Finds instances, in memory or in the storage.

    Args:
        name: the workflow.
        states: where instances are loaded from.
        instances: those in memory.
        takeover: makes an instance of what was loaded.
        parking: for lanes whose messages fail for too long.
        refusing: for messages whose key cannot be the id of an instance.
        repairs: for instances whose state is damaged.
        telling: tells what is new in steps that turn out to be written.
        clock: the time of day.
    """

    def __init__(
        self,
        name: str,
        states: StateStorage,
        instances: Instances,
        takeover: Takeover,
        parking: Parking,
        refusing: Refusing,
        repairs: Repairs,
        telling: Telling,
        clock: Clock,
    ) -> None:
        self._name = name
        self._states = states
        self._instances = instances
        self._takeover = takeover
        self._parking = parking
        self._refusing = refusing
        self._repairs = repairs
        self._telling = telling
        self._clock = clock

    async def receive(self, lanes: Sequence[Lane]) -> list[ReceivedStep]:
        """Find the instances of these lanes.

        Returns:
            One step for each lane that can go on. The others have failed, wait for a repair, are
            parked, or had nothing but dead letters in them.

        Raises:
            Exception: the storage or broker as a whole fails, not only one lane. Then no instance
                stays in use.
        """
        received: list[ReceivedStep] = []
        missing: list[Lane] = []
        parked = self._parking.ids
        try:
            for lane in lanes:
                instance = self._instances.take(lane.key)
                if instance is None:
                    try:
                        check_key(lane.key)
                    except UndecodableMessage as error:
                        await self._refusing.dead_letter_all(lane, str(error))
                    else:
                        missing.append(lane)
                elif (lane.tries or lane.key in parked) and await self._park_if_due(lane, instance):
                    continue
                else:
                    received.append(ReceivedStep(lane, instance, 0))
            if missing:
                await self._load(missing, received)
        except BaseException as error:
            self._instances.abandon([each.instance for each in received], error)
            raise
        return received

    async def _load(self, lanes: Sequence[Lane], received: list[ReceivedStep]) -> None:
        """Load the instances of these lanes, and add a step for each that can go on."""
        keys = [StateKey(self._name, lane.key) for lane in lanes]
        # What comes while the storage answers may be the effect of a later state than that which is
        # loaded.
        came = [len(lane.waiting) for lane in lanes]
        stored, broken = await load_states(self._name, keys, self._states)
        for lane, key, current_for in zip(lanes, keys, came, strict=True):
            instance: CachedInstance | None = None
            try:
                if key in broken:
                    raise broken[key]
                instance = self._takeover.decode(key, stored.get(key))
                self._telling.tell_kept(instance)
                is_parked = instance.head is not None and instance.head.parked
                unparks = is_parked and self._parking.find_unpark(lane) is not None
                await self._takeover.publish_last(instance, unparks=unparks)
                first = lane.waiting[0]
            except DamagedState as damage:
                await self._repairs.wait(lane, instance, damage)
            except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
                await self._fail(lane, error)
            else:
                if not await self._park_if_due(lane, instance):
                    is_same = lane.waiting[0] is first
                    received.append(ReceivedStep(lane, instance, current_for if is_same else 0))

    async def _park_if_due(self, lane: Lane, instance: CachedInstance) -> bool:
        """Park the instance if that is due. True if so: this step ends here, in any case.

        False also if it is parked, but the lane holds the message that unparks it.
        """
        now = self._clock.now()
        if not self._parking.is_due(lane, instance.head, now):
            return False
        unpark = self._parking.find_unpark(lane)
        if unpark == 0 and not lane.is_exhausted(now):
            await self._parking.unpark(lane, instance, 0)
            return False
        instance.discard_live()
        try:
            if unpark:
                await self._parking.unpark(lane, instance, unpark)
                return False
            await self._parking.park(lane, instance)
        except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
            self._instances.release(instance)
            lane.fail(error, now, counted=is_counted(error))
        return True

    async def _fail(self, lane: Lane, error: Exception) -> None:
        """Note that the instance of this lane cannot be loaded now.

        If that lasts although storage and broker work, the instance is parked.
        """
        now = self._clock.now()
        lane.fail(error, now, counted=is_counted(error))
        try:
            if lane.is_exhausted(now):
                await self._parking.park(lane, None)
            elif isinstance(error, state.NewerSchema):
                await self._repairs.drop_surplus(lane)
        except Exception as failed:  # noqa: BLE001 (one bad key leaves the others alone)
            lane.fail(failed, now, counted=False)
