"""Once an hour: purge what has expired, and wake instances whose wake was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from infinitic import topics
from infinitic.clock import Clock
from infinitic.errors import StorageError, TransportError
from infinitic.messages import engine
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.wakeup import wake
from infinitic.storage import Query, Storage, WorkflowStatus
from infinitic.transport import Message, Outgoing

_logger = logging.getLogger("infinitic.runtime")

INTERVAL_SECONDS = 3600.0
OVERDUE_SECONDS = 60.0
PAGE = 500


class Maintenance:
    """Purges and wakes once an hour.

    In virtual time its timer does not count as work that is to be done.

    Args:
        workflows: the names of the workflows whose state engine runs here. It may grow.
        storage: what is purged.
        publisher: sends wakes.
        clock: the time of day.
    """

    def __init__(self, workflows: set[str], storage: Storage, publisher: Publisher, clock: Clock) -> None:
        self._workflows = workflows
        self._storage = storage
        self._publisher = publisher
        self._clock = clock
        self._due: asyncio.Future[None] | None = None
        # Somebody has deleted an instance since the last purge has begun.
        self._is_deleted = False

    @property
    def joined(self) -> bool:
        """It receives nothing, and misses nothing."""
        return True

    def count_held(self) -> Mapping[str, int]:
        """It holds nothing."""
        return {}

    async def start(self) -> None:
        """There is nothing to join."""

    async def drain(self) -> None:
        """There is nothing to finish: `run` is cancelled."""

    async def close(self) -> None:
        """There is nothing to give back."""

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        next_at = loop.time() + INTERVAL_SECONDS
        while True:
            await self._wait_until(next_at)
            works = [self.purge]
            if loop.time() >= next_at:
                works += [self.purge_tags, self.wake_overdue]
                next_at = loop.time() + INTERVAL_SECONDS
            self._is_deleted = False
            for work in works:
                try:
                    await work()
                except (StorageError, TransportError) as error:  # the others are done all the same
                    _logger.warning("Maintenance: %s; trying again in an hour", error)

    async def _wait_until(self, at: float) -> None:
        """Wait until this time of the loop, or until an instance is deleted."""
        if self._is_deleted:
            return
        loop = asyncio.get_running_loop()
        call_at = getattr(loop, "call_background", loop.call_at)
        self._due = due = loop.create_future()
        handle = call_at(at, wake, due)
        try:
            await due
        finally:
            handle.cancel()

    def purge_soon(self) -> None:
        """Purge now, and not within the hour: somebody has deleted an instance.

        Nothing else is done then: instances may be deleted by the thousand.
        """
        self._is_deleted = True
        wake(self._due)

    async def purge(self) -> None:
        """Remove what has expired, some hundred instances at a time."""
        now = self._clock.now()
        while await self._storage.states.purge(now, PAGE) >= PAGE:  # noqa: ASYNC110 (a pause, no wait)
            await asyncio.sleep(0)

    async def purge_tags(self) -> None:
        """Remove members of tags that have expired, some hundred at a time."""
        now = self._clock.now()
        while await self._storage.tags.purge(now, PAGE) >= PAGE:  # noqa: ASYNC110 (a pause, no wait)
            await asyncio.sleep(0)

    async def wake_overdue(self) -> None:
        """Publish wakes for running instances that are overdue by a minute."""
        now = self._clock.now()
        for name in sorted(self._workflows):
            cursor: str | None = None
            while True:
                query = Query(name, WorkflowStatus.RUNNING, overdue_at=now - OVERDUE_SECONDS, limit=PAGE, cursor=cursor)
                page = await self._storage.states.find(query)
                await self._publisher.publish(
                    [
                        Outgoing(
                            topics.workflow_engine(name),
                            Message(
                                f"{found.key.id}/wake",
                                found.key.id,
                                engine.encode(engine.Wake(made_at=now, due=found.entry.next_wake or now)),
                            ),
                        )
                        for found in page.found
                    ]
                )
                cursor = page.cursor
                if cursor is None:
                    break
