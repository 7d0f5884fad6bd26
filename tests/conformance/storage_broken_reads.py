"""Mutants that show, find or purge what they should not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from infinitic.storage import Change, Outcome, Page, Query, Segment, StateKey, Stored, Written
from tests.conformance.storage_sound import Link, Server, broken


@broken("STO-6", "MODEL")
class StaleRead(Link):
    """A connection shows what it has loaded before."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cache: dict[StateKey, Stored] = {}

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        self.cache = await super().load(keys) | self.cache
        return {key: self.cache[key] for key in keys if key in self.cache}

    async def commit(self, changes: Sequence[Any]) -> list[Outcome]:
        for each in changes:
            self.cache.pop(each.key, None)
        return await super().commit(changes)


@broken("STO-6", "HISTORY", "MODEL")
class HistoryBeforeHead(Server):
    """The last segment is not shown."""

    def history(self, key: StateKey, **options: Any) -> list[Segment]:
        stored = self.load([key]).get(key)
        last = 0 if stored is None else stored.sequence
        return [each for each in super().history(key, **options) if each.sequence < last]


@broken("STO-6")
class FirstSegmentsStay(Server):
    """Segments that nobody needs any more stay."""

    def commit(self, changes: Sequence[Any]) -> list[Outcome]:
        return super().commit([_change_first(each, lambda first: 0) for each in changes])


@broken("STO-6")
class OneMoreSegmentGoes(Server):
    """The first segment that is still needed goes as well."""

    def commit(self, changes: Sequence[Any]) -> list[Outcome]:
        return super().commit([_change_first(each, lambda first: first + 1) for each in changes])


@broken("STO-6")
class LostChangesForget(Server):
    """Segments go with a change that is not written."""

    def commit(self, changes: Sequence[Any]) -> list[Outcome]:
        for change in changes:
            row = self._row(change.key)
            if isinstance(change, Change) and change.first and row is not None and row.segments:
                del row.segments[: change.first - 1 - row.forgotten]
                row.forgotten = change.first - 1
        return super().commit(changes)


def _change_first(change: Any, make: Callable[[int], int]) -> Any:
    return replace(change, first=make(change.first)) if isinstance(change, Change) and change.first else change


@broken("HISTORY")
class LimitedSequences(Server):
    """The limit counts for sequences, too."""

    def history(self, key: StateKey, *, limit: int = 1000, **options: Any) -> list[Segment]:
        return super().history(key, limit=limit, **options)[:limit]


@broken("HISTORY")
class AfterIsIncluded(Server):
    """The segment `after` is shown as well."""

    def history(self, key: StateKey, *, after: int = 0, **options: Any) -> list[Segment]:
        return super().history(key, after=after - 1, **options)


@broken("HISTORY")
class OutboxesAlways(Server):
    """Outboxes come without being asked for."""

    def history(self, key: StateKey, *, outbox: bool = False, **options: Any) -> list[Segment]:
        return super().history(key, outbox=True, **options)


@broken("STO-13", "STO-14")
class TextHeads(Server):
    """Heads are kept as text."""

    def _write(self, change: Change) -> Outcome:
        return super()._write(replace(change, head=change.head.decode(errors="replace").rstrip("\0").encode()[:40]))


@broken("CMP-1")
class GuessedCompression(Server):
    """What looks compressed is taken for compressed."""

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return {key: replace(each, head=_inflate(each.head)) for key, each in super().load(keys).items()}


@broken("FIND", "STO-11", "MODEL")
class OldestFirst(Server):
    """A page is in the order of starts."""

    def find(self, query: Query) -> Page:
        page = super().find(query)
        return Page(page.found[::-1], page.cursor)


@broken("STO-11", "MODEL")
class RepeatingPages(Server):
    """The last of a page is the first of the next."""

    def find(self, query: Query) -> Page:
        page = super().find(query)
        if page.cursor is None or len(page.found) < 2:
            return page
        last = page.found[-2]
        return Page(page.found, msgspec.json.encode((last.entry.started_at, *_get_names(last.key))).decode())


@broken("STO-11")
class PagesByOffset(Server):
    """A cursor counts what was shown."""

    def find(self, query: Query) -> Page:
        first = 0 if query.cursor is None else int(query.cursor)
        every = super().find(replace(query, limit=max(query.limit, 0) and 10_000, cursor=None)).found
        last = first + query.limit
        return Page(every[first:last], str(last) if last < len(every) else None)


@broken("STO-11")
class PagesByStart(Server):
    """A cursor tells entries of one start not apart."""

    def find(self, query: Query) -> Page:
        page = super().find(query)
        if page.cursor is None:
            return page
        return Page(page.found, msgspec.json.encode((page.found[-1].entry.started_at, "", "")).decode())


@broken("FIND")
class CursorOfFullPages(Server):
    """A page that is full has a cursor, though nothing follows."""

    def find(self, query: Query) -> Page:
        page = super().find(query)
        if page.cursor is not None or len(page.found) < query.limit:
            return page
        last = page.found[-1]
        return Page(page.found, msgspec.json.encode((last.entry.started_at, *_get_names(last.key))).decode())


@broken("FIND")
class RestartingCursor(Server):
    """A cursor that it did not give starts at the first page."""

    def find(self, query: Query) -> Page:
        try:
            return super().find(query)
        except ValueError:
            return super().find(replace(query, cursor=None))


@broken("FIND")
class OverdueOfAll(Server):
    """Closed instances are overdue, too."""

    def find(self, query: Query) -> Page:
        if query.overdue_at is None:
            return super().find(query)
        found = super().find(replace(query, overdue_at=None, limit=10_000)).found
        return Page([each for each in found if (each.entry.next_wake or 1e99) < query.overdue_at][: query.limit], None)


@broken("FIND", "MODEL")
class EntryForgotten(Server):
    """A change without an entry removes it."""

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        row = self._row(change.key)
        if isinstance(outcome, Written) and row is not None:
            row.entry = change.entry
        return outcome


@broken("STO-12", "MODEL")
class MovedExpiry(Server):
    """An expiry that was moved is purged at the first."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        first = None if row is None or row.stored is None else row.expires_at
        outcome = super()._write(change)
        if row is not None and first is not None:
            row.expires_at = first
        return outcome


@broken("STO-12", "MODEL")
class NoRemnant(Server):
    """Nothing stays of what was purged."""

    def purge(self, now: float, limit: int = 1000) -> int:
        gone = super().purge(now, limit)
        for _, _, row in self._remnants:
            row.version = row.expires_at = None
            self._drop_if_empty(row)
        self._remnants.clear()
        return gone


@broken("STO-12")
class UnboundedPurge(Server):
    """A purge removes all that has expired."""

    def purge(self, now: float, limit: int = 1000) -> int:
        return super().purge(now, 1_000_000)


@broken("STO-12")
class SilentRemnants(Server):
    """A purge does not tell that more remnants are due, so they go one page an hour."""

    def purge(self, now: float, limit: int = 1000) -> int:
        is_due = any(due <= now for due, *_ in self._expiring)
        gone = super().purge(now, limit)
        return gone if is_due else 0


@broken("STO-12", "MODEL")
class DeduplicationIdsAreForever(Server):
    """Deduplication ids are never purged."""

    def _forget(self, row: Any, ids: tuple[str, ...]) -> int:
        return 0


@broken("STO-12", "MODEL")
class SegmentsSurvive(Server):
    """Purged and made again, an instance has its old history."""

    def __init__(self) -> None:
        super().__init__()
        self.old: dict[StateKey, list[Segment]] = {}

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        row = self._row(change.key)
        if isinstance(outcome, Written) and row is not None and row.segments is not None:
            self.old.setdefault(change.key, row.segments)
        return outcome

    def history(self, key: StateKey, **options: Any) -> list[Segment]:
        segments = super().history(key, **options)
        return segments if options.get("sequences") is not None or options.get("after") else self.old.get(key, segments)


def _get_names(key: StateKey) -> tuple[str, str]:
    return key.name, key.id


def _inflate(value: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompress(value)
    return value


@broken("FIND", "COUNT", "MODEL")
class NoFlags(Server):
    """Flags are not looked at when entries are found."""

    def find(self, query: Query) -> Page:
        return super().find(replace(query, flag=None))


@broken("FIND", "MODEL")
class FlagsOutlive(Server):
    """A flag that was raised stays."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        old = None if row is None or row.entry is None else row.entry.flag
        if change.entry is not None and change.entry.flag is None and old is not None:
            change = replace(change, entry=replace(change.entry, flag=old))
        return super()._write(change)


@broken("FIND", "COUNT", "MODEL")
class EndsOfInstancesIgnored(Server):
    """When an instance has closed is not looked at."""

    def find(self, query: Query) -> Page:
        return super().find(replace(query, closed_after=None, closed_before=None))


@broken("FIND")
class EndsIncluded(Server):
    """The end of a range of closing times is part of it."""

    def find(self, query: Query) -> Page:
        after = None if query.closed_after is None else query.closed_after - 0.5
        return super().find(replace(query, closed_after=after))


@broken("FIND")
class IdsFolded(Server):
    """Upper and lower case of the beginning of an id are the same."""

    def find(self, query: Query) -> Page:
        prefix = query.id_prefix
        if prefix is None:
            return super().find(query)
        found = super().find(replace(query, id_prefix=None, limit=10_000)).found
        return Page([each for each in found if each.key.id.lower().startswith(prefix.lower())][: query.limit], None)


@broken("COUNT")
class CountsOn(Link):
    """Entries are counted beyond the limit."""

    async def count(self, query: Query) -> int:
        return await super().count(replace(query, limit=1000))


@broken("ARGUMENTS")
class AnyLimit(Link):
    """What no database can take is passed on to it."""

    async def purge(self, now: float, limit: int = 1000) -> int:
        await self.pause()
        return self.server.purge(min(now, 1e300), min(max(limit, 1), 1000)) if now == now else 0
