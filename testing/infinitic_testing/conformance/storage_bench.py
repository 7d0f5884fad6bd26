"""What the rules of the storage suite need: a way to reach a database, and connections to it."""

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
    TagStorage,
    WorkflowStatus,
)

S = TypeVar("S", bound="StorageSuite")
T = TypeVar("T")

T0 = 1_800_000_000.0
"""A time for the tests, in seconds since the Unix epoch. No test depends on the present."""

V0 = 1_800_000_000_000_001
"""A version as engines make them: microseconds since the Unix epoch."""

KEY = StateKey("Trip", "1")


class StorageBackend(ABC):
    """One database for one test.

    Only `connect` has to be defined. It is called several times. `erase` is called once, before the
    first `prepare`.
    """

    can_crash = False
    """Whether `crash` and `restart` are defined. Rules that need them are skipped otherwise."""

    @abstractmethod
    def connect(self) -> Storage:
        """Make a connection to the database of this test. The suite prepares and closes it."""

    def make_connector(self) -> Callable[[], Storage]:
        """Make what connects in *another process*: a function that can be pickled.

        A class and its arguments are enough: ``functools.partial(MyStorage, "mine://localhost")``.
        The other process finds modules where this one does. KILL-1 is skipped without it.
        """
        pytest.skip("make_connector() is not provided")

    async def erase(self) -> None:  # noqa: B027
        """Make the database empty, without tables. Not needed if each test has a new one."""

    async def dispose(self) -> None:  # noqa: B027
        """Clean up. The test is over, and every connection is closed."""

    async def crash(self) -> None:
        """End the server as SIGKILL would, and return when it is gone."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Start the crashed server with what it had on disk, and return when it answers."""
        raise NotImplementedError


class StorageBench:
    """A database, and two connections to it.

    `storage`, `states` and `tags` are of the first one, `other` and `other_tags` of the second one.
    """

    storage: Storage
    states: StateStorage
    tags: TagStorage
    other: StateStorage
    other_tags: TagStorage

    def __init__(self, suite: StorageSuite, backend: StorageBackend) -> None:
        self.suite = suite
        self.backend = backend
        self._open: list[Storage] = []

    @asynccontextmanager
    async def open(self, *, connected: bool = True) -> AsyncGenerator[None, None]:
        """Open the connections for a test, and close them at its end.

        Args:
            connected: False leaves the database unprepared, without connections.
        """
        await self.backend.erase()
        try:
            if connected:
                self.storage = first = await self.connect()
                self.states, self.tags, self.capabilities = first.states, first.tags, first.capabilities
                self.deduplication_window = self.capabilities.deduplication_window
                second = await self.connect()
                self.other, self.other_tags = second.states, second.tags
            yield
        finally:
            for storage in self._open:
                await storage.close()
            await self.backend.dispose()

    async def connect(self) -> Storage:
        """Make one more connection, and prepare it. It is closed at the end."""
        storage = self.connect_unprepared()
        await self.within(storage.prepare())
        return storage

    def connect_unprepared(self) -> Storage:
        """Make one more connection, which the rule prepares itself. It is closed at the end."""
        storage = self.backend.connect()
        self._open.append(storage)
        return storage

    async def within(self, verb: Awaitable[T]) -> T:
        """Await a call, which must end within the patience of the suite."""
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
        """Purge until nothing more expires. Return how much was removed."""
        total = 0
        while gone := await self.purge(now):
            total += gone
        return total

    async def find_all(self, **query: Any) -> list[Found]:
        """Find all pages of a query."""
        found: list[Found] = []
        cursor: str | None = None
        while True:
            page = await self.within(self.states.find(Query(cursor=cursor, **query)))
            assert len(page.found) <= query.get("limit", 100), "a page is longer than the limit"
            found += page.found
            cursor = page.cursor
            if cursor is None:
                return found

    async def find_ids(self, **query: Any) -> list[str]:
        return [each.key.id for each in await self.find_all(**query)]

    async def read(self, key: StateKey = KEY) -> tuple[Stored | None, list[Segment], list[Entry]]:
        """Read all of an instance.

        The head is read first. So a commit meanwhile does not make the two differ.
        """
        stored, history = await self.load(key), await self.history(key, outbox=True)
        return stored, history, [each.entry for each in await self.find_all() if each.key == key]


class StorageSuite(ABC):
    """What an adapter defines for the suite."""

    patience = 30.0
    """Seconds that a call may take before the test fails."""

    largest_value = 70_000_000
    """Bytes. The rule about values of exactly `max_value` is skipped if that is larger."""

    seeds: tuple[int, ...] = tuple(range(8))
    """The seeds of the test against a model."""

    @abstractmethod
    def backend(self) -> StorageBackend:
        """Make a database for one test. It is called once for each test and each seed."""

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a test. Override it for another event loop."""
        asyncio.run(coroutine)


async def _run_rule(suite: S, rule: Callable[[S, StorageBench], Awaitable[None]], connected: bool) -> None:
    bench = StorageBench(suite, suite.backend())
    async with bench.open(connected=connected):
        await rule(suite, bench)


def in_unprepared_bench(rule: Callable[[S, StorageBench], Awaitable[None]]) -> Callable[[S], None]:
    """Like `in_bench`, but on a database that nothing has prepared."""
    return in_bench(rule, connected=False)


def in_bench(rule: Callable[[S, StorageBench], Awaitable[None]], *, connected: bool = True) -> Callable[[S], None]:
    """Make a rule a plain test function, which takes no arguments from pytest."""

    def test(self: S) -> None:
        self.run(_run_rule(self, rule, connected))

    functools.update_wrapper(test, rule)
    # Otherwise pytest would look at the arguments of the rule.
    del test.__dict__["__wrapped__"]
    return test


def require_crashes(bench: StorageBench) -> StorageBackend:
    """The backend, for a rule that crashes the server. It skips where that is not possible."""
    if not bench.backend.can_crash:
        pytest.skip("this backend offers no crash and restart of its server")
    return bench.backend


def make_change(
    key: StateKey, expected: int | None, version: int, head: bytes = b"head", at: float = T0, **fields: Any
) -> Change:
    return Change(key, expected, version, head, at, **fields)


def make_start(key: StateKey = KEY, version: int = V0, **fields: Any) -> Change:
    """Make the change that starts an instance, with one segment and an entry.

    Args:
        key: the instance.
        version: its first version.
        fields: other attributes of the change.
    """
    entry = Entry(WorkflowStatus.RUNNING, T0)
    known: dict[str, Any] = {"segment": Segment(1, b"first", b"out"), "entry": entry}
    return make_change(key, None, version, **{**known, **fields})


def make_key(number: int) -> StateKey:
    return StateKey("Trip", f"{number:04}")


def name_kinds(outcomes: list[Outcome]) -> list[str]:
    return [type(each).__name__ for each in outcomes]
