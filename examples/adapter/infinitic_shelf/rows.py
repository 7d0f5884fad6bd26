"""What the shelf holds, in memory, and the rules of the port. Nothing here touches the disk."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from itertools import islice
from typing import Self

import msgspec

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
    Stored,
    TagKey,
    Written,
)
from infinitic.storage.checks import fits_key, refuse_key, refuse_segment, refuse_version
from infinitic_shelf.members import Member, Members

Position = tuple[float, str, str]  # in the order of `find`: start, name, id


class Row(msgspec.Struct, eq=False):
    """What is kept of a key: an instance, its remnant, or only deduplication ids.

    A remnant has a `version`, but nothing is `stored`.
    """

    key: StateKey
    version: int | None = None
    stored: Stored | None = None
    segments: list[Segment] = []
    # Each with the time at which it was taken.
    deduplication_ids: dict[str, float] = {}
    entry: Entry | None = None
    expires_at: float | None = None


class Expired(msgspec.Struct):
    """What a purge takes away."""

    instances: list[StateKey]
    deduplication_ids: list[tuple[StateKey, str]]
    remnants: list[StateKey]


class Step(msgspec.Struct, omit_defaults=True):
    """What happened to the shelf at once. All steps in order make the same shelf again."""

    rows: list[Row] = []
    changes: list[Change] = []
    published: list[Published] = []
    expired: Expired | None = None
    members: list[Member] = []
    expired_members: list[tuple[TagKey, str]] = []

    @classmethod
    def of(cls, changes: Sequence[Change | Published]) -> Self:
        return cls(
            changes=[each for each in changes if isinstance(each, Change)],
            published=[each for each in changes if isinstance(each, Published)],
        )


class Rows:
    """Every row, and every member of a tag.

    Looking and deciding change nothing; only `apply` does.
    """

    def __init__(self) -> None:
        self._rows: dict[StateKey, Row] = {}
        self.tags = Members()

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        rows = {key: self._rows.get(key) for key in keys}
        return {key: row.stored for key, row in rows.items() if row is not None and row.stored is not None}

    def history(
        self, key: StateKey, after: int, limit: int, sequences: Sequence[int] | None, outbox: bool
    ) -> list[Segment]:
        row = self._rows.get(key)
        segments = [] if row is None else row.segments
        if sequences is None:
            # The first ones may be gone: see `Change.first`.
            first = max(after + 1 - segments[0].sequence, 0) if segments else 0
            chosen = segments[first : first + limit]
        else:
            wanted = set(sequences)
            chosen = [each for each in segments if each.sequence in wanted]
        return chosen if outbox else [Segment(each.sequence, each.events) for each in chosen]

    def decide(self, change: Change | Published) -> Outcome:
        """What becomes of a change. The order of these questions is part of the contract."""
        row = self._rows.get(change.key) or Row(change.key)
        if isinstance(change, Published):
            current = None if row.stored is None else row.stored.version
            return Written(change.version) if current == change.version else Lost(row.version)
        is_remnant = row.stored is None and row.version is not None
        if is_remnant or row.version != change.expected:
            return Lost(row.version)
        if known := tuple(each for each in change.deduplication_ids if each in row.deduplication_ids):
            return Duplicate(known)
        if row.version is not None and change.version <= row.version:
            return refuse_version(change.version, row.version)
        last = 0 if row.stored is None else row.stored.sequence
        if change.segment is not None and change.segment.sequence != last + 1:
            return refuse_segment(change.segment.sequence, last)
        if not (fits_key(change.key.name) and fits_key(change.key.id)):
            return refuse_key()
        return Written(change.version)

    def find(self, query: Query) -> Page:
        below = None if query.cursor is None else _parse_cursor(query.cursor)
        found: list[tuple[Position, Entry]] = []
        for key, row in self._rows.items():
            if row.entry is not None and query.matches(key, row.entry):
                position = (row.entry.started_at, key.name, key.id)
                if below is None or position < below:
                    found.append((position, row.entry))
        best = nlargest(query.limit + 1, found, key=lambda each: each[0])
        page = best[: query.limit]
        cursor = msgspec.json.encode(page[-1][0]).decode() if len(best) > len(page) else None
        return Page([Found(StateKey(name, id), entry) for (_, name, id), entry in page], cursor)

    def expired(self, now: float, limit: int, deduplication_window: float) -> Expired:
        """What may go.

        A remnant goes when the deduplication window is over, counted from the time at which its
        instance might go. A deduplication id goes when the window is over, counted from its change.
        """
        rows = self._rows.values()
        due = [row for row in rows if row.expires_at is not None and row.expires_at <= now]
        instances = [row.key for row in due if row.stored is not None][:limit]
        old = now - deduplication_window
        remnants = [row.key for row in due if row.stored is None and (row.expires_at or 0.0) <= old][:limit]
        ids = ((row.key, each) for row in rows for each, at in row.deduplication_ids.items() if at <= old)
        return Expired(instances, list(islice(ids, limit - len(instances))), remnants)

    def snapshot(self) -> Step:
        """The one step that makes this shelf of an empty one."""
        return Step(rows=list(self._rows.values()), members=self.tags.list_all())

    def apply(self, step: Step) -> None:
        """Let it happen: what was decided before, or what the journal says."""
        for row in step.rows:
            self._rows[row.key] = row
        for change in step.changes:
            self._write(change)
        for each in step.published:
            row = self._rows[each.key]
            if row.stored is not None:
                row.stored = msgspec.structs.replace(row.stored, published=True)
        if step.expired is not None:
            self._remove(step.expired)
        self.tags.write(step.members)
        self.tags.remove(step.expired_members)

    def _write(self, change: Change) -> None:
        row = self._rows.setdefault(change.key, Row(change.key))
        last = 0 if row.stored is None else row.stored.sequence
        if change.segment is not None:
            row.segments.append(change.segment)
            last = change.segment.sequence
        if change.first:
            row.segments = [each for each in row.segments if each.sequence >= change.first]
        row.version = change.version
        row.stored = Stored(change.version, change.head, last, change.published)
        row.deduplication_ids.update(dict.fromkeys(change.deduplication_ids, change.at))
        row.entry = change.entry or row.entry
        row.expires_at = change.expires_at

    def _remove(self, expired: Expired) -> None:
        for key in expired.instances:  # version and time stay: that is the remnant
            row = self._rows[key]
            row.stored = row.entry = None
            row.segments = []
        for key in expired.remnants:
            row = self._rows[key]
            row.version = row.expires_at = None
        for key, id_ in expired.deduplication_ids:
            del self._rows[key].deduplication_ids[id_]
        for key in {*expired.remnants, *(key for key, _ in expired.deduplication_ids)}:
            if self._rows[key].version is None and not self._rows[key].deduplication_ids:
                del self._rows[key]


def _parse_cursor(cursor: str) -> Position:
    try:
        position: Position = msgspec.json.decode(cursor, type=Position)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`") from error
    return position
