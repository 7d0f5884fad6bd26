"""The hot statements of PostgreSQL, and their arrays in its binary format.

psycopg dumps a list element by element in Python, and chooses its type by the values. Here a list
is one value of one type. That costs less than half, and needs few prepared statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, ClassVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from infinitic.storage import Change, Entry
from infinitic_storages.sql.commit import DeduplicationRow, HeadRow, SegmentRow
from infinitic_storages.sql.tags import MemberRow

# Dimensions, whether there are nulls, type of the elements, their number, first index.
_HEADER = Struct("!iiIii")
_SIZE = Struct("!i").pack
_NULL = _SIZE(-1)
_INTEGER, _FLOAT = Struct("!iq").pack, Struct("!id").pack
_TRUE, _FALSE = _SIZE(1) + b"\1", _SIZE(1) + b"\0"


class _Array:
    """A list of one type, in the format of the server."""

    __slots__ = ("data",)

    element: ClassVar[int]
    oid: ClassVar[int]

    def __init__(self, data: bytes) -> None:
        self.data = data


class _Bytea(_Array):
    element, oid = 17, 1001


class _Text(_Array):
    element, oid = 25, 1009


class _Bigint(_Array):
    element, oid = 20, 1016


class _Double(_Array):
    element, oid = 701, 1022


class _Boolean(_Array):
    element, oid = 16, 1000


_KINDS: dict[str, type[_Array]] = {
    "bytea": _Bytea,
    "text": _Text,
    "bigint": _Bigint,
    "double": _Double,
    "boolean": _Boolean,
}


def make_array(kind: str, values: Sequence[Any]) -> _Array:
    """Make an array.

    Args:
        kind: the type of its elements, a key of `_KINDS`.
        values: the elements; None is null.
    """
    match kind:
        case "bytea":
            parts = [_NULL if each is None else _SIZE(len(each)) + each for each in values]
        case "text":
            # ASCII only: the size is counted in characters.
            parts = [_NULL if each is None else _SIZE(len(each)) + each.encode() for each in values]
        case "bigint":
            parts = [_NULL if each is None else _INTEGER(8, each) for each in values]
        case "double":
            parts = [_NULL if each is None else _FLOAT(8, each) for each in values]
        case _:
            parts = [_TRUE if each else _FALSE for each in values]
    made = _KINDS[kind]
    return made(_HEADER.pack(1, 1, made.element, len(values), 1) + b"".join(parts))


def _make_dumper(type_oid: int) -> type[Dumper]:
    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = type_oid

        def dump(self, obj: Any) -> bytes:
            return bytes(obj.data)

    return ArrayDumper


_DUMPERS = {kind: _make_dumper(kind.oid) for kind in _KINDS.values()}


def register_arrays(connection: psycopg.Connection[Any]) -> None:
    """Let a connection send arrays."""
    for kind, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(kind, dumper)


STATE = "key, name, version, head, sequence, published, expires_at"
ENTRY = "status, workflow_version, started_at, closed_at, next_wake, flag"
STATE_ARRAYS = (
    "%s::bytea[], %s::bytea[], %s::bigint[], %s::bytea[], %s::bigint[], %s::boolean[], %s::double precision[]"
)
ENTRY_ARRAYS = (
    "%s::text[], %s::bigint[], %s::double precision[], %s::double precision[], %s::double precision[], %s::text[]"
)


class PostgresStatements:
    """The statements.

    Args:
        states, segments, deduplication, tags, custom_ids: the quoted names of the tables.
    """

    def __init__(self, states: str, segments: str, deduplication: str, tags: str, custom_ids: str) -> None:
        same = "version = u.version, head = u.head, sequence = u.sequence, published = u.published"
        self.insert = (
            f"INSERT INTO {states} ({STATE}, {ENTRY}) SELECT * FROM unnest({STATE_ARRAYS}, {ENTRY_ARRAYS}) "
            "ON CONFLICT (key) DO NOTHING RETURNING key"
        ).encode()
        look = f"SELECT key, version, sequence, head IS NOT NULL FROM {states} WHERE key = ANY(%s::bytea[])"
        self.look = look.encode()
        # A remnant has neither head nor start.
        self.load = (
            f"SELECT key, version, head, sequence, published FROM {states} WHERE key = ANY(%s::bytea[]) "
            "AND (head IS NOT NULL OR started_at IS NOT NULL)"
        ).encode()
        self.lock = f"{look} ORDER BY key FOR UPDATE".encode()
        self.known = (
            f"SELECT key, mark FROM {deduplication} "
            "JOIN unnest(%s::bytea[], %s::bytea[]) AS u (key, mark) USING (key, mark)"
        ).encode()
        self.update = (
            f"UPDATE {states} AS s SET {same}, expires_at = u.expires_at "
            f"FROM unnest({STATE_ARRAYS}) AS u ({STATE}) WHERE s.key = u.key"
        ).encode()
        self.update_all = (
            f"UPDATE {states} AS s SET {same}, expires_at = u.expires_at, status = u.status, "
            "workflow_version = u.workflow_version, started_at = u.started_at, closed_at = u.closed_at, "
            "next_wake = u.next_wake, flag = u.flag "
            f"FROM unnest({STATE_ARRAYS}, {ENTRY_ARRAYS}) AS u ({STATE}, {ENTRY}) WHERE s.key = u.key"
        ).encode()
        self.publish = f"UPDATE {states} SET published = true WHERE key = ANY(%s::bytea[]) AND NOT published".encode()
        self.withdraw = f"DELETE FROM {states} WHERE key = ANY(%s::bytea[])".encode()
        self.segment = (
            f"INSERT INTO {segments} (key, sequence, events, outbox) "
            "SELECT * FROM unnest(%s::bytea[], %s::bigint[], %s::bytea[], %s::bytea[])"
        ).encode()
        self.forget_segments = f"DELETE FROM {segments} WHERE key = %s AND sequence < %s".encode()
        self.deduplicate = (
            f"INSERT INTO {deduplication} (key, mark, at) "
            "SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::double precision[])"
        ).encode()
        self.member = (
            f"INSERT INTO {tags} AS t (key, id, live, version, at, expires_at, holder) "
            "SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::boolean[], %s::bigint[], %s::double precision[], "
            "%s::double precision[], %s::bytea[]) ON CONFLICT (key, id) DO UPDATE SET live = excluded.live, "
            "version = excluded.version, at = excluded.at, expires_at = excluded.expires_at, holder = excluded.holder "
            "WHERE excluded.version > t.version OR (excluded.version = t.version AND t.live AND NOT excluded.live)"
        ).encode()
        self.lock_row = (
            f"INSERT INTO {custom_ids} (key, expires_at) VALUES (%s::bytea, %s) ON CONFLICT (key) DO NOTHING"
        ).encode()
        self.leave = (
            f"DELETE FROM {tags} WHERE (key, id) IN (SELECT key, id FROM {tags} "
            "WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
        )
        self.unlock = (
            f"DELETE FROM {custom_ids} WHERE key IN (SELECT key FROM {custom_ids} "
            "WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
        )
        self.forget = (
            f"DELETE FROM {deduplication} WHERE (key, mark) IN (SELECT key, mark FROM {deduplication} "
            "WHERE at <= :about AND at + :window <= :now ORDER BY at LIMIT :limit FOR UPDATE SKIP LOCKED)"
        )


def make_head_arrays(rows: Sequence[HeadRow]) -> tuple[_Array, ...]:
    changes: list[Change] = [row.change for row in rows]
    return (
        make_array("bytea", [row.key for row in rows]),
        make_array("bytea", [change.key.name.encode() for change in changes]),
        make_array("bigint", [change.version for change in changes]),
        make_array("bytea", [change.head for change in changes]),
        make_array("bigint", [row.sequence for row in rows]),
        make_array("boolean", [change.published for change in changes]),
        make_array("double", [_to_float(change.expires_at) for change in changes]),
    )


def make_entry_arrays(rows: Sequence[HeadRow]) -> tuple[_Array, ...]:
    entries: list[Entry | None] = [row.change.entry for row in rows]
    return (
        make_array("text", [None if each is None else each.status.value for each in entries]),
        make_array("bigint", [None if each is None else each.version for each in entries]),
        make_array("double", [None if each is None else float(each.started_at) for each in entries]),
        make_array("double", [None if each is None else _to_float(each.closed_at) for each in entries]),
        make_array("double", [None if each is None else _to_float(each.next_wake) for each in entries]),
        make_array("text", [None if each is None or each.flag is None else each.flag.value for each in entries]),
    )


def make_segment_arrays(rows: Sequence[SegmentRow]) -> tuple[_Array, ...]:
    return (
        make_array("bytea", [row.key for row in rows]),
        make_array("bigint", [row.segment.sequence for row in rows]),
        make_array("bytea", [row.segment.events for row in rows]),
        make_array("bytea", [row.segment.outbox for row in rows]),
    )


def make_deduplication_arrays(rows: Sequence[DeduplicationRow]) -> tuple[_Array, ...]:
    return (
        make_array("bytea", [row.key for row in rows]),
        make_array("bytea", [row.deduplication_id for row in rows]),
        make_array("double", [row.at for row in rows]),
    )


def make_member_arrays(rows: Sequence[MemberRow]) -> tuple[_Array, ...]:
    return (
        make_array("bytea", [row.key for row in rows]),
        make_array("bytea", [row.id for row in rows]),
        make_array("boolean", [row.live for row in rows]),
        make_array("bigint", [row.version for row in rows]),
        make_array("double", [row.at for row in rows]),
        make_array("double", [row.expires_at for row in rows]),
        make_array("bytea", [row.holder for row in rows]),
    )


def _to_float(value: float | None) -> float | None:
    return None if value is None else float(value)
