"""Fences that do not cut the power. They let operations fail: a single one, or all for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic_testing.fences import Fence
from infinitic_testing.network.fates import STORAGE_VERBS, make_error

T = TypeVar("T")


class Hiccup(Fence):
    """One operation fails once.

    Args:
        at: its number, counted from 1.
        after: True: it takes effect, and only its reply is lost. False: it has no effect.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self._hiccup = at
        self._late = after

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(operation)
        if len(self.operations) != self._hiccup:
            return await call()
        if self._late:
            await call()
        raise make_error(operation, is_outcome_unknown=True)


class Outage(Fence):
    """Broker or storage cannot be reached while "broker" or "storage" is in `down`.

    While "replies" is in it, no commit is written, and the error says that the outcome is unknown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = set[str]()
        self._next = ""

    def fail_next(self, verb: str) -> None:
        """Let the next operation fail whose name begins with `verb`."""
        self._next = verb

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(operation)
        once = bool(self._next) and operation.startswith(self._next)
        if once:
            self._next = ""
        if once or ("storage" if operation in STORAGE_VERBS else "broker") in self.down:
            raise make_error(operation, is_outcome_unknown=False)
        if "replies" in self.down and operation == "commit":
            raise make_error(operation, is_outcome_unknown=True)
        return await call()

    async def strike(self, what: set[str], *, at: float, seconds: float) -> None:
        """Begin an outage of `what` in `at` seconds, and end it after `seconds`."""
        await asyncio.sleep(at)
        self.down |= what
        await asyncio.sleep(seconds)
        self.down -= what
