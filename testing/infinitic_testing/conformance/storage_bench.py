"""What the rules stand on: the seam to an adapter, and a bench with its connections to one empty database."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from infinitic.storage import (
    Change,
    Entry,
    Found,
    Outcome,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    Stored,
    WorkflowStatus,
)

S = TypeVar("S", bound="Suite")
T = TypeVar("T")

T0 = 1_800_000_000.0
"""An instant of the tests, in seconds since the Unix epoch. Nothing in the suite is about the present."""

V0 = 1_800_000_000_000_001
"""A version as it is in life: microseconds."""

KEY = StateKey("Trip", "1")


class StorageBackend(ABC):
    """One database of one test. `connect` is called several times, `erase` once, before the first `prepare`."""

    can_crash = False
    """Whether `crash` and `restart` are given. Rules about crashes and outages are skipped without."""

    @abstractmethod
    def connect(self) -> Storage:
        """A new, unprepared connection to the database of this test. The suite prepares and closes it."""

    async def erase(self) -> None:  # noqa: B027
        """Make the database empty, without tables or what there may be. Not needed where it is new for each test."""

    async def dispose(self) -> None:  # noqa: B027
        """The test is over, and every connection closed."""

    async def crash(self) -> None:
        """End the server as SIGKILL would. Returns when it is gone."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Start the server that crashed, with what it had on disk. Returns when it answers."""
        raise NotImplementedError


class Bench:
    """A database, and two connections to it: `states` and `other`."""

    states: StateStorage
    other: StateStorage

    def __init__(self, suite: Suite, backend: StorageBackend) -> None:
        self.suite = suite
        self.backend = backend
        self._open: list[Storage] = []

    @asynccontextmanager
    async def lasting(self, *, connected: bool = True) -> AsyncGenerator[None, None]:
        """The time of a test. Without being `connected`, nothing has prepared the database."""
        await self.backend.erase()
        try:
            if connected:
                first = await self.connect()
                self.states, self.capabilities = first.states, first.capabilities
                self.deduplication_window = self.capabilities.deduplication_window
                self.other = (await self.connect()).states
            yield
        finally:
            for storage in self._open:
                await storage.close()
            await self.backend.dispose()

    async def connect(self) -> Storage:
        """One more connection, prepared. It is closed at the end."""
        storage = self.unprepared()
        await self.within(storage.prepare())
        return storage

    def unprepared(self) -> Storage:
        """One more connection, that the rule prepares itself. It is closed at the end."""
        storage = self.backend.connect()
        self._open.append(storage)
        return storage

    async def within(self, verb: Awaitable[T]) -> T:
        """What a verb gives, which it has to within the patience of the suite."""
        async with asyncio.timeout(self.suite.patience):
            return await verb

    async def commit(self, *changes: Change | Published) -> list[Outcome]:
        return await self.within(self.states.commit(changes))

    async def load(self, key: StateKey = KEY) -> Stored | None:
        return (await self.within(self.states.load([key]))).get(key)

    async def history(self, key: StateKey = KEY, **options: Any) -> list[Segment]:
        return await self.within(self.states.history(key, **options))

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self.within(self.states.purge(now, limit))

    async def purge_all(self, now: float) -> int:
        """Purge until nothing is left to; how much went."""
        total = 0
        while gone := await self.purge(now):
            total += gone
        return total

    async def pages(self, **query: Any) -> list[Found]:
        """What a query finds, of all pages."""
        found: list[Found] = []
        cursor: str | None = None
        while True:
            page = await self.within(self.states.find(Query(cursor=cursor, **query)))
            assert len(page.found) <= query.get("limit", 100), "a page is longer than the limit"
            found += page.found
            cursor = page.cursor
            if cursor is None:
                return found

    async def ids(self, **query: Any) -> list[str]:
        return [each.key.id for each in await self.pages(**query)]

    async def seen(self, key: StateKey = KEY) -> tuple[Stored | None, list[Segment], list[Entry]]:
        """All that can be read of an instance. The head first: what lands meanwhile is then not torn."""
        stored, history = await self.load(key), await self.history(key, outbox=True)
        return stored, history, [each.entry for each in await self.pages() if each.key == key]


class Suite(ABC):
    """The part of a suite that an adapter gives."""

    patience = 30.0
    """Seconds that a verb may take before a test fails."""

    largest_value = 70_000_000
    """Bytes: the rule about values of exactly `max_value` is skipped where that is more."""

    seeds: tuple[int, ...] = tuple(range(8))
    """Of the test against a model."""

    @abstractmethod
    def backend(self) -> StorageBackend:
        """A database for one test. Called once for each, and once for each seed."""

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """How a test is run. Override it for another event loop."""
        asyncio.run(coroutine)


async def _last(suite: S, rule: Callable[[S, Bench], Awaitable[None]], connected: bool) -> None:
    bench = Bench(suite, suite.backend())
    async with bench.lasting(connected=connected):
        await rule(suite, bench)


def unconnected(rule: Callable[[S, Bench], Awaitable[None]]) -> Callable[[S], None]:
    """The same as `in_bench`, on a database that nothing has prepared."""
    return in_bench(rule, connected=False)


def in_bench(rule: Callable[[S, Bench], Awaitable[None]], *, connected: bool = True) -> Callable[[S], None]:
    """Make a rule a plain test function, which takes nothing from pytest."""

    def test(self: S) -> None:
        self.run(_last(self, rule, connected))

    functools.update_wrapper(test, rule)
    del test.__dict__["__wrapped__"]  # pytest would look at its arguments
    return test


def crashing(bench: Bench) -> StorageBackend:
    """The backend of a rule that crashes the server; skips where that is not offered."""
    if not bench.backend.can_crash:
        pytest.skip("this backend offers no crash and restart of its server")
    return bench.backend


def change(
    key: StateKey, expected: int | None, version: int, head: bytes = b"head", at: float = T0, **fields: Any
) -> Change:
    return Change(key, expected, version, head, at, **fields)


def start(key: StateKey = KEY, version: int = V0, **fields: Any) -> Change:
    """A new instance with one segment and an entry."""
    entry = Entry(WorkflowStatus.RUNNING, T0)
    known: dict[str, Any] = {"segment": Segment(1, b"first", b"out"), "entry": entry}
    return change(key, None, version, **{**known, **fields})


def trip(number: int) -> StateKey:
    return StateKey("Trip", f"{number:04}")


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [type(each).__name__ for each in outcomes]
