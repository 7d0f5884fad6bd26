"""Group commit: what is ready while the last commit is under way goes together (storage.md, §3).

No timer, and no added latency when idle: a commit that finds nothing under way goes at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from infinitic.errors import StorageError
from infinitic.storage import (
    ILLNESSES,
    Change,
    Outcome,
    Published,
    Refused,
    StateKey,
    StateStorage,
    ValueTooLarge,
)

MAX_CHANGES = 200
MAX_BYTES = 4 * 1024 * 1024
MAX_FLYING = 2

Settled = Outcome | StorageError
"""What has become of a change; an error if it failed while others did not."""


class Committer:
    """Commits changes of distinct keys, with one outcome each."""

    def __init__(self, states: StateStorage) -> None:
        self._states = states
        self._flying = 0
        self._waiting: deque[tuple[Sequence[Change], asyncio.Future[list[Settled]]]] = deque()
        self._published: dict[StateKey, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def mark_published(self, key: StateKey, version: int) -> None:
        """The outbox of this version has been published: written with the next commit, or at `flush`."""
        self._published[key] = version

    async def flush(self) -> None:
        """Write the marks that no commit has taken along."""
        while self._published:
            marks = self._take_marks()
            await self._states.commit(marks)

    async def commit(self, changes: Sequence[Change]) -> list[Settled]:
        """One outcome for each change, in order.

        Raises what `StateStorage.commit` raises, but for values too large, and for what ails one of several changes.
        """
        if self._flying < MAX_FLYING and not self._waiting:
            return await self._send(changes)
        future: asyncio.Future[list[Settled]] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, future))
        return await future

    async def _send(self, changes: Sequence[Change]) -> list[Settled]:
        self._flying += 1
        try:
            if not self._published:
                return await self._write(changes)
            for change in changes:
                self._published.pop(change.key, None)
            marks = self._take_marks()
            return (await self._write([*changes, *marks]))[: len(changes)]
        finally:
            self._flying -= 1
            if self._waiting:
                task = asyncio.get_running_loop().create_task(self._send_waiting())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _write(self, changes: Sequence[Change | Published]) -> list[Settled]:
        try:
            return list[Settled](await self._states.commit(changes))
        except ValueTooLarge as error:
            if len(changes) == 1:
                return [Refused(str(error))]
        except ILLNESSES:
            raise
        except StorageError:
            if len(changes) == 1:
                raise
        return [await self._write_alone(change) for change in changes]

    async def _write_alone(self, change: Change | Published) -> Settled:
        """One bad change leaves the others alone."""
        try:
            return (await self._write([change]))[0]
        except ILLNESSES:
            raise
        except StorageError as error:
            return error

    def _take_marks(self) -> list[Published]:
        taken = list(self._published.items())[:MAX_CHANGES]
        for key, _ in taken:
            del self._published[key]
        return [Published(key, version) for key, version in taken]

    async def _send_waiting(self) -> None:
        """Send what waits as one batch. An outcome that is unknown is unknown for all in it."""
        if not self._waiting or self._flying >= MAX_FLYING:
            return
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
        try:
            outcomes = await self._send([change for changes, _ in batch for change in changes])
        except BaseException as error:  # handed to every lane of the batch
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for changes, future in batch:
            if not future.done():
                future.set_result(outcomes[start : start + len(changes)])
            start += len(changes)


def _size(changes: Sequence[Change]) -> int:
    return sum(
        len(change.head) + (len(change.segment.events) + len(change.segment.outbox or b"") if change.segment else 0)
        for change in changes
    )
