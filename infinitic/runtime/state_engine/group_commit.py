"""Group commit: changes that become ready while a commit is under way are written together.

A commit that finds nothing under way goes at once, so an idle worker adds no latency. That an
outbox has been published is written with the next commit, or after half a second if none comes.
Until then its instance stays here. Whoever loaded it meanwhile would find its outbox unpublished,
and send it once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from infinitic.errors import StorageError
from infinitic.runtime.backoff import LONGEST_SECONDS
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.storage import (
    STORAGE_OUTAGES,
    Change,
    Outcome,
    Published,
    Refused,
    StateKey,
    StateStorage,
    ValueTooLarge,
)

MAX_CHANGES = 200
"""How many changes one commit has at most."""

MAX_BYTES = 4 * 1024 * 1024
"""How many bytes of changes one commit has at most; or one change."""

MAX_FLYING = 2
"""How many commits are under way at once."""

MARK_SECONDS = 0.5
"""How long it waits for a commit to write with it that an outbox has been published."""

_logger = logging.getLogger("infinitic.runtime")

Settled = Outcome | StorageError
"""What has become of a change; an error if it failed while others did not."""

_Batch = list[tuple[Sequence[Change], "asyncio.Future[list[Settled]]"]]


class GroupCommit:
    """Commits changes, several at once. All state engines of a worker share it.

    Args:
        states: where changes are written.
    """

    def __init__(self, states: StateStorage) -> None:
        self._states = states
        self._flying = 0
        self._waiting: deque[tuple[Sequence[Change], asyncio.Future[list[Settled]]]] = deque()
        self._published: dict[StateKey, int] = {}
        self._leaving: dict[StateKey, CachedInstance] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def mark_published(self, instance: CachedInstance) -> None:
        """Write with one of the next commits that the last outbox of an instance was published.

        Until then the instance stays here: see `take_back`.
        """
        if instance.version is None:
            return
        self._leaving[instance.key] = instance
        self._published[instance.key] = instance.version
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MARK_SECONDS, self._flush_soon)

    def take_back(self, key: StateKey) -> CachedInstance | None:
        """Take out an instance of which is not written yet that its outbox has been published."""
        return self._leaving.pop(key, None)

    def count_held(self) -> Mapping[str, int]:
        """Count what is being written, or waits for it."""
        return {
            "commits": self._flying + len(self._waiting) + len(self._tasks),
            "marks": len(self._published),
            "instances on their way out": len(self._leaving),
        }

    async def flush(self) -> None:
        """Write at once which outboxes have been published.

        Raises:
            StorageError: as `StateStorage.commit`. Nothing is forgotten then.
        """
        while self._published:
            marks = self._take_marks()
            try:
                await self._states.commit(marks)
            except BaseException:
                self._put_back(marks)
                raise
            self._forget_marks(marks)

    def close(self) -> None:
        """Write nothing more.

        Whoever takes over the instances publishes their outboxes once more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._published.clear()
        self._leaving.clear()

    def _flush_soon(self) -> None:
        self._timer = None
        if self._published:
            self._start(self._flush_or_retry())

    async def _flush_or_retry(self) -> None:
        try:
            await self.flush()
        except StorageError as error:
            _logger.debug("Marking outboxes as published: %s; trying again", error)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LONGEST_SECONDS, self._flush_soon)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget_marks(self, marks: Sequence[Published]) -> None:
        for mark in marks:
            instance = self._leaving.get(mark.key)
            if instance is not None and instance.version == mark.version:
                del self._leaving[mark.key]

    def _put_back(self, marks: Sequence[Published]) -> None:
        """Keep marks that were not written. An instance that came since then has a newer one."""
        for mark in marks:
            if mark.key in self._leaving:
                self._published.setdefault(mark.key, mark.version)

    async def commit(self, changes: Sequence[Change]) -> list[Settled]:
        """Write changes of distinct keys.

        Returns:
            One outcome for each change, in order. It is an error if this change failed alone; one
            that is too large is `Refused`.

        Raises:
            StorageError: what tells of the storage as a whole, as `StateStorage.commit` raises it.
        """
        if self._flying < MAX_FLYING and not self._waiting:
            return await self._send(changes)
        future: asyncio.Future[list[Settled]] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, future))
        try:
            return await future
        finally:
            del future, changes  # an error would hold this frame, and the frame its future

    async def _send(self, changes: Sequence[Change]) -> list[Settled]:
        self._flying += 1
        try:
            if not self._published:
                return await self._write(changes)
            for change in changes:
                self._published.pop(change.key, None)
            marks = self._take_marks()
            try:
                outcomes = await self._write([*changes, *marks])
            except BaseException:
                self._put_back(marks)
                raise
            self._forget_marks(marks)
            return outcomes[: len(changes)]
        finally:
            self._flying -= 1
            if self._waiting:
                self._start(self._send_waiting())

    async def _write(self, changes: Sequence[Change | Published]) -> list[Settled]:
        try:
            settled: list[Settled] = [*await self._states.commit(changes)]
            return settled
        except ValueTooLarge as error:
            if len(changes) == 1:
                return [Refused(str(error))]
        except STORAGE_OUTAGES:
            raise
        except StorageError:
            if len(changes) == 1:
                raise
        return [await self._write_alone(change) for change in changes]

    async def _write_alone(self, change: Change | Published) -> Settled:
        """Write one change alone: a bad one leaves the others alone."""
        try:
            return (await self._write([change]))[0]
        except STORAGE_OUTAGES:
            raise
        except StorageError as error:
            return error

    def _take_marks(self) -> list[Published]:
        marks = list(self._published.items())[:MAX_CHANGES]
        for key, _ in marks:
            del self._published[key]
        return [Published(key, version) for key, version in marks]

    def _next_batch(self) -> _Batch:
        """Take what waits and fits into one commit, at least the first."""
        batch = [self._waiting.popleft()]
        size = _size(batch[0][0])
        count = len(batch[0][0])
        while self._waiting:
            changes, _ = self._waiting[0]
            count += len(changes)
            size += _size(changes)
            if count > MAX_CHANGES or size > MAX_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _send_waiting(self) -> None:
        """Write what waits in one commit.

        If its outcome is unknown, it is unknown for all in it.
        """
        if not self._waiting or self._flying >= MAX_FLYING:
            return
        batch = self._next_batch()
        try:
            outcomes = await self._send([change for changes, _ in batch for change in changes])
        except BaseException as error:  # handed to every lane of the batch
            _fail(batch, error)
            batch.clear()  # the error holds this frame
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for changes, future in batch:
            if not future.done():
                future.set_result(outcomes[start : start + len(changes)])
            start += len(changes)


def _fail(batch: _Batch, error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def _size(changes: Sequence[Change]) -> int:
    return sum(
        len(change.head) + (len(change.segment.events) + len(change.segment.outbox or b"") if change.segment else 0)
        for change in changes
    )
