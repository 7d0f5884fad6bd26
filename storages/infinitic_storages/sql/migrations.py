"""The schema and its versions.

The caller holds a lock. A step that was interrupted is run again.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.schema import CreateSchema

from infinitic.storage import StorageConfigurationError
from infinitic_storages.sql.tables import Tables


def _create(connection: Connection, tables: Tables) -> None:
    for table in tables.metadata.sorted_tables:
        table.create(connection, checkfirst=True)
        # MySQL commits the table before its indexes. So they may be missing after an interruption.
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    if connection.dialect.name == "postgresql":
        # No compression by the database: `CompressedStorage` does it, if it is configured.
        name = connection.dialect.identifier_preparer.format_table(tables.segments)
        for column in ("events", "outbox"):
            connection.execute(text(f"ALTER TABLE {name} ALTER COLUMN {column} SET STORAGE EXTERNAL"))


def _add_flag(connection: Connection, tables: Tables) -> None:
    """Add the column by which stalled and parked instances are listed.

    Those that were so before are listed after their next transition.
    """
    states = tables.states
    if not any(each["name"] == "flag" for each in inspect(connection).get_columns(states.name, schema=tables.schema)):
        prepared = connection.dialect.identifier_preparer
        kind = states.c.flag.type.compile(connection.dialect)
        connection.execute(text(f"ALTER TABLE {prepared.format_table(states)} ADD COLUMN flag {kind}"))
    _add_indexes(connection, tables)


def _add_indexes(connection: Connection, tables: Tables) -> None:
    """Add the indexes that are missing, such as that of status and start."""
    for index in tables.states.indexes:
        index.create(connection, checkfirst=True)


def _add_tags(connection: Connection, tables: Tables) -> None:
    """Add the tables of tags and custom ids."""
    for table in (tables.tags, tables.custom_ids):
        table.create(connection, checkfirst=True)
        for index in table.indexes:
            index.create(connection, checkfirst=True)


STEPS: tuple[Callable[[Connection, Tables], None], ...] = (_create, _add_flag, _add_tags, _add_indexes)
"""Step n leads from version n to n + 1. Each step looks at what is there already.

Never change a step that was released. `_create` is the exception: it makes the newest tables.
"""

SCHEMA_VERSION = len(STEPS)


def migrate(connection: Connection, tables: Tables, where: str) -> None:
    """Bring the schema to `SCHEMA_VERSION`.

    Args:
        connection: with the lock of migrations.
        tables: the tables.
        where: the database, for an error.

    Raises:
        StorageConfigurationError: the schema is of a newer release.
    """
    if tables.schema is not None and not inspect(connection).has_schema(tables.schema):
        connection.execute(CreateSchema(tables.schema, if_not_exists=True))
    tables.meta.create(connection, checkfirst=True)
    stored = connection.execute(select(tables.meta.c.schema_version).where(tables.meta.c.id == 1)).scalar()
    if stored is None:
        connection.execute(insert(tables.meta).values(id=1, schema_version=0))
        stored = 0
    if stored > SCHEMA_VERSION:
        raise StorageConfigurationError(
            f"{where}: its schema has version {stored}, and this release knows version {SCHEMA_VERSION} at most. "
            "Upgrade infinitic, or use another database"
        )
    for version in range(stored, SCHEMA_VERSION):
        STEPS[version](connection, tables)
        connection.execute(update(tables.meta).where(tables.meta.c.id == 1).values(schema_version=version + 1))
