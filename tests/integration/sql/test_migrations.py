"""A migration that is interrupted anywhere is whole after the next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, inspect

from infinitic_storages.sql.storage import SqlStorage
from tests.integration.storages.databases import Place


class Interrupted(Exception):
    """The process ends here."""


def indexes(storage: SqlStorage) -> set[str | None]:
    with storage.database.engine.connect() as connection:
        found = inspect(connection)
        tables = storage.database.tables
        return {
            index["name"]
            for table in tables.metadata.sorted_tables
            for index in found.get_indexes(table.name, schema=tables.schema)
        }


@pytest.mark.parametrize("statement", range(9))
def test_an_interrupted_migration(empty: Place, statement: int) -> None:
    """Before each of the statements that create something."""

    async def run() -> None:
        async with empty.sql(deadline_seconds=2) as storage:
            left = iter(range(statement))

            def interrupt(_: Any, __: Any, sql: str, *___: Any) -> None:
                if sql.strip().startswith(("CREATE TABLE", "CREATE INDEX")) and next(left, None) is None:
                    raise Interrupted

            event.listen(storage.database.engine, "before_cursor_execute", interrupt)
            with pytest.raises(Interrupted):
                await storage.prepare()
        async with empty.sql() as storage:
            await storage.prepare()
            names = {index.name for table in storage.database.tables.metadata.sorted_tables for index in table.indexes}
            assert len(names) == 5
            assert indexes(storage) == names

    asyncio.run(run())
