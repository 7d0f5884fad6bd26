"""How a commit is decided, the same on every database.

Asking (`look`) locks what the answer depends on; `decide` is pure; `Plan` is what is then written in bulk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from infinitic.storage import (
    Change,
    Known,
    Lost,
    Outcome,
    Published,
    Refused,
    Segment,
    Written,
)
from infinitic_storages.sql.keys import MAX_PART, encode_key, encode_mark

T = TypeVar("T")

MAX_STATEMENT = 32 * 1024 * 1024
"""Bytes of values that one statement carries, more only if one row has more."""


class TryAgain(Exception):
    """What was there a moment ago is gone: look again."""


class Row(NamedTuple):
    """What is stored of a key. Not alive: a remnant."""

    version: int
    sequence: int
    alive: bool


class MarkRow(NamedTuple):
    key: bytes
    mark: bytes
    at: float


class HeadRow(NamedTuple):
    """A change that is to be written, and the sequence that its head ends up with."""

    key: bytes
    change: Change
    sequence: int


class SegmentRow(NamedTuple):
    key: bytes
    segment: Segment


@dataclass(slots=True)
class Facts:
    """The answer to a `Question`. `claimed` keys did not exist, and are ours now."""

    claimed: set[bytes]
    rows: dict[bytes, Row]
    known: set[tuple[bytes, bytes]]


@dataclass(slots=True)
class Question:
    """What a commit has to know. Claims and keys are sorted, so that nobody waits in a circle."""

    changes: Sequence[Change | Published]
    keys: list[bytes | None]
    claims: list[HeadRow] = field(default_factory=list[HeadRow])
    others: list[bytes] = field(default_factory=list[bytes])
    marks: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])


@dataclass(slots=True)
class Plan:
    """What is written. `withdrawn` were claimed in vain; `updated` and `created` have won."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    created: list[HeadRow] = field(default_factory=list[HeadRow])
    updated: list[HeadRow] = field(default_factory=list[HeadRow])
    withdrawn: list[bytes] = field(default_factory=list[bytes])
    published: list[bytes] = field(default_factory=list[bytes])
    segments: list[SegmentRow] = field(default_factory=list[SegmentRow])
    marks: list[MarkRow] = field(default_factory=list[MarkRow])

    @property
    def empty(self) -> bool:
        return not (self.created or self.updated or self.published)


def ask(changes: Sequence[Change | Published]) -> Question:
    """What has to be known for these changes. A change that can only lose or be refused claims nothing."""
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
        question.marks += [(key, encode_mark(mark)) for mark in change.marks]
    question.claims.sort(key=lambda row: row.key)
    question.others.sort()
    return question


def decide(question: Question, facts: Facts) -> Plan:
    """One outcome for each change, and what the winners write. Raises `TryAgain`."""
    plan = Plan()
    for key, change in zip(question.keys, question.changes, strict=True):
        row = None if key is None else facts.rows.get(key)
        if isinstance(change, Published):
            plan.outcomes.append(_published(plan, key, change, row))
        else:
            plan.outcomes.append(_change(plan, facts, key, change, row))
    plan.updated.sort(key=lambda each: each.key)
    plan.published.sort()
    return plan


def _published(plan: Plan, key: bytes | None, change: Published, row: Row | None) -> Outcome:
    if key is None or row is None or not row.alive or row.version != change.version:
        return Lost(None if row is None else row.version)
    plan.published.append(key)
    return Written(row.version)


def _change(plan: Plan, facts: Facts, key: bytes | None, change: Change, row: Row | None) -> Outcome:
    claimed = key in facts.claimed
    current = None if row is None else row.version
    if not claimed and (current != change.expected or (row is not None and not row.alive)):
        return Lost(current)
    marks = {} if key is None else {mark: (key, encode_mark(mark)) for mark in change.marks}
    known = tuple(mark for mark, row_key in marks.items() if row_key in facts.known)
    if known:
        if claimed:
            plan.withdrawn.append(next(iter(marks.values()))[0])
        return Known(known)
    if row is not None and change.version <= row.version:
        return Refused(f"version {change.version} does not come after {row.version}")
    sequence = 0 if row is None else row.sequence
    segment = change.segment
    if segment is not None:
        if segment.sequence != sequence + 1:
            return Refused(f"segment {segment.sequence} does not follow {sequence}")
        sequence += 1
    if key is None:
        return Refused(f"a name and an id are at most {MAX_PART} bytes of UTF-8 each")
    if claimed:
        plan.created.append(HeadRow(key, change, sequence))
    elif row is not None:
        plan.updated.append(HeadRow(key, change, sequence))
    else:
        raise TryAgain
    if segment is not None:
        plan.segments.append(SegmentRow(key, segment))
    plan.marks += [MarkRow(key, mark, float(change.at)) for _, mark in dict.fromkeys(marks.values())]
    return Written(change.version)


def head_size(row: HeadRow) -> int:
    return len(row.change.head) + 256


def segment_size(row: SegmentRow) -> int:
    return len(row.segment.events) + len(row.segment.outbox or b"") + 64


def bites(rows: Sequence[T], sizes: Sequence[int], limit: int = MAX_STATEMENT) -> Iterator[Sequence[T]]:
    """The rows in order, in parts that one statement can carry."""
    start = size = 0
    for index, each in enumerate(sizes):
        if index > start and size + each > limit:
            yield rows[start:index]
            start, size = index, 0
        size += each
    if start < len(rows):
        yield rows[start:]
