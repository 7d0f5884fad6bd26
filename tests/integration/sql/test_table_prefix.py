"""Deployments that share one database of MySQL or MariaDB."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import ValidationError
from sqlalchemy import inspect

from infinitic import ids
from infinitic.diagnosis import Level
from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Flag,
    Lost,
    Published,
    Query,
    Segment,
    StateKey,
    Stored,
    WorkflowStatus,
    Written,
)
from infinitic_storages.sql.settings import MysqlSettings
from tests.integration.storages.databases import Place, place

KEY = StateKey("Trip", "1")
ENTRY = Entry(WorkflowStatus.RUNNING, 1.0, flag=Flag.STALLED)
PREFIXES = ("", "shop_", "x" * 40)


@pytest.fixture
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place("mysql", f"test_{ids.new_id()[:12]}", tmp_path_factory.mktemp("sql")) as made:
        yield made


@pytest.mark.parametrize("prefix", ["a-b", "a`b", "é", " ", "x" * 41, "a.b", "a;b"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="table_prefix"):
        MysqlSettings.model_validate({"username": "u", "table_prefix": prefix})


def test_each_prefix_has_tables_of_its_own(mysql: Place) -> None:
    async def play(prefix: str, number: int) -> None:
        async with mysql.sql(table_prefix=prefix) as storage:
            (schema,) = [each for each in await storage.diagnose() if each.subject == "schema"]
            assert schema.level is Level.WARNING, "it has no tables yet"
            await storage.prepare()
            (schema,) = [each for each in await storage.diagnose() if each.subject == "schema"]
            assert schema.level is Level.OK
            states = storage.states
            assert await states.load([KEY]) == {}
            head = b"%d" % number
            first = Change(KEY, None, 5, head, 1.0, Segment(1, head, head), ("mark",), entry=ENTRY)
            assert await states.commit([first]) == [Written(5)]
            assert await states.commit([first]) == [Lost(5)]
            assert await states.commit([Change(KEY, 5, 6, head, 1.0, deduplication_ids=("mark",))]) == [
                Duplicate(("mark",))
            ]
            assert await states.commit([Published(KEY, 5)]) == [Written(5)]
            claimed = Change(StateKey("Trip", "2"), None, 5, head, 1.0, deduplication_ids=("m", "n"))
            assert await states.commit([claimed]) == [Written(5)]
            again = [Change(claimed.key, 5, 6, head, 1.0, Segment(1, head), expires_at=2.0, entry=ENTRY)]
            assert await states.commit(again) == [Written(6)]
            assert await states.load([KEY]) == {KEY: Stored(5, head, 1, True)}
            assert await states.history(KEY, outbox=True) == [Segment(1, head, head)]
            assert await states.count(Query(flag=Flag.STALLED)) == len((await states.find(Query())).found) == 2
            assert await states.purge(3.0) == 1

    async def run() -> None:
        for number, prefix in enumerate(PREFIXES):
            await play(prefix, number)
        async with mysql.sql() as storage:
            with storage.database.engine.connect() as connection:
                found = set(inspect(connection).get_table_names())
        names = ("meta", "states", "segments", "marks", "tags", "custom_ids")
        assert found == {f"{prefix}infinitic_{name}" for prefix in PREFIXES for name in names}

    asyncio.run(run())


def test_tables_with_a_prefix_are_made_by_many_at_once(mysql: Place) -> None:
    async def run() -> None:
        storages = [mysql.sql(table_prefix=prefix) for prefix in ("a_", "b_") for _ in range(4)]
        try:
            await asyncio.gather(*(each.prepare() for each in storages))
            assert await storages[0].states.count(Query()) == 0
        finally:
            for each in storages:
                await each.close()

    asyncio.run(run())
