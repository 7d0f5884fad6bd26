"""The tables, for DDL and for the statements that are not hot.

`states` has one row for each instance or remnant (whose `head` is null). Columns that change at
each step have no index, so that PostgreSQL can rewrite heads in place.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.dialects.mysql import LONGBLOB, VARBINARY
from sqlalchemy.types import TypeEngine

from infinitic.storage.checks import MAX_KEY_PART
from infinitic.storage.tag_rules import MAX_MEMBER_ID
from infinitic_storages.sql.keys import MAX_DEDUPLICATION_ID, MAX_KEY, MAX_TAG_KEY


def _make_binary(length: int) -> TypeEngine[bytes]:
    return LargeBinary(length).with_variant(VARBINARY(length), "mysql", "mariadb")


_VALUE = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"), ("charset", "utf8mb4"))
}


class Tables:
    """The tables in one schema.

    Args:
        schema: its name; None for that of the connection.
        prefix: what the names of the tables begin with.
    """

    def __init__(self, schema: str | None = None, prefix: str = "") -> None:
        self.metadata = MetaData(schema=schema)
        self.schema = schema
        self.meta = Table(
            f"{prefix}infinitic_meta",
            self.metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("schema_version", Integer, nullable=False),
            **_MYSQL,
        )
        self.states = Table(
            f"{prefix}infinitic_states",
            self.metadata,
            Column("key", _make_binary(MAX_KEY), primary_key=True),
            Column("name", _make_binary(MAX_KEY_PART), nullable=False),
            Column("version", BigInteger, nullable=False),
            Column("head", _VALUE),
            Column("sequence", BigInteger, nullable=False),
            Column("published", Boolean, nullable=False),
            Column("expires_at", Double),
            Column("status", String(16)),
            Column("workflow_version", BigInteger),
            Column("started_at", Double),
            Column("closed_at", Double),
            Column("next_wake", Double),
            Column("token", _make_binary(16)),
            Column("flag", String(16)),
            postgresql_with={"fillfactor": 70},
            **_MYSQL,
        )
        self.segments = Table(
            f"{prefix}infinitic_segments",
            self.metadata,
            Column("key", _make_binary(MAX_KEY), primary_key=True),
            Column("sequence", BigInteger, primary_key=True, autoincrement=False),
            Column("events", _VALUE, nullable=False),
            Column("outbox", _VALUE),
            **_MYSQL,
        )
        self.deduplication_ids = Table(
            f"{prefix}infinitic_marks",
            self.metadata,
            Column("key", _make_binary(MAX_KEY), primary_key=True),
            Column("mark", _make_binary(MAX_DEDUPLICATION_ID), primary_key=True),
            Column("at", Double, nullable=False),
            sqlite_with_rowid=False,
            **_MYSQL,
        )
        self.tags = Table(
            f"{prefix}infinitic_tags",
            self.metadata,
            Column("key", _make_binary(MAX_TAG_KEY), primary_key=True),
            Column("id", _make_binary(MAX_MEMBER_ID), primary_key=True),
            Column("live", Boolean, nullable=False),
            Column("version", BigInteger, nullable=False),
            Column("at", Double, nullable=False),
            Column("expires_at", Double),
            Column("holder", _make_binary(MAX_MEMBER_ID)),
            sqlite_with_rowid=False,
            **_MYSQL,
        )
        self.custom_ids = Table(
            f"{prefix}infinitic_custom_ids",
            self.metadata,
            Column("key", _make_binary(MAX_TAG_KEY), primary_key=True),
            Column("holder", _make_binary(MAX_MEMBER_ID)),
            Column("expires_at", Double, nullable=False),
            sqlite_with_rowid=False,
            **_MYSQL,
        )
        states = self.states.c
        _add_partial_index("infinitic_started", states.started_at, states.key)
        _add_partial_index("infinitic_named", states.name, states.started_at, states.key, where=states.started_at)
        _add_partial_index("infinitic_waking", states.next_wake)
        _add_partial_index("infinitic_expiring", states.expires_at)
        _add_partial_index("infinitic_by_status", states.status, states.started_at, states.key)
        _add_partial_index("infinitic_flagged", states.flag, states.started_at, states.key)
        _add_partial_index("infinitic_leaving", self.tags.c.expires_at)
        Index("infinitic_unlocking", self.custom_ids.c.expires_at)
        Index("infinitic_marked", self.deduplication_ids.c.at)


def _add_partial_index(name: str, *columns: Column[Any], where: Column[Any] | None = None) -> None:
    present = (columns[0] if where is None else where).is_not(None)
    Index(name, *columns, postgresql_where=present, sqlite_where=present)
