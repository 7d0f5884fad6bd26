"""The Storage port: what the engines keep, and what every adapter is held to.

For each workflow instance a storage keeps a small *head*, rewritten at each transition; an append-only
*history* of immutable segments, one per transition, each with the *outbox* of messages that it caused; *marks*,
the ids of inputs that were taken; and one searchable *entry*. Heads, events and outboxes are opaque bytes here.

Arguments that no storage can take (a limit of 0, a time that is no number) are `InvalidArgument`, a `UsageError`.

Errors::

    StorageError
    ├── StorageUnavailable          the database cannot be reached now; try again
    ├── StorageOutcomeUnknown       a commit was lost on its way: each change is whole or absent, and may land later
    ├── ValueTooLarge               above `StorageCapabilities.max_value`; nothing was written
    ├── DamagedState                what is stored of one instance is not what was written
    ├── StorageConfigurationError   wrong credentials, missing database, schema of a newer release
    └── StorageClosed               the storage has been closed
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from math import isfinite
from types import TracebackType
from typing import Self

import msgspec

from infinitic.errors import StorageError, UsageError
from infinitic.messages.outcomes import WorkflowStatus as WorkflowStatus


class StorageUnavailable(StorageError):
    """The database cannot be reached now. Trying again later may work."""


class StorageOutcomeUnknown(StorageError):
    """The reply to a commit was lost. Each of its changes is whole or absent, and may still land."""


class ValueTooLarge(StorageError):
    """A head, segment or outbox is above the limit of the database. Nothing was written."""

    def __init__(self, size: int, limit: int, what: str) -> None:
        super().__init__(f"{what} of {size:,} bytes is above the limit of {limit:,} bytes")
        self.size = size
        self.limit = limit
        self.what = what

    def __reduce__(self) -> tuple[type[ValueTooLarge], tuple[int, int, str]]:
        return ValueTooLarge, (self.size, self.limit, self.what)


class StorageConfigurationError(StorageError):
    """The database refuses us for a reason that waiting does not mend."""


class StorageClosed(StorageError):
    """The storage has been closed."""


class DamagedState(StorageError):
    """What is stored of one instance is missing, or is not what was written. Others are not concerned.

    Trying again does not mend it, and no message is to blame: somebody has to restore `what`, from a backup say.
    """

    def __init__(self, key: StateKey, what: str, why: str) -> None:
        super().__init__(f"{self.beginning(key)} {what}: {why}")
        self.key = key
        self.what = what
        self.why = why

    @staticmethod
    def beginning(key: StateKey) -> str:
        """What the reason of a stall begins with, if it is damage."""
        return f"What is stored of {key.name} {key.id} is damaged."

    def __reduce__(self) -> tuple[type[DamagedState], tuple[StateKey, str, str]]:
        return DamagedState, (self.key, self.what, self.why)


class InvalidArgument(UsageError, ValueError):
    """An argument that no storage can take. Raised at the call, before the database is asked."""


ILLNESSES = (StorageUnavailable, StorageOutcomeUnknown, StorageConfigurationError, StorageClosed)
"""Errors that tell of the database as a whole, not of one key or value."""


class StateKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one instance: the name of its workflow, and its id. Any unicode, 255 bytes of UTF-8 each."""

    name: str
    id: str


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The state of an instance as `load` finds it.

    `version` guards the next change. `sequence` is that of the last segment (0: none). `published` says that the
    outbox of that segment is known to have been published. `damage` says what is wrong with the head, if that is
    known to be damaged: `head` is empty then.
    """

    version: int
    head: bytes
    sequence: int
    published: bool
    damage: str = ""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The events of one transition. `sequence` counts from 1 without gaps. `outbox` only if it was asked for."""

    sequence: int
    events: bytes
    outbox: bytes | None = None


class Flag(StrEnum):
    """Why somebody should look at an instance."""

    STALLED = "stalled"
    """Its code cannot be run, or what is stored of it is damaged."""

    PARKED = "parked"
    """The engine fails at a message of it; its messages go to the dead letters."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The searchable facts of an instance. Instants are in seconds since the Unix epoch.

    `next_wake` is when its earliest timer is due: an instance whose wake is overdue is found by it. `flag` is None
    for an instance that needs nobody's attention.
    """

    status: WorkflowStatus
    started_at: float
    version: int | None = None
    closed_at: float | None = None
    next_wake: float | None = None
    flag: Flag | None = None


class Change(msgspec.Struct, frozen=True, gc=False):
    """One transition of one instance: all of it is written, or nothing.

    `expected` is the version that was loaded; None means that the instance must not exist. `version` is the new
    one, larger than any before for this key. `segment` is None when the transition has no events. `marks` are the
    ids of inputs that must not have been taken before; each is kept from `at`. `published` says that there is
    nothing left to publish. `entry` is None when the searchable facts stay. `expires_at` is when head and history
    may be purged, None while the instance runs.
    """

    key: StateKey
    expected: int | None
    version: int
    head: bytes
    at: float
    segment: Segment | None = None
    marks: tuple[str, ...] = ()
    published: bool = False
    entry: Entry | None = None
    expires_at: float | None = None


class Published(msgspec.Struct, frozen=True, gc=False):
    """The outbox of this version has been published. Ignored unless `version` is the current one."""

    key: StateKey
    version: int


class Written(msgspec.Struct, frozen=True, gc=False):
    """The change is durable."""

    version: int


class Lost(msgspec.Struct, frozen=True):
    """Nothing was written: the stored version is another one, here that of the instance or of its remnant.

    None: neither exists. The version is looked at before the marks: what is lost is never `Known`.
    """

    current: int | None


class Known(msgspec.Struct, frozen=True):
    """Nothing was written: these marks are there already."""

    marks: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """Nothing was written: this change can never be, and trying again does not mend it.

    Its version does not come after the stored one, its segment does not follow the last one, or its key is too long.
    """

    reason: str


Outcome = Written | Lost | Known | Refused


MAX_LIMIT = 1_000_000
"""The most that one call of `find`, `history` or `purge` is asked for."""


class Query(msgspec.Struct, frozen=True):
    """Which entries to find. None: any. `overdue_at`: only running ones whose `next_wake` is before that instant.

    Ranges of time are without their ends. Raises `InvalidArgument` for a limit below 1 or above `MAX_LIMIT`, and for
    an instant that is no finite number; so does `find` for a cursor that it did not give.
    """

    name: str | None = None
    status: WorkflowStatus | None = None
    started_after: float | None = None
    started_before: float | None = None
    overdue_at: float | None = None
    limit: int = 100
    cursor: str | None = None
    flag: Flag | None = None

    def __post_init__(self) -> None:
        check_limit("The limit of a page", self.limit)
        check_instant("started_after", self.started_after)
        check_instant("started_before", self.started_before)
        check_instant("overdue_at", self.overdue_at)


def check_limit(what: str, limit: object) -> None:
    """Raises `InvalidArgument` for what is no whole number from 1 to `MAX_LIMIT`."""
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"{what} is a whole number from 1 to {MAX_LIMIT:,}, not {_shown(limit)}")


def check_instant(what: str, instant: object) -> None:
    """Raises `InvalidArgument` for what is neither None nor a finite number of seconds."""
    if instant is None or (type(instant) is float and isfinite(instant)):
        return
    if not isinstance(instant, int | float) or not isfinite(_number(instant)):
        raise InvalidArgument(f"{what} is a finite number of seconds, not {_shown(instant)}")


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _shown(value: object) -> str:
    """A short text, also of an int with more digits than Python prints."""
    text = (
        f"a number of {value.bit_length():,} bits" if type(value) is int and value.bit_length() > 256 else repr(value)
    )
    return text if len(text) <= 100 else f"{text[:99]}…"


class Found(msgspec.Struct, frozen=True):
    """One instance that a query found."""

    key: StateKey
    entry: Entry


class Page(msgspec.Struct, frozen=True):
    """What a query found, newest start first. `cursor` continues it; None: there is no more."""

    found: list[Found]
    cursor: str | None


class StorageCapabilities(msgspec.Struct, frozen=True):
    """What an adapter promises, as data.

    `max_value` is in bytes for one head, events or outbox. `durable` says whether what is written survives a
    crash of process and server. `horizon` is in seconds: how long marks and remnants are kept (see `purge`).
    """

    max_value: int
    durable: bool
    horizon: float


class StateStorage(ABC):
    """States and histories of workflow instances. Versions are integers, keys any unicode, compared exactly.

    Every verb may raise `StorageUnavailable`. Cancelling a verb leaks nothing; a cancelled `commit` is unknown.
    """

    __slots__ = ()

    @abstractmethod
    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        """The states of those that exist. Sees every earlier `Written`, from any process."""

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
        """Segments in order: up to `limit` after sequence `after`, or exactly those of `sequences` that exist.

        Reaches exactly the head that `load` shows. Outboxes come only if asked for. `limit` does not count for
        `sequences`, whose order and repeats do not matter.
        """

    @abstractmethod
    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        """Write changes of distinct keys in one go; one outcome each, in order.

        A change is written, as a whole, if and only if the stored version is its `expected` and none of its
        marks is there; of concurrent changes with one `expected` exactly one is written. A loser, a known mark
        or a refused value undoes no winner. `Published` changes no version: `Written` with it, or `Lost`.

        Raises `InvalidArgument` if a key comes twice, or a number does not fit into 64 bits; `ValueTooLarge`
        (nothing was written); `StorageOutcomeUnknown` (each change whole or absent, and may land later).
        """

    @abstractmethod
    async def find(self, query: Query) -> Page:
        """Entries by their facts, newest start first. Pages skip or repeat nothing that stayed."""

    async def count(self, query: Query) -> int:
        """How many entries a query matches, counted no further than `query.limit`. Its cursor does not matter.

        This asks `find`; adapters whose database counts more cheaply override it.
        """
        counted, cursor = 0, None
        while counted < query.limit:
            step = msgspec.structs.replace(query, limit=min(1000, query.limit - counted), cursor=cursor)
            page = await self.find(step)
            counted += len(page.found)
            cursor = page.cursor
            if cursor is None:
                break
        return counted

    @abstractmethod
    async def purge(self, now: float, limit: int = 1000) -> int:
        """Remove up to `limit` of what has expired; returns how many instances and marks went.

        Up to `limit` remnants go as well, and are not counted. A caller repeats it until it returns less than `limit`.

        Head, history and entry go at `expires_at`; a *remnant* stays until `horizon` seconds later, so that no
        late duplicate of a start creates the instance again: a change with `expected=None` is `Lost` on it.
        Marks go `horizon` seconds after their `at`.
        """


class Storage(ABC):
    """A database: its states, and its life."""

    __slots__ = ()

    states: StateStorage
    capabilities: StorageCapabilities

    @abstractmethod
    async def prepare(self) -> None:
        """Connect, and create or migrate what is needed, under a lock. Idempotent.

        Raises `StorageConfigurationError` for what waiting does not mend.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back every connection. Idempotent; later calls raise `StorageClosed`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
