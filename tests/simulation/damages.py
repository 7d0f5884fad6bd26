"""Damages the stored state of one instance, and repairs it, without the verbs of the storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from infinitic.storage import Segment, StateKey, Stored
from infinitic.storage.integrity import check_head, check_segment
from infinitic_storages.memory import Database

Raw = list[Segment]


def flip(value: bytes) -> bytes:
    """Flip one bit in the middle of a value."""
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 4]) + value[middle + 1 :]


def _change_segment(number: int, change: Callable[[Segment], Segment]) -> Callable[[Raw, Raw], Raw]:
    return lambda raw, _: [change(each) if each.sequence == number else each for each in raw]


SEGMENTS: dict[str, Callable[[Raw, Raw], Raw]] = {
    "the first is deleted": lambda raw, _: raw[1:],
    "one is deleted": lambda raw, _: [*raw[:1], *raw[2:]],
    "the last is deleted": lambda raw, _: raw[:-1],
    "all are deleted": lambda raw, _: raw[:0],
    "two are swapped": lambda raw, _: [raw[0], raw[2], raw[1], *raw[3:]],
    "the content of two is swapped": lambda raw, _: [
        raw[0],
        replace(raw[1], events=raw[2].events),
        replace(raw[2], events=raw[1].events),
        *raw[3:],
    ],
    "one is there twice": lambda raw, _: [*raw[:2], *raw[1:]],
    "one has the content of another": lambda raw, _: [raw[0], raw[1], replace(raw[2], events=raw[1].events), *raw[3:]],
    "one is that of another instance": lambda raw, other: [raw[0], replace(raw[1], events=other[1].events), *raw[2:]],
    "one is empty": _change_segment(2, lambda each: replace(each, events=b"")),
    "one holds nothing": _change_segment(2, lambda each: replace(each, events=b"[]")),
    "one is cut": _change_segment(2, lambda each: replace(each, events=each.events[:-9])),
    "a bit is flipped": _change_segment(2, lambda each: replace(each, events=flip(each.events))),
    "a bit is flipped in the first": _change_segment(1, lambda each: replace(each, events=flip(each.events))),
}
"""Functions of the segments of an instance and of another one. They return what is stored then."""

HEADS: dict[str, Callable[[Stored, Stored], Stored]] = {
    "a bit is flipped": lambda mine, _: replace(mine, head=flip(mine.head)),
    "it is empty": lambda mine, _: replace(mine, head=b""),
    "it is cut": lambda mine, _: replace(mine, head=mine.head[:-5]),
    "it is that of another": lambda mine, other: replace(mine, head=other.head),
    "its version is another": lambda mine, _: replace(mine, version=mine.version + 1),
    "its sequence is another": lambda mine, _: replace(mine, sequence=mine.sequence + 1),
}

OUTBOXES: dict[str, Callable[[bytes | None, bytes | None], bytes | None]] = {
    "it is gone": lambda mine, _: None,
    "it is empty": lambda mine, _: b"",
    "a bit is flipped": lambda mine, _: flip(mine or b""),
    "it is cut": lambda mine, _: (mine or b"")[:-1],
    "it is that of another": lambda _, other: other,
}


class DamagedInstance:
    """Damages and repairs one instance in a database.

    Args:
        database: an in-memory one.
        key: the instance.
        other: another instance, for damages that mix up two of them.
    """

    def __init__(self, database: Database, key: StateKey, other: StateKey) -> None:
        tables: Any = database
        self.key = key
        self._row = tables._rows[key.name][key.id]
        self._other = tables._rows[other.name][other.id]
        self._stored: Stored = self._row.stored
        self._segments: Raw = list(self._row.segments)

    def damage_segments(self, how: str) -> None:
        self._row.segments = list(SEGMENTS[how](list(self._segments), list(self._other.segments)))

    def damage_head(self, how: str) -> None:
        self._row.stored = HEADS[how](self._stored, self._other.stored)

    def damage_outbox(self, how: str) -> None:
        """Damage the outbox of the last transition, as if it was not yet marked as published."""
        last = self._segments[-1]
        outbox = OUTBOXES[how](last.outbox, self._other.segments[-1].outbox)
        self._row.stored = replace(self._stored, published=False)
        self._row.segments = [*self._segments[:-1], replace(last, outbox=outbox)]

    def strip(self) -> None:
        """Remove all checksums: so release 0.1 wrote it."""
        for row in (self._row, self._other):
            row.segments = [check_segment(row.key, each) for each in row.segments]
            row.stored = check_head(row.key, row.stored)
        self._stored, self._segments = self._row.stored, list(self._row.segments)

    def repair_head(self) -> None:
        self._row.stored = self._stored

    def repair_segments(self) -> None:
        """Restore the damaged segments. Those that were added since stay."""
        last = self._segments[-1].sequence
        self._row.segments = [*self._segments, *(each for each in self._row.segments if each.sequence > last)]
