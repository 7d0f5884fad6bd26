"""What a SQLite storage writes in the transactions of somebody else: of a broker in its file.

The connection is that of the other one. A transaction is begun, and has the right to write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from infinitic.storage import Change, Claim, Outcome, Published, StorageNotPrepared, TagChange, TagKey
from infinitic.storage.tag_rules import StoredMember, decide_claim, recall_claim
from infinitic_storages.sql.commit import decide, make_question
from infinitic_storages.sql.dialects.call import Failure
from infinitic_storages.sql.keys import encode_tag_key

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.sqlite import SqliteDatabase

T = TypeVar("T")

_MEMBER = "SELECT version, live, holder FROM infinitic_tags WHERE key = ? AND id = ?"
_ANY_HOLDER = "SELECT id FROM infinitic_tags WHERE key = ? AND live LIMIT 1"
_LAST_HOLDER = "SELECT holder FROM infinitic_custom_ids WHERE key = ?"
_NOTE_HOLDER = (
    "INSERT INTO infinitic_custom_ids (key, holder, expires_at) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
)


class HasConnection(Protocol):
    """A transaction of somebody else."""

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection. Do not commit it, nor roll it back."""
        ...


class WritesInFile(Protocol):
    """Somebody who writes to the file, and takes works into the same transactions."""

    def is_usable(self) -> bool:
        """True if it may be used now and here."""
        ...

    async def write(self, works: Sequence[tuple[Callable[[HasConnection], T], int]], seconds: float, /) -> list[T]:
        """Do works, and return their results once they are committed.

        Args:
            works: each may be done more than once. With each, how many bytes it writes.
            seconds: the deadline.
        """
        ...


class BorrowedWrites:
    """Writes with the connection of somebody else.

    Each method raises `StorageNotPrepared` if the tables are missing; nothing is written then. If
    it raises a `sqlite3.Error`, the transaction has to be undone.

    Args:
        database: knows the statements.
    """

    __slots__ = ("_database",)

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def commit(self, driver: sqlite3.Connection, changes: Sequence[Change | Published]) -> list[Outcome]:
        """Write changes of distinct keys, as `StateStorage.commit`."""
        question = make_question(changes)
        plan = decide(question, self._first(lambda: self._database.look(driver, question)))
        if not plan.empty:
            self._database.write_rows(driver, plan)
        return plan.outcomes

    def update_tags(self, driver: sqlite3.Connection, changes: Sequence[TagChange], window: float) -> None:
        """Write changes of tags, as `TagStorage.update`."""
        from infinitic_storages.sql.tags import make_member_rows  # it imports SQLAlchemy

        rows = make_member_rows(changes, window)
        self._first(lambda: self._database.write_members(driver, rows))

    def claim(self, driver: sqlite3.Connection, key: TagKey, id: str, version: int, at: float, window: float) -> Claim:
        """Claim a custom id, as `TagStorage.claim`."""
        from infinitic_storages.sql.tags import MemberRow  # it imports SQLAlchemy

        encoded, member, expires_at = encode_tag_key(key), id.encode(), float(at) + window
        own = self._first(lambda: _read_member(driver, encoded, member))
        known = recall_claim(id, version, own)
        if known is not None:
            return known.claim
        claim, write = decide_claim(id, version, own, _find_holder(driver, encoded))
        if write is not None:
            refused_by = None if write.holder is None else write.holder.encode()
            expiry = None if write.live else expires_at
            row = MemberRow(encoded, member, write.live, write.version, float(at), expiry, refused_by)
            self._database.write_members(driver, [row])
            driver.execute(_NOTE_HOLDER, (encoded, claim.id.encode(), expires_at))
        return claim

    def _first(self, work: Callable[[], T]) -> T:
        """Do what is done first of all. It finds out whether the tables are there."""
        try:
            return work()
        except sqlite3.OperationalError as error:
            failure, text = self._database.classify(error)
            if failure is Failure.NOT_PREPARED:
                raise StorageNotPrepared(f"{self._database.where}: {text}") from error
            raise


def _read_member(driver: sqlite3.Connection, key: bytes, id: bytes) -> StoredMember | None:
    row = driver.execute(_MEMBER, (key, id)).fetchone()
    if row is None:
        return None
    version, live, holder = row
    return StoredMember(version, bool(live), None if holder is None else bytes(holder).decode())


def _find_holder(driver: sqlite3.Connection, key: bytes) -> str | None:
    """Find the live member of a custom id; None: there is none."""
    row = driver.execute(_LAST_HOLDER, (key,)).fetchone()
    if row is not None and row[0] is not None:
        last = bytes(row[0])
        member = _read_member(driver, key, last)
        return last.decode() if member is not None and member.live else None
    found = driver.execute(_ANY_HOLDER, (key,)).fetchone()
    return None if found is None else bytes(found[0]).decode()
