"""The long-lived asyncio tasks in which attempts run: a new one for each attempt would cost more.

So what a task does to its asyncio task outlives it: a timer that nobody takes back may cancel the
next attempt there. Only the end of the executor ends a member of the pool. Any other cancellation
is over with the attempt that it hits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from infinitic.runtime.service_executor.pace import Pace
from infinitic.runtime.service_executor.work import Batch, Work
from infinitic.runtime.wakeup import wake


class AttemptPool:
    """At most `size` members, each of which runs one attempt after another.

    Args:
        size: how many attempts run at once.
        waiting: what has to be run next. Call `wake` after adding to it.
        run: runs one attempt or one batch, whose `member` is set before. If it is cancelled and
            the pool goes on, it is called again with the same one.
        pace: says when the next one may begin; None: as soon as a member is free.
        note_begun: called when one begins, if there is a pace.
    """

    def __init__(
        self,
        size: int,
        waiting: deque[Work | Batch],
        run: Callable[[Any], Awaitable[None]],
        *,
        pace: Pace | None = None,
        note_begun: Callable[[], object] | None = None,
    ) -> None:
        self._size = size
        self._waiting = waiting
        self._run = run
        self._pace = pace
        self._note_begun = note_begun
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._count = 0
        # True if a member was woken or made, and has not begun to run yet.
        self._is_coming = False
        self._group: asyncio.TaskGroup | None = None
        self._owner: asyncio.Task[object] | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Begin to make members, in a group that is cancelled together with the current task."""
        self._group = group
        self._owner = asyncio.current_task()

    def is_ending(self) -> bool:
        """True once the members are being cancelled, because the executor ends."""
        return self._owner is not None and self._owner.cancelling() > 0

    def wake(self) -> None:
        """Wake or make one member for what waits. It wakes the next one if more waits then."""
        if self._is_coming or not self._waiting or self._group is None or self.is_ending():
            return
        if self._pace is not None and not self._may_begin(self._pace):
            return
        if self._idle:
            self._is_coming = True
            wake(self._idle.pop())
        elif self._count < self._size:
            self._is_coming = True
            self._count += 1
            self._group.create_task(self._live())

    def _may_begin(self, pace: Pace) -> bool:
        """Whether the next one may begin now. If not, a timer wakes a member when it may."""
        delay = pace.compute_delay()
        if delay <= 0:
            return True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._end_pause)
        return False

    def _end_pause(self) -> None:
        self._timer = None
        self.wake()

    def _begin_next(self, pace: Pace) -> None:
        pace.note_begun(_count(self._waiting[0]))
        if self._note_begun is not None:
            self._note_begun()

    async def _live(self) -> None:
        itself, owner, waiting, run = asyncio.current_task(), self._owner, self._waiting, self._run
        pace = self._pace
        assert itself is not None
        assert owner is not None
        self._is_coming = False
        # The cancellation itself is no sure sign: a task may have swallowed it.
        while not owner.cancelling():
            if waiting and (pace is None or self._may_begin(pace)):
                if pace is not None:
                    self._begin_next(pace)
                work = waiting.popleft()
                work.member = itself
                if waiting and not self._is_coming:
                    self.wake()
                try:
                    await run(work)
                except asyncio.CancelledError:
                    if owner.cancelling():
                        raise
                    waiting.appendleft(work)
            else:
                await self._rest()
            while itself.cancelling() and not owner.cancelling():
                itself.uncancel()

    async def _rest(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if self.is_ending():
                raise
            if future in self._idle:
                self._idle.remove(future)
                return
        self._is_coming = False


def _count(work: Work | Batch) -> int:
    return len(work.works) if isinstance(work, Batch) else 1
