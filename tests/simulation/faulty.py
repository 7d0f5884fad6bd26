"""Fences that let fail instead of cutting: one operation, or all of them for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic.storage import StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import TransportUnavailable
from infinitic_testing.fences import Fence

T = TypeVar("T")

STORAGE = frozenset({"prepare", "load", "history", "commit", "find", "purge"})


def error_of(operation: str, *, outcome_unknown: bool) -> Exception:
    """What an adapter raises when this operation fails."""
    if operation == "commit" and outcome_unknown:
        return StorageOutcomeUnknown("The reply to the commit was lost")
    return StorageUnavailable("no database") if operation in STORAGE else TransportUnavailable("no broker")


class Hiccup(Fence):
    """The operation number `at` fails once: before it takes effect or, its reply lost, after that."""

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
        raise error_of(operation, outcome_unknown=True)


class Outage(Fence):
    """The broker, the storage or both cannot be reached while their name is in `down`.

    While "replies" is, no commit is written, and nobody is told so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = set[str]()
        self._next = ""

    def fail_next(self, verb: str) -> None:
        """The next operation of this kind fails, once."""
        self._next = verb

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(operation)
        once = bool(self._next) and operation.startswith(self._next)
        if once:
            self._next = ""
        if once or ("storage" if operation in STORAGE else "broker") in self.down:
            raise error_of(operation, outcome_unknown=False)
        if "replies" in self.down and operation == "commit":
            raise error_of(operation, outcome_unknown=True)
        return await call()

    async def strike(self, what: set[str], *, at: float, seconds: float) -> None:
        """Take down and bring back, `at` seconds from now."""
        await asyncio.sleep(at)
        self.down |= what
        await asyncio.sleep(seconds)
        self.down -= what
