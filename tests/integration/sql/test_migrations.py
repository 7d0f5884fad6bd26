"""A migration that is interrupted anywhere is complete after the next one. Older data are read."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import event, inspect

from infinitic.diagnosis import Level
from infinitic.storage import (
    Change,
    Claim,
    Duplicate,
    Entry,
    Flag,
    Found,
    Query,
    Segment,
    StateKey,
    StorageNotPrepared,
    Stored,
    TagChange,
    TagKey,
    TagKind,
    WorkflowStatus,
    Written,
)
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


@pytest.mark.parametrize("statement", range(15))
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
            assert len(names) == 9
            assert indexes(storage) == names

    asyncio.run(run())


KEY = StateKey("Trip", "old")
TAG, CUSTOM_ID = TagKey(TagKind.WORKFLOW, "Trip", "vip"), TagKey(TagKind.CUSTOM_ID, "Trip", "order")
OLD = Entry(WorkflowStatus.RUNNING, 5.0, 2, None, 9.0)


async def as_version_1(place: Place) -> None:
    """The schema of release 0.1, with an instance in it."""
    async with place.sql() as storage:
        await storage.prepare()
        change = Change(KEY, None, 7, b"head", 5.0, Segment(1, b"events", b"outbox"), ("mark",), entry=OLD)
        assert await storage.states.commit([change]) == [Written(7)]
    await as_version_2(place)
    on = " ON infinitic_states" if place.kind == "mysql" else ""
    place.execute(f"DROP INDEX infinitic_by_status{on}")
    place.execute(f"DROP INDEX infinitic_flagged{on}")
    place.execute("ALTER TABLE infinitic_states DROP COLUMN flag")
    place.execute("UPDATE infinitic_meta SET schema_version = 1")


async def as_version_2(place: Place) -> None:
    """The schema without tags."""
    async with place.sql() as storage:
        await storage.prepare()
    place.execute("DROP TABLE infinitic_tags")
    place.execute("DROP TABLE infinitic_custom_ids")
    place.execute("UPDATE infinitic_meta SET schema_version = 2")


async def check_tags(storage: SqlStorage) -> None:
    await storage.tags.update([TagChange(TAG, "a", True, 0, 5.0), TagChange(TAG, "b", False, 0, 5.0)])
    assert await storage.tags.members(TAG) == ["a"]
    assert await storage.tags.claim(CUSTOM_ID, "c", 0, 5.0) == Claim("c", True)
    assert "infinitic_leaving" in indexes(storage)


async def check_version_2(storage: SqlStorage) -> None:
    states = storage.states
    assert await states.load([KEY]) == {KEY: Stored(7, b"head", 1, False)}
    assert await states.history(KEY, outbox=True) == [Segment(1, b"events", b"outbox")]
    assert (await states.find(Query())).found == [Found(KEY, OLD)]
    assert await states.count(Query(flag=Flag.STALLED)) == 0
    stalled = replace(OLD, flag=Flag.STALLED)
    assert await states.commit([Change(KEY, 7, 8, b"", 6.0, deduplication_ids=("mark",))]) == [Duplicate(("mark",))]
    assert await states.commit([Change(KEY, 7, 8, b"", 6.0, entry=stalled)]) == [Written(8)]
    assert (await states.find(Query(flag=Flag.STALLED))).found == [Found(KEY, stalled)]
    assert {"infinitic_flagged", "infinitic_by_status"} <= indexes(storage)
    await check_tags(storage)


def test_the_previous_schema_with_data_is_migrated_by_many_at_once(empty: Place) -> None:
    async def run() -> None:
        await as_version_1(empty)
        async with AsyncExitStack() as stack:
            storages = [await stack.enter_async_context(empty.sql()) for _ in range(6)]
            await asyncio.gather(*(each.prepare() for each in storages))
            await check_version_2(storages[3])

    asyncio.run(run())


def test_the_index_of_status_and_start_is_added_to_version_3(empty: Place) -> None:
    async def run() -> None:
        async with empty.sql() as storage:
            await storage.prepare()
            change = Change(KEY, None, 7, b"head", 5.0, Segment(1, b"events"), entry=OLD)
            assert await storage.states.commit([change]) == [Written(7)]
        on = " ON infinitic_states" if empty.kind == "mysql" else ""
        empty.execute(f"DROP INDEX infinitic_by_status{on}")
        empty.execute("UPDATE infinitic_meta SET schema_version = 3")
        async with empty.sql() as storage:
            await storage.prepare()
            assert "infinitic_by_status" in indexes(storage)
            assert (await storage.states.find(Query(status=WorkflowStatus.RUNNING))).found == [Found(KEY, OLD)]

    asyncio.run(run())


async def interrupt_migration(place: Place, statement: str) -> None:
    """Break a migration off before its first statement of this kind."""
    async with place.sql(deadline_seconds=2) as storage:

        def interrupt(_: Any, __: Any, sql: str, *___: Any) -> None:
            if sql.strip().startswith(statement):
                raise Interrupted

        event.listen(storage.database.engine, "before_cursor_execute", interrupt)
        with pytest.raises(Interrupted):
            await storage.prepare()


@pytest.mark.parametrize("statement", ["ALTER TABLE", "CREATE INDEX", "UPDATE"])
def test_an_interrupted_migration_of_the_previous_schema(empty: Place, statement: str) -> None:
    async def run() -> None:
        await as_version_1(empty)
        await interrupt_migration(empty, statement)
        async with empty.sql() as storage:
            await storage.prepare()
            await check_version_2(storage)

    asyncio.run(run())


def test_tags_are_added_to_a_schema_without_them(empty: Place) -> None:
    async def run() -> None:
        await as_version_2(empty)
        async with empty.sql() as storage:
            with pytest.raises(StorageNotPrepared):
                await storage.tags.members(TAG)
        async with AsyncExitStack() as stack:
            storages = [await stack.enter_async_context(empty.sql()) for _ in range(6)]
            await asyncio.gather(*(each.prepare() for each in storages))
            await check_tags(storages[3])

    asyncio.run(run())


@pytest.mark.parametrize("statement", ["CREATE TABLE", "CREATE INDEX", "UPDATE"])
def test_an_interrupted_migration_to_tags(empty: Place, statement: str) -> None:
    async def run() -> None:
        await as_version_2(empty)
        await interrupt_migration(empty, statement)
        async with empty.sql() as storage:
            await storage.prepare()
            await check_tags(storage)

    asyncio.run(run())


def test_doctor_tells_of_the_previous_schema(empty: Place) -> None:
    async def run() -> None:
        await as_version_1(empty)
        async with empty.sql() as storage:
            (schema,) = [each for each in await storage.diagnose() if each.subject == "schema"]
            assert (schema.level, "migrates it" in schema.remedy) == (Level.WARNING, True)

    asyncio.run(run())
