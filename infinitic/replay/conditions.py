"""`wait_until`: conditions over the attributes of a workflow, looked at whenever its code rests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context

from infinitic.replay.loop import MAX_STEPS, TooManySteps, WorkflowLoop

Condition = tuple[Callable[[], bool], asyncio.Future[None], Context]


class Conditions:
    """What the code of one instance waits for by `wait_until`.

    Attributes:
        waiting: the conditions, in the order of the waits.
    """

    def __init__(self, loop: WorkflowLoop) -> None:
        self._loop = loop
        self.waiting: list[Condition] = []

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition holds. What it raises is raised here."""
        while not predicate():
            condition = (predicate, self._loop.create_future(), copy_context())
            self.waiting.append(condition)
            try:
                await condition[1]
            finally:
                self.waiting.remove(condition)

    def run(self) -> None:
        """Run whoever waits for a condition that holds now, until none does.

        Raises:
            TooManySteps: this goes on and on.
        """
        rounds = 0
        while self.waiting:
            woken = False
            for predicate, future, context in list(self.waiting):
                if not future.done():
                    woken |= self._check(predicate, future, context)
            if not woken:
                return
            rounds += 1
            if rounds > MAX_STEPS:
                raise TooManySteps
            self._loop.run_ready()

    def _check(self, predicate: Callable[[], bool], future: asyncio.Future[None], context: Context) -> bool:
        """True if there is news for whoever waits for a condition."""
        try:
            if not context.run(self._loop.enter, predicate):
                return False
        except Exception as error:  # noqa: BLE001 (it is raised where the condition is awaited)
            future.set_exception(error)
        else:
            future.set_result(None)
        return True
