"""What can be no database, and drivers that are missing, are told in words."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infinitic.errors import ConfigurationError, MissingDriverError
from infinitic.storage import Change, StateKey, StorageConfigurationError, StorageUnavailable
from infinitic_storages.sql.mysql import MysqlStorage
from infinitic_storages.sql.postgres import PostgresStorage
from infinitic_storages.sql.sqlite import SqliteStorage
from tests.integration.module_cache import forget_modules
from tests.integration.storages.databases import SQL, Place


def test_files_that_cannot_be(tmp_path: Path) -> None:
    async def run() -> None:
        def at(path: Path) -> SqliteStorage:
            return SqliteStorage(SqliteStorage.Settings(path=path))

        with pytest.raises(StorageConfigurationError, match="create its directory"):
            await at(tmp_path / "missing" / "a.db").prepare()
        (tmp_path / "text").write_text("no database, but long enough to be told apart from one" * 99)
        with pytest.raises(StorageConfigurationError, match="not a SQLite database"):
            await at(tmp_path / "text").prepare()
        with pytest.raises(ConfigurationError, match="in_memory"):
            at(Path(":memory:"))

    asyncio.run(run())


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    before = path.read_bytes()

    async def run() -> None:
        async with SqliteStorage(SqliteStorage.Settings(path=path)) as storage:
            with pytest.raises(StorageConfigurationError, match="belongs to another program"):
                await storage.prepare()

    asyncio.run(run())
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", SQL)
def test_a_missing_driver_is_named(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin: Any = {"sqlite": SqliteStorage, "postgres": PostgresStorage, "mysql": MysqlStorage}[kind]
    forget_modules(monkeypatch, "infinitic_storages.sql.dialects")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    given = {"path": tmp_path / "a.db"} if kind == "sqlite" else {"username": "u"}
    with pytest.raises(MissingDriverError, match=rf"infinitic\[{kind}\]"):
        plugin.from_settings(plugin.Settings.model_validate(given), deduplication_window=1.0)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in words, chained to what the driver said."""
    failed = sqlite3.OperationalError("database or disk is full")
    failed.sqlite_errorcode = sqlite3.SQLITE_FULL

    async def run() -> None:
        async with Place("sqlite", "full", tmp_path).sql() as storage:
            await storage.prepare()

            def full(driver: Any, plan: Any, call: Any) -> None:
                raise failed

            monkeypatch.setattr(storage.database, "write", full)
            with pytest.raises(StorageUnavailable, match="disk of the database is full") as caught:
                await storage.states.commit([Change(StateKey("n", "k"), None, 1, b"", 1.0)])
            assert caught.value.__cause__ is failed

    asyncio.run(run())
