"""A commit of PostgreSQL in one statement, which is one round trip and a transaction of its own.

The statement writes each change that it finds in order, and returns the keys of those. What it
leaves alone is lost, a duplicate or refused: the longer way of `commit` finds out which.

Why it may look and write at once: a row is written only if it has the expected version when it is
locked. All that was stored with that version, or before it, was committed before the caller knew
the version. So this statement sees it, deduplication ids included. A row that does not exist is
claimed by its insert, as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infinitic.storage import Change, Published
from infinitic_storages.sql.commit import DeduplicationRow, HeadRow, SegmentRow, measure_head, measure_segment
from infinitic_storages.sql.dialects.postgres_sql import (
    ENTRY,
    ENTRY_ARRAYS,
    STATE,
    STATE_ARRAYS,
    make_array,
    make_deduplication_arrays,
    make_entry_arrays,
    make_head_arrays,
    make_segment_arrays,
)
from infinitic_storages.sql.keys import encode_deduplication_id, encode_key

_KEPT = ", ".join(
    f"{column} = CASE WHEN u.has_entry THEN u.{column} ELSE s.{column} END" for column in ENTRY.split(", ")
)
_STEP = "version = u.version, head = u.head, published = u.published, expires_at = u.expires_at"
# In brackets and compared with true: it is a table of hashes then, and not a loop over all rows.
_IS_DONE = "(u.key IN (SELECT key FROM done)) IS TRUE"
_IS_KNOWN = "(u.key IN (SELECT key FROM known)) IS TRUE"


def make_statement(states: str, segments: str, deduplication: str) -> bytes:
    """Make the statement. Its values come from `make_values`.

    Args:
        states, segments, deduplication: the quoted names of the tables.
    """
    return (
        f"WITH known AS (SELECT u.key FROM unnest(%s::bytea[], %s::bytea[]) AS u (key, mark) "
        f"JOIN {deduplication} AS d ON d.key = u.key AND d.mark = u.mark), "
        f"created AS (INSERT INTO {states} ({STATE}, {ENTRY}) SELECT * FROM "
        f"unnest({STATE_ARRAYS}, {ENTRY_ARRAYS}) AS u ({STATE}, {ENTRY}) WHERE NOT {_IS_KNOWN} "
        "ON CONFLICT (key) DO NOTHING RETURNING key), "
        f"updated AS (UPDATE {states} AS s SET {_STEP}, sequence = CASE WHEN u.adds THEN u.sequence ELSE s.sequence "
        f"END, {_KEPT} FROM unnest({STATE_ARRAYS}, {ENTRY_ARRAYS}, %s::bigint[], %s::boolean[], %s::boolean[]) "
        f"AS u ({STATE}, {ENTRY}, expected, adds, has_entry) WHERE s.key = u.key AND s.version = u.expected "
        "AND u.version > s.version AND s.head IS NOT NULL AND (NOT u.adds OR u.sequence = s.sequence + 1) "
        f"AND NOT {_IS_KNOWN} RETURNING s.key), "
        f"marked AS (UPDATE {states} AS s SET published = true FROM unnest(%s::bytea[], %s::bigint[]) "
        "AS u (key, version) WHERE s.key = u.key AND s.version = u.version AND s.head IS NOT NULL RETURNING s.key), "
        "done AS (SELECT key FROM created UNION ALL SELECT key FROM updated), "
        f"added AS (INSERT INTO {segments} (key, sequence, events, outbox) SELECT * FROM "
        "unnest(%s::bytea[], %s::bigint[], %s::bytea[], %s::bytea[]) AS u (key, sequence, events, outbox) "
        f"WHERE {_IS_DONE}), "
        f"kept AS (INSERT INTO {deduplication} (key, mark, at) SELECT * FROM "
        f"unnest(%s::bytea[], %s::bytea[], %s::double precision[]) AS u (key, mark, at) WHERE {_IS_DONE}) "
        "SELECT key FROM done UNION ALL SELECT key FROM marked"
    ).encode()


def make_values(changes: Sequence[Change | Published], largest: int) -> tuple[dict[bytes, int], tuple[Any, ...]]:
    """Make the values of the statement.

    Changes that are rare or cannot be written are left out. Rows are sorted by key, so that
    statements of several workers lock them in the same order.

    Args:
        changes: of a commit.
        largest: bytes that the statement may have. If these changes have more, all are left out.

    Returns:
        The encoded keys of the changes that are in it, with their places in `changes`; and the
        values.
    """
    places: dict[bytes, int] = {}
    created: list[HeadRow] = []
    updated: list[HeadRow] = []
    marked: list[tuple[bytes, int]] = []
    segments: list[SegmentRow] = []
    kept: list[DeduplicationRow] = []
    size = 0
    for place, change in enumerate(changes):
        key = encode_key(change.key)
        if key is None:
            continue
        if isinstance(change, Published):
            marked.append((key, change.version))
            places[key] = place
            continue
        segment = change.segment
        is_refused = change.expected is None and segment is not None and segment.sequence != 1
        if change.first or is_refused:
            continue
        row = HeadRow(key, change, 0 if segment is None else segment.sequence)
        (created if change.expected is None else updated).append(row)
        size += measure_head(row)
        if segment is not None:
            segments.append(SegmentRow(key, segment))
            size += measure_segment(segments[-1])
        ids = {encode_deduplication_id(each): None for each in change.deduplication_ids}
        kept += [DeduplicationRow(key, each, float(change.at)) for each in ids]
        places[key] = place
    if size > largest:
        return {}, ()
    created.sort(key=_get_key)
    updated.sort(key=_get_key)
    marked.sort()
    expected = [row.change.expected for row in updated]
    return places, (
        *make_deduplication_arrays(kept)[:2],
        *make_head_arrays(created),
        *make_entry_arrays(created),
        *make_head_arrays(updated),
        *make_entry_arrays(updated),
        make_array("bigint", expected),
        make_array("boolean", [row.change.segment is not None for row in updated]),
        make_array("boolean", [row.change.entry is not None for row in updated]),
        make_array("bytea", [key for key, _ in marked]),
        make_array("bigint", [version for _, version in marked]),
        *make_segment_arrays(segments),
        *make_deduplication_arrays(kept),
    )


def _get_key(row: HeadRow) -> bytes:
    return row.key
