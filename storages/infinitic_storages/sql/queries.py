"""The methods that need the same statements on every database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal, null, or_, select, update

from infinitic.storage import (
    Found,
    InvalidArgument,
    Page,
    Query,
    Segment,
    StateKey,
    Stored,
    WorkflowStatus,
    read_entry,
)
from infinitic_storages.sql.keys import decode_key, encode_id_range, encode_key
from infinitic_storages.sql.tables import Tables

_CHUNK = 1000
"""Keys in one list of a statement."""

_GONE = "it is missing"

LoadedRow = tuple[bytes, int, bytes | None, int, bool]
"""A row of `load`: see `make_stored`."""

_Position = tuple[float, str, str]
"""The place of an entry in the order of `find`: start, name, id."""


def load(connection: Connection, tables: Tables, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
    states = tables.states.c
    asked = {each: key for key in keys if (each := encode_key(key)) is not None}
    encoded = list(asked)
    rows: list[LoadedRow] = []
    for start in range(0, len(encoded), _CHUNK):
        statement = select(states.key, states.version, states.head, states.sequence, states.published).where(
            states.key.in_(encoded[start : start + _CHUNK]),
            # A remnant has neither.
            or_(states.head.is_not(None), states.started_at.is_not(None)),
        )
        for key, version, head, sequence, published in connection.execute(statement):
            rows.append((key, version, head, sequence, published))
    return make_stored(asked, rows)


def make_stored(asked: Mapping[bytes, StateKey], rows: Iterable[LoadedRow]) -> dict[StateKey, Stored]:
    """Make states of rows.

    Args:
        asked: the keys that were asked for, by their encoding.
        rows: key, version, head, sequence, and whether the outbox is published. A row without a
            head is damaged.
    """
    found: dict[StateKey, Stored] = {}
    for key, version, head, sequence, published in rows:
        value, damage = (bytes(head), "") if head is not None else (b"", _GONE)
        found[asked[bytes(key)]] = Stored(version, value, sequence, bool(published), damage)
    return found


def history(
    connection: Connection,
    tables: Tables,
    key: StateKey,
    after: int,
    limit: int,
    sequences: Sequence[int] | None,
    outbox: bool,
) -> list[Segment]:
    segments = tables.segments.c
    encoded = encode_key(key)
    if encoded is None:
        return []
    columns = (segments.sequence, segments.events, segments.outbox if outbox else null())
    statement = select(*columns).where(segments.key == encoded).order_by(segments.sequence)
    if sequences is None:
        rows = connection.execute(statement.where(segments.sequence > max(after, 0)).limit(max(limit, 0))).all()
    else:
        wanted = sorted(set(sequences))
        rows = [
            row
            for start in range(0, len(wanted), _CHUNK)
            for row in connection.execute(statement.where(segments.sequence.in_(wanted[start : start + _CHUNK])))
        ]
    return [Segment(row[0], bytes(row[1]), None if row[2] is None else bytes(row[2])) for row in rows]


def find(connection: Connection, tables: Tables, query: Query) -> Page:
    """Find a page of entries, newest start first. The ends of ranges are not part of them.

    Args:
        connection: to the database.
        tables: the tables.
        query: which entries.

    Raises:
        InvalidArgument: the cursor is none that `find` gave.
    """
    states = tables.states.c
    where = _build_conditions(tables, query)
    if where is None:
        return Page([], None)
    if query.cursor is not None:
        start, key = _parse_cursor(query.cursor)
        where += [states.started_at <= start, or_(states.started_at < start, states.key < key)]
    statement = (
        select(
            states.key,
            states.status,
            states.started_at,
            states.workflow_version,
            states.closed_at,
            states.next_wake,
            states.flag,
        )
        .where(and_(*where))
        .order_by(states.started_at.desc(), states.key.desc())
        .limit(query.limit + 1)
    )
    rows = connection.execute(statement).all()
    found = [Found(decode_key(key), read_entry(*facts)) for key, *facts in rows[: query.limit]]
    if len(rows) <= query.limit:
        return Page(found, None)
    last = found[-1]
    return Page(found, msgspec.json.encode((last.entry.started_at, last.key.name, last.key.id)).decode())


def count(connection: Connection, tables: Tables, query: Query) -> int:
    """Count the entries that match, but no further than the limit.

    Args:
        connection: to the database.
        tables: the tables.
        query: which entries. Its cursor does not matter.
    """
    where = _build_conditions(tables, query)
    if where is None:
        return 0
    some = select(literal(1).label("one")).select_from(tables.states).where(and_(*where)).limit(query.limit).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def _build_conditions(tables: Tables, query: Query) -> list[ColumnElement[bool]] | None:
    """Build the conditions of a query, without its cursor. None: no row can match."""
    states = tables.states.c
    where: list[ColumnElement[bool]] = [states.started_at.is_not(None)]
    if query.name is not None and query.id_prefix is not None:
        # The keys tell the name, too. With a condition on the name, planners would take its index.
        keys = encode_id_range(query.name, query.id_prefix)
        if keys is None:
            return None
        where += [states.key >= keys[0], states.key < keys[1]]
    elif query.name is not None:
        try:
            where.append(states.name == query.name.encode())
        except UnicodeEncodeError:
            return None
    if query.flag is not None:
        where.append(states.flag == query.flag.value)
    if query.status is not None:
        where.append(states.status == query.status.value)
    if query.started_after is not None:
        where.append(states.started_at > float(query.started_after))
    if query.started_before is not None:
        where.append(states.started_at < float(query.started_before))
    if query.closed_after is not None:
        where.append(states.closed_at > float(query.closed_after))
    if query.closed_before is not None:
        where.append(states.closed_at < float(query.closed_before))
    if query.overdue_at is not None:
        where.append(states.status == WorkflowStatus.RUNNING.value)
        where.append(states.next_wake < float(query.overdue_at))
    return where


def purge(connection: Connection, tables: Tables, now: float, limit: int, window: float) -> tuple[int, bool]:
    """Remove remnants, then head, history and entry of instances that have expired.

    Rows that are locked by a commit are left to the next call: the commit may tell them to stay.

    Args:
        connection: in a transaction.
        tables: the tables.
        now: seconds since the Unix epoch.
        limit: how many remnants, and how many instances.
        window: seconds of the deduplication window.

    Returns:
        How many instances were removed, and whether more remnants may be due.
    """
    states, segments = tables.states.c, tables.segments.c
    due = (states.expires_at.is_not(None), states.expires_at <= now)
    first = _find_due(connection, tables, limit, due)
    remnants = [key for key, alive in first if not alive]
    instances = [key for key, alive in first if alive]
    if len(first) == limit > len(instances):
        # Many remnants are due. Instances behind them are looked for only now: most of the time,
        # that would be to read all that is due.
        found = _find_due(connection, tables, limit - len(instances), (*due, states.head.is_not(None)), instances)
        instances += [key for key, _ in found]
    for keys in _split_keys(remnants):
        connection.execute(delete(tables.states).where(states.key.in_(keys), states.head.is_(None), *due))
    for keys in _split_keys(instances):
        connection.execute(delete(tables.segments).where(segments.key.in_(keys)))
        connection.execute(
            update(tables.states)
            .where(states.key.in_(keys), states.head.is_not(None), *due)
            .values(
                head=None,
                status=None,
                workflow_version=None,
                started_at=None,
                closed_at=None,
                next_wake=None,
                flag=None,
                expires_at=states.expires_at + window,
            )
        )
    return len(instances), len(first) == limit and bool(remnants)


def _find_due(
    connection: Connection,
    tables: Tables,
    limit: int,
    where: Sequence[ColumnElement[bool]],
    known: Sequence[bytes] = (),
) -> list[tuple[bytes, bool]]:
    """Lock rows that are due, and find which of them are instances, and no remnants."""
    states = tables.states.c
    statement = (
        select(states.key, states.head.is_not(None))
        .where(*where)
        .order_by(states.expires_at)
        .limit(limit + len(known))
        .with_for_update(skip_locked=True)
    )
    seen = set(known)
    found = ((bytes(key), bool(alive)) for key, alive in connection.execute(statement))
    return [each for each in found if each[0] not in seen][:limit]


def _split_keys(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]


def _parse_cursor(cursor: str) -> tuple[float, bytes]:
    try:
        start, name, id_ = msgspec.json.decode(cursor, type=_Position)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`") from error
    key = encode_key(StateKey(name, id_))
    if key is None:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`")
    return start, key
