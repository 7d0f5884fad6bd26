"""The methods of `TagStorage` on a SQL database, each in a thread with a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from infinitic.storage import Claim
from infinitic.storage.tag_rules import decide_claim, recall_claim
from infinitic_storages.sql import tags
from infinitic_storages.sql.commit import TryAgain
from infinitic_storages.sql.keys import encode_tag_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infinitic.storage import TagChange, TagKey
    from infinitic_storages.sql.dialects.base import SqlDatabase
    from infinitic_storages.sql.dialects.call import DatabaseCall


class TagCalls:
    """The methods.

    Args:
        database: the database.
    """

    __slots__ = ("_database",)

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def update(self, call: DatabaseCall, changes: Sequence[TagChange], window: float) -> None:
        """Add and remove members, in one transaction."""
        rows = tags.make_member_rows(changes, window)
        if not rows:
            return

        def work(connection: Connection, driver: Any) -> None:
            self._database.begin(connection)
            with self._database.undo_failed(driver):
                self._database.write_members(driver, rows)
                call.sent = True
                driver.commit()

        self._database.attempt(call, work)

    def members(self, call: DatabaseCall, key: TagKey, until: float | None, after: str, limit: int) -> list[str]:
        """Read a page of live members."""
        tables = self._database.tables
        return self._database.attempt(
            call, lambda connection, _: tags.list_members(connection, tables, key, until, after, limit), reads=True
        )

    def count(self, call: DatabaseCall, key: TagKey) -> int:
        """Count live members."""
        tables = self._database.tables
        return self._database.attempt(
            call, lambda connection, _: tags.count_members(connection, tables, key), reads=True
        )

    def claim(self, call: DatabaseCall, key: TagKey, id: str, version: int, at: float, window: float) -> Claim:
        """Claim a custom id. A repeat is answered without a lock."""
        database, tables = self._database, self._database.tables
        encoded, member = encode_tag_key(key), id.encode()

        def look(connection: Connection, _: Any) -> Claim | None:
            known = recall_claim(id, version, tags.read_member(connection, tables, encoded, member))
            return None if known is None else known.claim

        def work(connection: Connection, driver: Any) -> Claim:
            database.begin(connection)
            with database.undo_failed(driver):
                database.make_lock_row(driver, encoded, float(at) + window)
                lock = tags.lock_custom_id(connection, tables, encoded)
                if lock is None:
                    # A purge has taken it since.
                    raise TryAgain
                own = tags.read_member(connection, tables, encoded, member, lock=True)
                holder = tags.find_holder(connection, tables, encoded, lock.last)
                claim, write = decide_claim(id, version, own, holder)
                if write is None:
                    driver.rollback()
                    return claim
                expires_at = None if write.live else float(at) + window
                refused_by = None if write.holder is None else write.holder.encode()
                row = tags.MemberRow(encoded, member, write.live, write.version, float(at), expires_at, refused_by)
                database.write_members(driver, [row])
                if own is None and tags.read_member(connection, tables, encoded, member) != write:
                    # An update has written this member since. It could not be locked before.
                    raise TryAgain
                tags.write_lock_row(connection, tables, encoded, claim.id, float(at) + window)
                call.sent = True
                driver.commit()
                return claim

        return database.attempt(call, look, reads=True) or database.attempt(call, work)

    def purge(self, call: DatabaseCall, now: float, limit: int) -> int:
        """Remove members that have expired, and lock rows, which are not counted."""

        def work(connection: Connection, _: Any) -> int:
            self._database.begin(connection)
            gone = self._database.delete_members(connection, now, limit)
            self._database.delete_lock_rows(connection, now, limit)
            connection.commit()
            return gone

        return self._database.attempt(call, work)
