"""The in-memory storage: bytes in dictionaries, which are gone with the process.

It keeps every other promise of the port. `InMemoryStorage` is a connection. Connections share a
`Database`, which outlives them. A commit costs the same however much is stored. A purge costs what
it removes. `find` looks at every instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush, nlargest
from itertools import islice
from typing import Any, ClassVar, Self

import msgspec
from pydantic import BaseModel, Field

from infinitic.errors import UsageError
from infinitic.plugins import Settings
from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Found,
    InvalidArgument,
    Lost,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    StorageCapabilities,
    StorageClosed,
    Stored,
    Written,
)
from infinitic.storage.checks import (
    check_changes,
    check_history,
    check_purge,
    fits_key,
    refuse_key,
    refuse_segment,
    refuse_version,
)
from infinitic_storages.memory_tags import InMemoryTags, TagDatabase

DEFAULT_DEDUPLICATION_WINDOW = 14 * 86_400.0
"""Seconds that deduplication ids and remnants are kept."""

DEFAULT_MAX_VALUE = 64 * 1024 * 1024
"""Bytes of a head, of events or of an outbox."""

_FEW = 8
"""Up to so many deduplication ids of a key are in a tuple, which is small. More are in a set."""

_Position = tuple[float, str, str]
"""The place of an entry in the order of `find`: start, name, id."""


class _InstanceRecord(msgspec.Struct, eq=False, gc=False):
    """What is kept of a key: an instance, its remnant, or only deduplication ids.

    `forgotten` is how many of its first segments are gone. A remnant has a `version` and nothing
    `stored`. `expires_at` is when the instance may be purged,
    or else its remnant.
    """

    key: StateKey
    version: int | None = None
    stored: Stored | None = None
    segments: list[Segment] | None = None
    forgotten: int = 0
    deduplication_ids: tuple[str, ...] | set[str] = ()
    entry: Entry | None = None
    expires_at: float | None = None


class Database:
    """The data, and the methods of `StateStorage`, each as one uninterrupted step.

    Attributes:
        tags: the tags.
        on_purge: called with each instance that `purge` removes, and its segments, before it does.

    Args:
        deduplication_window: seconds for which deduplication ids and remnants are kept.
        max_value: bytes of one head, of events or of an outbox.
    """

    def __init__(
        self, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW, max_value: int = DEFAULT_MAX_VALUE
    ) -> None:
        self.deduplication_window = deduplication_window
        self.max_value = max_value
        self.tags = TagDatabase(deduplication_window)
        self.on_purge: Callable[[StateKey, Stored, Sequence[Segment]], object] | None = None
        # By name, then by id.
        self._rows: dict[str, dict[str, _InstanceRecord]] = {}
        # A heap of deduplication ids that expire; an item without any stands for the instance
        # itself.
        self._expiring: list[tuple[float, int, _InstanceRecord, tuple[str, ...]]] = []
        # A heap.
        self._remnants: list[tuple[float, int, _InstanceRecord]] = []
        # Makes the items of a heap differ before rows would be compared.
        self._serial = 0

    def size(self) -> int:
        """How many keys something is kept for."""
        return sum(map(len, self._rows.values()))

    def list_keys(self) -> list[StateKey]:
        """The keys of the instances that exist: by name, then in the order of their first write."""
        return [row.key for rows in self._rows.values() for row in rows.values() if row.stored is not None]

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        """The states of those that exist."""
        found: dict[StateKey, Stored] = {}
        for key in keys:
            row = self._row(key)
            if row is not None and row.stored is not None:
                found[key] = row.stored
        return found

    def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        """Read segments, see `StateStorage.history`."""
        check_history(after, limit, sequences)
        row = self._row(key)
        segments = (row.segments if row is not None else None) or []
        forgotten = 0 if row is None else row.forgotten
        if sequences is None:
            first = max(after - forgotten, 0)
            chosen = segments[first : first + limit]
        else:
            places = (each - 1 - forgotten for each in sorted(set(sequences)))
            chosen = [segments[place] for place in places if 0 <= place < len(segments)]
        if outbox:
            return chosen
        return [each if each.outbox is None else Segment(each.sequence, each.events) for each in chosen]

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        """Write each change as a whole, or nothing of it, see `StateStorage.commit`.

        Raises:
            InvalidArgument: a key comes twice, or a number is out of range.
            ValueTooLarge: a value is above `max_value`.
        """
        check_changes(changes, self.max_value)
        return [
            self._write(change) if isinstance(change, Change) else self._mark_published(change) for change in changes
        ]

    def find(self, query: Query) -> Page:
        """Find a page of entries, see `StateStorage.find`.

        Raises:
            InvalidArgument: the cursor is none that `find` gave.
        """
        below = None if query.cursor is None else _parse_cursor(query.cursor)
        matching = (
            (row.entry.started_at, row.key.name, row.key.id, row)
            for row in self._named(query.name)
            if row.entry is not None and query.matches(row.key, row.entry)
        )
        best = nlargest(query.limit + 1, (each for each in matching if below is None or each[:3] < below))
        page = best[: query.limit]
        cursor = msgspec.json.encode(page[-1][:3]).decode() if len(best) > len(page) else None
        return Page([Found(row.key, row.entry) for *_, row in page if row.entry is not None], cursor)

    def count(self, query: Query) -> int:
        """How many entries match, counted no further than the limit."""
        matching = (
            row for row in self._named(query.name) if row.entry is not None and query.matches(row.key, row.entry)
        )
        return sum(1 for _ in islice(matching, query.limit))

    def purge(self, now: float, limit: int = 1000) -> int:
        """Remove what has expired, see `StateStorage.purge`."""
        check_purge(now, limit)
        forgotten = 0
        while forgotten < limit and self._remnants and self._remnants[0][0] <= now:
            row = heappop(self._remnants)[2]
            row.version = row.expires_at = None
            self._drop_if_empty(row)
            forgotten += 1
        gone = 0
        while gone < limit and self._expiring and self._expiring[0][0] <= now:
            due, _, row, ids = heappop(self._expiring)
            if ids:
                rest = ids[limit - gone :]
                if rest:
                    self._expire(due, row, rest)
                gone += self._forget(row, ids[: limit - gone])
            elif row.expires_at == due and row.stored is not None:  # else it was told to stay since
                gone += 1
                if self.on_purge is not None:
                    self.on_purge(row.key, row.stored, row.segments or ())
                row.stored = row.entry = row.segments = None
                row.forgotten = 0
                row.expires_at = due + self.deduplication_window
                self._serial += 1
                heappush(self._remnants, (row.expires_at, self._serial, row))
        return gone if forgotten < limit else limit

    def _write(self, change: Change) -> Outcome:
        key = change.key
        rows = self._rows.get(key.name)
        row = rows.get(key.id) if rows is not None else None
        sequence = 0
        if row is not None:
            stored = row.stored
            if row.version != change.expected or (stored is None and row.version is not None):
                return Lost(row.version)
            if change.deduplication_ids and row.deduplication_ids:
                known = _find_known(change, row)
                if known:
                    return Duplicate(known)
            if stored is not None:
                sequence = stored.sequence
                if change.version <= stored.version:
                    return refuse_version(change.version, stored.version)
        elif change.expected is not None:
            return Lost(None)
        segment = change.segment
        if segment is not None:
            if segment.sequence != sequence + 1:
                return refuse_segment(segment.sequence, sequence)
            sequence += 1
        if row is None:
            if not (fits_key(key.name) and fits_key(key.id)):
                return refuse_key()
            row = self._rows.setdefault(key.name, {})[key.id] = _InstanceRecord(key)
        version = row.version = change.version
        row.stored = Stored(version, change.head, sequence, change.published)
        if segment is not None:
            if row.segments is None:
                row.segments = [segment]
            else:
                row.segments.append(segment)
        if change.first and change.first - 1 > row.forgotten and row.segments:
            del row.segments[: change.first - 1 - row.forgotten]
            row.forgotten = change.first - 1
        if change.entry is not None:
            row.entry = change.entry
        if change.deduplication_ids:
            ids = change.deduplication_ids
            if len(ids) > 1:
                ids = tuple(dict.fromkeys(ids))
            _add_ids(row, ids)
            self._expire(change.at + self.deduplication_window, row, ids)
        if change.expires_at != row.expires_at:
            row.expires_at = change.expires_at
            if change.expires_at is not None:
                self._expire(change.expires_at, row, ())
        return Written(version)

    def _mark_published(self, published: Published) -> Outcome:
        row = self._row(published.key)
        stored = None if row is None else row.stored
        if row is None or stored is None or stored.version != published.version:
            return Lost(None if row is None else row.version)
        row.stored = Stored(stored.version, stored.head, stored.sequence, True)
        return Written(stored.version)

    def _expire(self, due: float, row: _InstanceRecord, ids: tuple[str, ...]) -> None:
        self._serial += 1
        heappush(self._expiring, (due, self._serial, row, ids))

    def _forget(self, row: _InstanceRecord, ids: tuple[str, ...]) -> int:
        if isinstance(row.deduplication_ids, set):
            row.deduplication_ids.difference_update(ids)
        else:
            row.deduplication_ids = tuple(id_ for id_ in row.deduplication_ids if id_ not in ids)
        self._drop_if_empty(row)
        return len(ids)

    def _drop_if_empty(self, row: _InstanceRecord) -> None:
        rows = self._rows[row.key.name]
        if row.version is None and not row.deduplication_ids and rows.get(row.key.id) is row:
            del rows[row.key.id]

    def _row(self, key: StateKey) -> _InstanceRecord | None:
        rows = self._rows.get(key.name)
        return None if rows is None else rows.get(key.id)

    def _named(self, name: str | None) -> Iterator[_InstanceRecord]:
        if name is not None:
            yield from self._rows.get(name, {}).values()
        else:
            for rows in self._rows.values():
                yield from rows.values()


class _InMemoryStates(StateStorage):
    """The methods of a connection. None of them suspends."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database: Database | None = database

    @property
    def database(self) -> Database:
        if self._database is None:
            raise StorageClosed("This storage is closed")
        return self._database

    def close(self) -> None:
        self._database = None

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return self.database.load(keys)

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        return self.database.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return self.database.commit(changes)

    async def find(self, query: Query) -> Page:
        return self.database.find(query)

    async def count(self, query: Query) -> int:
        return self.database.count(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return self.database.purge(now, limit)


_databases: dict[str, Database] = {}


class InMemoryStorageSettings(Settings):
    """A database in this process, for tests and development."""

    name: str = Field(
        default="default", min_length=1, description="Name of the database. Each process has one of a name"
    )


class InMemoryStorage(Storage):
    """A connection to a database in this process.

    Nothing is kept on disk: when the process ends, all is gone. Use it for tests, simulations and
    development.

    Args:
        database: the database, which other connections may share; by default a new one.
        deduplication_window: seconds for which the new database keeps deduplication ids and
            remnants; default is 14 days.
        max_value: bytes of one head, of events or of an outbox in the new database; default is
            64 MiB.

    Raises:
        UsageError: a window or a limit was given beside a `database`, which has its own.

    Example::

        async with InMemoryStorage() as storage:
            await storage.prepare()
    """

    __slots__ = ("_states", "capabilities", "states", "tags")

    Settings: ClassVar[type[BaseModel]] = InMemoryStorageSettings

    def __init__(
        self,
        database: Database | None = None,
        *,
        deduplication_window: float | None = None,
        max_value: int | None = None,
    ) -> None:
        if database is None:
            database = Database(
                deduplication_window=DEFAULT_DEDUPLICATION_WINDOW
                if deduplication_window is None
                else deduplication_window,
                max_value=DEFAULT_MAX_VALUE if max_value is None else max_value,
            )
        elif deduplication_window is not None or max_value is not None:
            raise UsageError(
                "A shared database has a deduplication window and a limit of its own: give them to Database(…)"
            )
        self.capabilities = StorageCapabilities(
            max_value=database.max_value, durable=False, deduplication_window=database.deduplication_window
        )
        self._states = _InMemoryStates(database)
        self.states = self._states
        self.tags = InMemoryTags(lambda: self._states.database.tags)

    @classmethod
    def named(cls, name: str = "default", *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW) -> Self:
        """Connect to the database of this name. It is made once, and lives as long as the process.

        Args:
            name: any text.
            deduplication_window: seconds for which it keeps deduplication ids and remnants. It
                counts only for the first connection, which makes the database.
        """
        return cls(_databases.setdefault(name, Database(deduplication_window=deduplication_window)))

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        """Connect to the database of the name in the settings. Nothing outlives the process."""
        return cls.named(settings.name, deduplication_window=deduplication_window)

    async def prepare(self) -> None:
        """Do nothing: no tables are needed.

        Raises:
            StorageClosed: the storage is closed.
        """
        _ = self._states.database

    async def close(self) -> None:
        self._states.close()


def _find_known(change: Change, row: _InstanceRecord) -> tuple[str, ...]:
    """The deduplication ids of a change that are stored."""
    known = row.deduplication_ids
    return tuple(each for each in dict.fromkeys(change.deduplication_ids) if each in known)


def _add_ids(row: _InstanceRecord, ids: tuple[str, ...]) -> None:
    if isinstance(row.deduplication_ids, set):
        row.deduplication_ids.update(ids)
    elif len(row.deduplication_ids) + len(ids) > _FEW:
        row.deduplication_ids = {*row.deduplication_ids, *ids}
    else:
        row.deduplication_ids += ids


def _parse_cursor(cursor: str) -> _Position:
    try:
        position: _Position = msgspec.json.decode(cursor, type=_Position)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`") from error
    return position
