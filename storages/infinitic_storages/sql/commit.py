"""How a commit is decided. It is the same on every database.

1. `make_question` lists what has to be known.
2. The database answers (`SqlDatabase.look`), and locks what the answer depends on.
3. `decide` makes a `Plan` of it. It is pure.
4. The database writes the plan, many rows with each statement (`SqlDatabase.write`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from infinitic.storage import Change, Duplicate, Lost, Outcome, Published, Segment, Written
from infinitic.storage.checks import refuse_key, refuse_segment, refuse_version
from infinitic_storages.sql.keys import encode_deduplication_id, encode_key

T = TypeVar("T")

MAX_STATEMENT = 32 * 1024 * 1024
"""Bytes of values that one statement carries; more only if one row has more."""


class TryAgain(Exception):
    """What was there a moment ago is gone: look again."""


class StoredRow(NamedTuple):
    """What is stored of a key. A row that is not `alive` is a remnant."""

    version: int
    sequence: int
    alive: bool


class DeduplicationRow(NamedTuple):
    """A deduplication id that is to be written, with its time in seconds since the Unix epoch."""

    key: bytes
    deduplication_id: bytes
    at: float


class HeadRow(NamedTuple):
    """A change that is to be written, and the sequence of the last segment once it is written."""

    key: bytes
    change: Change
    sequence: int


class SegmentRow(NamedTuple):
    """A segment that is to be written."""

    key: bytes
    segment: Segment


@dataclass(slots=True)
class Facts:
    """The answer to a `Question`.

    Attributes:
        claimed: keys that did not exist, and for which this transaction has made a row.
        rows: what is stored of the other keys.
        known: pairs of a key and a deduplication id that are stored.
    """

    claimed: set[bytes]
    rows: dict[bytes, StoredRow]
    known: set[tuple[bytes, bytes]]


@dataclass(slots=True)
class Question:
    """What has to be known for a commit. Claims and keys are sorted: so commits cannot deadlock.

    Attributes:
        changes: the changes of the commit.
        keys: the encoded key of each; None for what no key can be.
        claims: rows for instances that must not exist yet.
        others: keys that have to exist.
        deduplication_ids: pairs of a key and an id that may be stored.
    """

    changes: Sequence[Change | Published]
    keys: list[bytes | None]
    claims: list[HeadRow] = field(default_factory=list[HeadRow])
    others: list[bytes] = field(default_factory=list[bytes])
    deduplication_ids: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])


@dataclass(slots=True)
class Plan:
    """What is written.

    Attributes:
        outcomes: one for each change, in their order.
        created: changes of claimed keys.
        updated: changes of keys that exist.
        withdrawn: claimed keys whose change is not written: their rows are removed.
        published: keys whose outbox is published.
        segments: segments of the changes that are written.
        forgotten: keys whose first segments go, each with the first one that stays.
        deduplication_ids: ids of the changes that are written.
    """

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    created: list[HeadRow] = field(default_factory=list[HeadRow])
    updated: list[HeadRow] = field(default_factory=list[HeadRow])
    withdrawn: list[bytes] = field(default_factory=list[bytes])
    published: list[bytes] = field(default_factory=list[bytes])
    segments: list[SegmentRow] = field(default_factory=list[SegmentRow])
    forgotten: list[tuple[bytes, int]] = field(default_factory=list[tuple[bytes, int]])
    deduplication_ids: list[DeduplicationRow] = field(default_factory=list[DeduplicationRow])

    @property
    def empty(self) -> bool:
        return not (self.created or self.updated or self.published)


def make_question(changes: Sequence[Change | Published]) -> Question:
    """List what has to be known for these changes.

    A change that can only be lost or refused claims no row.
    """
    question = Question(changes, [encode_key(change.key) for change in changes])
    for key, change in zip(question.keys, changes, strict=True):
        if key is None:
            continue
        if isinstance(change, Published):
            question.others.append(key)
            continue
        if change.expected is None and (change.segment is None or change.segment.sequence == 1):
            question.claims.append(HeadRow(key, change, 0 if change.segment is None else 1))
        else:
            question.others.append(key)
        question.deduplication_ids += [(key, encode_deduplication_id(each)) for each in change.deduplication_ids]
    question.claims.sort(key=lambda row: row.key)
    question.others.sort()
    return question


def decide(question: Question, facts: Facts) -> Plan:
    """Decide the outcome of each change, and what is written.

    Args:
        question: what had to be known.
        facts: what is known.

    Raises:
        TryAgain: a row that was claimed in vain is gone since.
    """
    plan = Plan()
    for key, change in zip(question.keys, question.changes, strict=True):
        row = None if key is None else facts.rows.get(key)
        if isinstance(change, Published):
            plan.outcomes.append(_decide_published(plan, key, change, row))
        else:
            plan.outcomes.append(_decide_change(plan, facts, key, change, row))
    plan.updated.sort(key=lambda each: each.key)
    plan.published.sort()
    return plan


def _decide_published(plan: Plan, key: bytes | None, change: Published, row: StoredRow | None) -> Outcome:
    if key is None or row is None or not row.alive or row.version != change.version:
        return Lost(None if row is None else row.version)
    plan.published.append(key)
    return Written(row.version)


def _decide_change(plan: Plan, facts: Facts, key: bytes | None, change: Change, row: StoredRow | None) -> Outcome:
    claimed = key in facts.claimed
    current = None if row is None else row.version
    if not claimed and (current != change.expected or (row is not None and not row.alive)):
        return Lost(current)
    ids = {} if key is None else {each: (key, encode_deduplication_id(each)) for each in change.deduplication_ids}
    known = tuple(each for each, row_key in ids.items() if row_key in facts.known)
    if known:
        if claimed:
            plan.withdrawn.append(next(iter(ids.values()))[0])
        return Duplicate(known)
    if row is not None and change.version <= row.version:
        return refuse_version(change.version, row.version)
    sequence = 0 if row is None else row.sequence
    segment = change.segment
    if segment is not None:
        if segment.sequence != sequence + 1:
            return refuse_segment(segment.sequence, sequence)
        sequence += 1
    if key is None:
        return refuse_key()
    if claimed:
        plan.created.append(HeadRow(key, change, sequence))
    elif row is not None:
        plan.updated.append(HeadRow(key, change, sequence))
    else:
        raise TryAgain
    if segment is not None:
        plan.segments.append(SegmentRow(key, segment))
    if change.first:
        plan.forgotten.append((key, change.first))
    plan.deduplication_ids += [DeduplicationRow(key, each, float(change.at)) for _, each in dict.fromkeys(ids.values())]
    return Written(change.version)


def measure_head(row: HeadRow) -> int:
    """Bytes that a head takes in a statement, roughly."""
    return len(row.change.head) + 256


def measure_segment(row: SegmentRow) -> int:
    """Bytes that a segment takes in a statement, roughly."""
    return len(row.segment.events) + len(row.segment.outbox or b"") + 64


def split_chunks(rows: Sequence[T], sizes: Sequence[int], limit: int = MAX_STATEMENT) -> Iterator[Sequence[T]]:
    """Split rows, in their order, into chunks that one statement can carry.

    Args:
        rows: what is split.
        sizes: bytes of each row.
        limit: bytes of a chunk. A chunk of one row may have more.
    """
    start = size = 0
    for index, each in enumerate(sizes):
        if index > start and size + each > limit:
            yield rows[start:index]
            start, size = index, 0
        size += each
    if start < len(rows):
        yield rows[start:]
