"""The tables, for DDL and for the statements that are not hot.

`states` has one row per instance, or per remnant (`head` is null). Nothing that changes at each
step is indexed, so that PostgreSQL rewrites heads in place.
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
from infinitic_storages.sql.keys import MAX_DEDUPLICATION_ID, MAX_KEY


def _exact(length: int) -> TypeEngine[bytes]:
    return LargeBinary(length).with_variant(VARBINARY(length), "mysql", "mariadb")


_VALUE = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"), ("charset", "utf8mb4"))
}


class Tables:
    """The tables in one schema; None: where the connection stands. `prefix` is what their names begin with."""

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
            Column("key", _exact(MAX_KEY), primary_key=True),
            Column("name", _exact(MAX_KEY_PART), nullable=False),
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
            Column("token", _exact(16)),
            Column("flag", String(16)),
            postgresql_with={"fillfactor": 70},
            **_MYSQL,
        )
        self.segments = Table(
            f"{prefix}infinitic_segments",
            self.metadata,
            Column("key", _exact(MAX_KEY), primary_key=True),
            Column("sequence", BigInteger, primary_key=True, autoincrement=False),
            Column("events", _VALUE, nullable=False),
            Column("outbox", _VALUE),
            **_MYSQL,
        )
        self.deduplication_ids = Table(
            f"{prefix}infinitic_marks",
            self.metadata,
            Column("key", _exact(MAX_KEY), primary_key=True),
            Column("mark", _exact(MAX_DEDUPLICATION_ID), primary_key=True),
            Column("at", Double, nullable=False),
            sqlite_with_rowid=False,
            **_MYSQL,
        )
        states = self.states.c
        _partial("infinitic_started", states.started_at, states.key)
        _partial("infinitic_named", states.name, states.started_at, states.key, where=states.started_at)
        _partial("infinitic_waking", states.next_wake)
        _partial("infinitic_expiring", states.expires_at)
        _partial("infinitic_flagged", states.flag, states.started_at, states.key)
        Index("infinitic_marked", self.deduplication_ids.c.at)


def _partial(name: str, *columns: Column[Any], where: Column[Any] | None = None) -> None:
    present = (columns[0] if where is None else where).is_not(None)
    Index(name, *columns, postgresql_where=present, sqlite_where=present)
