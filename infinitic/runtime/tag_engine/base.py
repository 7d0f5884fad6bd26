"""What both tag engines do: they take the messages of many tags, and do what these ask.

Changes of members are written in bulk, for all tags together. Everything else is done one message
at a time within a tag: storage first, then publish, then acknowledge. What a crash does in between:
the message comes again, and doing it again changes nothing (S31).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from infinitic.clock import Clock
from infinitic.errors import StorageError
from infinitic.messages.decoding import UndecodableMessage
from infinitic.runtime.blame import OUTAGES, is_counted
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import PREFETCH, Lanes
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.tag_engine.refusals import HeldByAnother, TooOld
from infinitic.storage import Storage, TagChange, TagKey
from infinitic.topics import Topic
from infinitic.transport import Delivery, Outgoing

M = TypeVar("M")

_logger = logging.getLogger("infinitic.engine")

UPDATES = 1000
"""How many changes are written at once at most."""


class Taken(msgspec.Struct, Generic[M], frozen=True, eq=False):
    """What is done next in a lane: changes that are written together, or one other message."""

    lane: Lane
    deliveries: list[Delivery]
    key: TagKey
    changes: list[TagChange]
    message: M | None


class TagEngine(ABC, Generic[M]):
    """Handles the tags of one workflow, or of one service.

    Args:
        name: the workflow or service.
        topic: where the messages about its tags come from.
        publisher: sends messages.
        storage: where members of tags are.
        clock: the time of day.
        concurrency: how many tags are worked on at once.
        buffer_bytes: how many bytes of messages are held in memory.
    """

    def __init__(
        self,
        name: str,
        topic: Topic,
        publisher: Publisher,
        storage: Storage,
        clock: Clock,
        *,
        concurrency: int,
        buffer_bytes: int,
    ) -> None:
        self.name = name
        self.topic = topic
        self._publisher = publisher
        self._storage = storage
        self._clock = clock
        self._concurrency = concurrency
        self._buffer_bytes = buffer_bytes
        self._subscription = Subscription(publisher, self.topic, PREFETCH)
        self._lanes: Lanes | None = None

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done."""
        return {} if self._lanes is None else self._lanes.count_held()

    async def start(self) -> None:
        """Join the subscription."""
        await self._subscription.join()
        self._lanes = Lanes(self._subscription, self._handle, self._clock, self._concurrency, self._buffer_bytes)

    async def run(self) -> None:
        """Work until cancelled."""
        assert self._lanes is not None
        await self._lanes.run()

    async def drain(self) -> None:
        """Finish what is in work, and leave the subscription."""
        if self._lanes is not None:
            await self._lanes.drain()
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand."""
        await self._subscription.close()

    async def _handle(self, lanes: Sequence[Lane]) -> None:
        """Handle a batch of lanes: some messages of each are done, or the lane has failed."""
        changes: list[Taken[M]] = []
        others: list[Taken[M]] = []
        for lane in lanes:
            try:
                taken = await self._take(lane)
            except Exception as error:  # noqa: BLE001 (whatever it is, the lane is tried again, and it is logged there)
                self._fail(lane, error)
            else:
                if taken is not None:
                    (changes if taken.message is None else others).append(taken)
        await self._write(changes)
        if len(others) == 1:
            await self._do(others[0])
        elif others:
            async with asyncio.TaskGroup() as group:
                for each in others:
                    group.create_task(self._do(each))

    async def _take(self, lane: Lane) -> Taken[M] | None:
        """Take the next messages of a lane.

        Returns:
            Changes that can be written together, or one other message. None if there is only a dead
            letter.
        """
        if lane.is_exhausted(self._clock.now()):
            await self._give_up(lane, lane.waiting[0], str(lane.failure))
            return None
        key: TagKey | None = None
        deliveries: list[Delivery] = []
        changes: list[TagChange] = []
        for delivery in lane.take_batch(UPDATES):
            try:
                key = key or self._read_key(delivery.message.key)
                message = self._decode(delivery.message.body)
                change = self._make_change(key, message)
            except (UndecodableMessage, TooOld) as error:
                if deliveries:
                    break
                await self._give_up(lane, delivery, str(error))
                return None
            except Exception:
                if deliveries:
                    break
                raise
            if change is None:
                if not deliveries:
                    return Taken(lane, [delivery], key, [], message)
                break
            deliveries.append(delivery)
            changes.append(change)
        assert key is not None
        return Taken(lane, deliveries, key, changes, None)

    @abstractmethod
    def _decode(self, body: bytes) -> M:
        """Decode a message.

        Raises:
            UndecodableMessage: it is none.
        """

    @abstractmethod
    def _read_key(self, key: str | None) -> TagKey:
        """Read the tag from the key of a message.

        Raises:
            UndecodableMessage: it is the key of no tag.
        """

    @abstractmethod
    def _make_change(self, key: TagKey, message: M) -> TagChange | None:
        """Make the change that a message asks for; None if it asks for something else.

        Raises:
            TooOld: the message must not be obeyed any more.
            UndecodableMessage: it does not fit to its key.
        """

    @abstractmethod
    async def _make_outgoing(self, key: TagKey, delivery: Delivery, message: M) -> list[Outgoing]:
        """Do what a message asks for that is no change.

        Returns:
            What is to be published before it is acknowledged.

        Raises:
            HeldByAnother: it must not be done.
            UndecodableMessage: it cannot be done.
        """

    @abstractmethod
    def _note_done(self, message: M) -> None:
        """Note that what `_make_outgoing` has made is published."""

    def _make_amends(self, delivery: Delivery, reason: str) -> list[Outgoing]:
        """Make what is sent instead, if somebody else needs to know that it is a dead letter."""
        return []

    def _check_age(self, made_at: float) -> None:
        """Check that a message may be obeyed.

        Raises:
            TooOld: it may not.
        """
        window = self._storage.capabilities.deduplication_window
        if self._clock.now() - made_at > window:
            raise TooOld(window)

    async def _write(self, taken: Sequence[Taken[M]]) -> None:
        """Write the changes of all lanes, some thousand at a time.

        If that fails, each lane is tried alone: one of them may be to blame.
        """
        waiting = list(taken)
        while waiting:
            batch: list[Taken[M]] = []
            count = 0
            while waiting and (not batch or count + len(waiting[0].changes) <= UPDATES):
                batch.append(waiting.pop(0))
                count += len(batch[-1].changes)
            try:
                await self._storage.tags.update([change for each in batch for change in each.changes])
                await self._subscription.ack([delivery for each in batch for delivery in each.deliveries])
            except Exception as error:  # noqa: BLE001 (whatever it is, the lanes are tried again, and it is logged there)
                if len(batch) == 1 or isinstance(error, OUTAGES):
                    for each in batch:
                        self._fail(each.lane, error)
                else:
                    for each in batch:
                        await self._write([each])
            else:
                for each in batch:
                    each.lane.settle(each.deliveries)

    async def _do(self, taken: Taken[M]) -> None:
        """Do what one message asks for that is no change."""
        message = taken.message
        assert message is not None
        try:
            outgoing = await self._make_outgoing(taken.key, taken.deliveries[0], message)
            # Who is told that an instance has started may address it at once.
            await self._publisher.publish(outgoing, answers_last=True)
            self._note_done(message)
            await self._subscription.ack(taken.deliveries)
        except (UndecodableMessage, HeldByAnother) as error:
            try:
                await self._give_up(taken.lane, taken.deliveries[0], str(error))
            except Exception as failed:  # noqa: BLE001 (whatever it is, the lane is tried again, and it is logged there)
                self._fail(taken.lane, failed)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lane is tried again, and it is logged there)
            self._fail(taken.lane, error)
        else:
            taken.lane.settle(taken.deliveries)

    async def _give_up(self, lane: Lane, delivery: Delivery, reason: str) -> None:
        """Move one message to the dead letters. Those behind it go on."""
        _logger.error("%s: a message goes to the dead letters: %s", self.topic.name, reason)
        await self._publisher.dead_letter(self.topic, [delivery], reason)
        await self._publisher.publish(self._make_amends(delivery, reason))
        await self._subscription.ack([delivery])
        lane.settle([delivery])

    def _fail(self, lane: Lane, error: Exception) -> None:
        counted = is_counted(error) and not isinstance(error, StorageError)
        lane.fail(error, self._clock.now(), counted=counted)
