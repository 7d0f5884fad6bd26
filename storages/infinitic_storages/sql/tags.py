"""Tags and custom ids in SQL databases: rows, and the statements that all databases share.

One table has one row for each member of a tag, and of a custom id. Another one has a *lock row* for
each custom id: who claims the custom id locks it, and reads in it who got the custom id last. A
lock row may be purged: then the next claim makes it again, and looks for the holder among all
members.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from infinitic.storage import TagChange, TagKey
from infinitic.storage.tag_rules import StoredMember, compute_expiry, keep_newest
from infinitic_storages.sql.keys import encode_tag_key
from infinitic_storages.sql.tables import Tables


class MemberRow(NamedTuple):
    """A row of the table. Its fields are in the order of the columns of the statements."""

    key: bytes
    id: bytes
    live: bool
    version: int
    at: float
    expires_at: float | None
    holder: bytes | None = None


def make_member_rows(changes: Iterable[TagChange], deduplication_window: float) -> list[MemberRow]:
    """Make the rows that changes ask for, one for each member.

    They are sorted: so updates that meet cannot deadlock.

    Args:
        changes: what is written.
        deduplication_window: seconds for which removed members are remembered.
    """
    rows: list[MemberRow] = []
    for key, members in keep_newest(changes).items():
        encoded = encode_tag_key(key)
        for id, change in members.items():
            expires_at = compute_expiry(change, deduplication_window)
            expiry = None if expires_at is None else float(expires_at)
            rows.append(MemberRow(encoded, id.encode(), change.live, change.version, float(change.at), expiry))
    rows.sort(key=itemgetter(0, 1))
    return rows


def measure_member(row: MemberRow) -> int:
    """Bytes that a member takes in a statement, at most. Escaping may make two bytes of one."""
    return 2 * (len(row.key) + len(row.id) + len(row.holder or b"")) + 96


def list_members(
    connection: Connection, tables: Tables, key: TagKey, until: float | None, after: str, limit: int
) -> list[str]:
    """Read a page of live members, see `TagStorage.members`."""
    tags = tables.tags.c
    statement = select(tags.id).where(tags.key == encode_tag_key(key), tags.id > after.encode(), tags.live)
    if until is not None:
        statement = statement.where(tags.at <= float(until))
    found = connection.execute(statement.order_by(tags.id).limit(limit)).scalars()
    return [bytes(id).decode() for id in found]


def count_members(connection: Connection, tables: Tables, key: TagKey) -> int:
    """Count the live members of a tag."""
    tags = tables.tags.c
    statement = select(func.count()).select_from(tables.tags).where(tags.key == encode_tag_key(key), tags.live)
    return connection.execute(statement).scalar_one()


def read_member(
    connection: Connection, tables: Tables, key: bytes, id: bytes, *, lock: bool = False
) -> StoredMember | None:
    """Read what is stored of one member; None if nothing is.

    Args:
        connection: to the database.
        tables: the tables.
        key: the encoded tag.
        id: the encoded member.
        lock: whether nobody else may write it until the transaction ends.
    """
    tags = tables.tags.c
    statement = select(tags.version, tags.live, tags.holder).where(tags.key == key, tags.id == id)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        return None
    version, live, holder = row
    return StoredMember(version, bool(live), None if holder is None else bytes(holder).decode())


class LockRow(NamedTuple):
    """The lock row of a custom id.

    Attributes:
        last: who got the custom id last; None: that is not known.
    """

    last: str | None


def lock_custom_id(connection: Connection, tables: Tables, key: bytes) -> LockRow | None:
    """Lock a custom id until the transaction ends. None: its lock row is not there.

    Args:
        connection: in a transaction.
        tables: the tables.
        key: the encoded custom id.
    """
    locks = tables.custom_ids.c
    row = connection.execute(select(locks.holder).where(locks.key == key).with_for_update()).one_or_none()
    if row is None:
        return None
    return LockRow(None if row[0] is None else bytes(row[0]).decode())


def find_holder(connection: Connection, tables: Tables, key: bytes, last: str | None) -> str | None:
    """Find the live member of a custom id that is locked. None: there is none.

    Args:
        connection: in a transaction.
        tables: the tables.
        key: the encoded custom id.
        last: who got it last; None: that is not known.
    """
    if last is not None:
        member = read_member(connection, tables, key, last.encode())
        return last if member is not None and member.live else None
    tags = tables.tags.c
    found = connection.execute(select(tags.id).where(tags.key == key, tags.live).limit(1)).scalar()
    return None if found is None else bytes(found).decode()


def write_lock_row(connection: Connection, tables: Tables, key: bytes, holder: str, expires_at: float) -> None:
    """Write into a lock row who holds the custom id.

    Args:
        connection: in the transaction that has locked it.
        tables: the tables.
        key: the encoded custom id.
        holder: the holder.
        expires_at: when the lock row may be purged. Nothing is lost then but a quick look.
    """
    connection.execute(
        update(tables.custom_ids)
        .where(tables.custom_ids.c.key == key)
        .values(holder=holder.encode(), expires_at=expires_at)
    )
