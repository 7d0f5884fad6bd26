"""Two of the three classes that an adapter implements: `Storage`, and its `StateStorage`.

The third one, `TagStorage`, is in `infinitic.storage.tags`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from infinitic.storage.keys import StateKey
from infinitic.storage.tags import TagStorage
from infinitic.storage.values import (
    Change,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StorageCapabilities,
    Stored,
)

_PAGE = 1000
"""How many entries `count` asks `find` for at a time."""


class StateStorage(ABC):
    """States and histories of workflow instances.

    Every method may raise `StorageUnavailable` while the database is away, `StorageNotPrepared`
    before `Storage.prepare` was called anywhere, `StorageConfigurationError` when it refuses us,
    and `StorageClosed` after `Storage.close`. A call has a deadline of the adapter: it never waits
    for ever.

    Every method may be called many times at once, and from many processes. Each may be cancelled at
    any time. Then no connection is lost or handed on in the middle of a reply. A cancelled `commit`
    has an unknown outcome, as after `StorageOutcomeUnknown`.
    """

    __slots__ = ()

    @abstractmethod
    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        """Load the states of instances.

        It sees every change that was `Written` before the call, by any process. So never ask a
        replica that may be behind.

        Args:
            keys: any number, also none.

        Returns:
            The states of those instances that exist. Remnants do not count (see `purge`). One whose
            head is missing or damaged is there, with `Stored.damage`: it keeps others from nothing.
        """

    @abstractmethod
    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        """Read segments of an instance, in the order of their sequences.

        Those before a `Change.first` that was written are not there any more.

        The history reaches exactly to the head that `load` shows, also while somebody commits.

        Args:
            key: the instance. One that does not exist has no segments.
            after: segments with a greater sequence.
            limit: how many segments at most, up to `MAX_LIMIT`; 0 or less: none.
            sequences: exactly these segments, as far as they exist, instead of those that `after`
                and `limit` name. Their order and repeats do not matter.
            outbox: whether the outboxes are read as well. They may be large, and are rarely needed.

        Raises:
            InvalidArgument: a number is out of range.
            DamagedState: a segment cannot be read. (Storages that check what they read raise it.)
        """

    @abstractmethod
    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        """Write the changes of several instances in one round trip.

        A change is written, as a whole, if and only if

        1. the stored version is its `expected`, otherwise it is `Lost`, and then
        2. none of its deduplication ids is stored, otherwise it is a `Duplicate`, and then
        3. its version and its segment come after the stored ones, and its key is not too long,
           otherwise it is `Refused`.

        Of several changes with one `expected`, made by anybody at the same time, exactly one is
        written. That takes a transaction, a conditional update, or a script on the server. To read
        and then write is not enough.

        Each change has a fate of its own: that one is not written undoes no other.

        `Published` marks the outbox as published and changes no version. Its outcome is `Written`
        with its version, or `Lost` if another version is stored.

        Args:
            changes: for distinct keys.

        Returns:
            One outcome for each change, in the same order.

        Raises:
            InvalidArgument: a key comes twice, a number does not fit into 64 bits, or a time is no
                finite number.
            ValueTooLarge: a value is above `max_value`. Nothing was written.
            StorageUnavailable: nothing was written, for certain.
            StorageOutcomeUnknown: the reply was lost. Each change is written as a whole or absent,
                and may still be written later. An adapter must not send it again.
        """

    @abstractmethod
    async def find(self, query: Query) -> Page:
        """Find instances by their entries, newest start first.

        The pages of a query repeat no entry, and skip none that was there all the time. Entries
        that change meanwhile may be found or not.

        Args:
            query: which entries.

        Raises:
            InvalidArgument: the cursor is none that `find` gave.
        """

    async def count(self, query: Query) -> int:
        """Count the entries that a query matches, but no further than `query.limit`.

        This one asks `find` page by page. Override it if the database counts more cheaply.

        Args:
            query: which entries. Its cursor does not matter.
        """
        counted, cursor = 0, None
        while counted < query.limit:
            step = replace(query, limit=min(_PAGE, query.limit - counted), cursor=cursor)
            page = await self.find(step)
            counted += len(page.found)
            cursor = page.cursor
            if cursor is None:
                break
        return counted

    @abstractmethod
    async def purge(self, now: float, limit: int = 1000) -> int:
        """Remove what has expired, in bounded steps.

        Three kinds of things expire:

        - Head, history and entry of an instance go at its `expires_at`. A *remnant* of it stays:
          its key and version.
        - The remnant goes when the deduplication window is over, counted from `expires_at`. Until
          then a change with `expected=None` is `Lost` on it. So a late duplicate of a start does
          not start the instance again.
        - Deduplication ids go when the deduplication window is over, counted from `Change.at`.

        An instance may be told to stay at the same moment. So look at its expiry in the statement
        that deletes it, not before.

        Args:
            now: the time, in seconds since the Unix epoch.
            limit: how many instances and deduplication ids are removed at most, from 1 to
                `MAX_LIMIT`. Up to `limit` remnants are removed as well.

        Returns:
            How many instances and deduplication ids were removed. Remnants are not counted, but
            while more of them may be due, it returns `limit`. Call it again until it returns less
            than `limit`.

        Raises:
            InvalidArgument: `now` is no finite number, or the limit is out of range.
        """


class Storage(ABC):
    """A database: its states and tags, and its life.

    Attributes:
        states: what is stored of workflow instances.
        tags: what is stored of tags and custom ids.
        capabilities: what this adapter promises. They may be known only after `prepare`, because
            only the server knows its limits.

    Example::

        async with InMemoryStorage() as storage:
            await storage.prepare()
            [outcome] = await storage.states.commit([change])
    """

    __slots__ = ()

    states: StateStorage
    tags: TagStorage
    capabilities: StorageCapabilities

    @abstractmethod
    async def prepare(self) -> None:
        """Connect, and create or migrate what is needed. Idempotent.

        Many processes may call it at once: a lock lets one of them migrate while the others wait.
        What is stored stays.

        Raises:
            StorageConfigurationError: waiting does not help: wrong credentials, a missing database
                or permission, or the schema of a newer release. The text says what to do.
            StorageUnavailable: the database is away.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let running calls end, and give back every connection. Idempotent.

        Later calls raise `StorageClosed`.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
