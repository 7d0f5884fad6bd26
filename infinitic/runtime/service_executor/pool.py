"""The long-lived asyncio tasks in which attempts run: a new one for each attempt would cost more.

So what a task does to its asyncio task outlives it: a timer that nobody takes back may cancel the
next attempt there. Only the end of the executor ends a member of the pool. Any other cancellation
is over with the attempt that it hits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from infinitic.runtime.service_executor.beginning import begin_as, go_on
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

    Attributes:
        run: what it was given. It may be replaced before the first member is made.
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
        self.run = run
        self._pace = pace
        self._note_begun = note_begun
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[tuple[asyncio.Future[None], asyncio.Task[Any]]] = []
        # What a member goes on with, once it wakes: see `begin_at_once`.
        self._begun: dict[asyncio.Task[Any], tuple[Work, Coroutine[Any, Any, None], Any]] = {}
        self._count = 0
        # True if a member was woken or made, and has not begun to run yet.
        self._is_coming = False
        self._group: asyncio.TaskGroup | None = None
        self._owner: asyncio.Task[object] | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Begin to make members, in a group that is cancelled together with the current task."""
        self._group = group
        self._owner = asyncio.current_task()

    @property
    def is_running(self) -> bool:
        """True while what is given to it runs."""
        return self._group is not None and not self.is_ending()

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
            wake(self._idle.pop()[0])
        elif self._count < self._size:
            self._is_coming = True
            self._count += 1
            self._group.create_task(self._live())

    def begin_at_once(self, work: Work, run: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
        """Run an attempt here and now, until it waits for something. A free member goes on then.

        Args:
            work: what to run. Its `member` is set before.
            run: runs it. It raises nothing but `asyncio.CancelledError`.

        Returns:
            False if no member is free, or others wait for their turn. Then nothing has begun.
        """
        if not self._idle or self._waiting or self.is_ending():
            return False
        if self._pace is not None and not self._may_begin(self._pace):
            return False
        resting, member = self._idle.pop()
        if resting.done():  # it was cancelled, and does not know it yet
            return False
        if self._pace is not None:
            self._pace.note_begun(1)
        work.member = member
        coroutine = run(work)
        try:
            waiting = begin_as(member, coroutine)
        except StopIteration:
            if not resting.done():  # it has not cancelled its own asyncio task
                self._idle.append((resting, member))
        else:
            self._begun[member] = (work, coroutine, waiting)
            wake(resting)
        return True

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
        itself, owner, waiting, run = asyncio.current_task(), self._owner, self._waiting, self.run
        pace = self._pace
        assert itself is not None
        assert owner is not None
        self._is_coming = False
        begun, cancelled = self._begun, False
        # The cancellation itself is no sure sign: a task may have swallowed it.
        while itself in begun or not owner.cancelling():
            if itself in begun:
                mine, coroutine, awaited = begun.pop(itself)
                try:
                    await go_on(coroutine, awaited, cancelled=cancelled)
                except asyncio.CancelledError:
                    if owner.cancelling():
                        raise
                    waiting.appendleft(mine)
                cancelled = False
            elif waiting and (pace is None or self._may_begin(pace)):
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
                cancelled = await self._rest(itself)
                if itself in begun:
                    continue
            while itself.cancelling() and not owner.cancelling():
                itself.uncancel()

    async def _rest(self, itself: asyncio.Task[Any]) -> bool:
        """Wait for something to do. True if this was cancelled instead."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine = (future, itself)
        self._idle.append(mine)
        try:
            await future
        except asyncio.CancelledError:
            if mine in self._idle:
                self._idle.remove(mine)
                if self.is_ending():
                    raise
                return True
            if itself in self._begun:
                # What has begun here is told, also if all ends.
                return True
            if self.is_ending():
                raise
            self._is_coming = False
            return True
        if itself not in self._begun:
            self._is_coming = False
        return False


def _count(work: Work | Batch) -> int:
    return len(work.works) if isinstance(work, Batch) else 1
