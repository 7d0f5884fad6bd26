"""What waiting mends is waited for, and a connection that is of no use is dropped."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pymysql
import pytest

from infinitic.storage import (
    Change,
    StateKey,
    StorageConfigurationError,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Written,
)
from tests.integration.storages.databases import Place

PASSING = {
    "postgres": ("53000", "53200", "53300", "57P03", "58030", "40001"),
    "mysql": (1020, 1037, 1038, 1040, 1041, 1135, 1205, 1206, 1213, 3101),
}
STALE = {"postgres": ("25006", "25P03"), "mysql": (1047, 1290, 1792, 1836)}


def errors(kind: str, which: dict[str, Any]) -> list[Exception]:
    if kind == "postgres":
        return [psycopg.errors.lookup(code)("no") for code in which[kind]]
    return [pymysql.OperationalError(code, "no") for code in which.get(kind, ())]


def change(name: str, number: int) -> list[Change]:
    return [Change(StateKey(name, str(number)), None, 1, b"", 1.0)]


def test_a_session_that_became_read_only(shared: Place, name: str) -> None:
    """As after a failover: those that are opened now may write."""
    if shared.kind == "sqlite":
        pytest.skip("a file has no server")
    read_only = {"postgres": "SET default_transaction_read_only = on", "mysql": "SET SESSION TRANSACTION READ ONLY"}

    async def run() -> None:
        async with shared.sql(pool_size=1, deadline_seconds=3) as storage:
            await storage.prepare()

            def spoil(connection: Any, driver: Any) -> None:
                driver.cursor().execute(read_only[shared.kind])
                driver.commit()

            storage.database.attempt(storage.database.call(9), spoil)
            assert await storage.states.commit(change(name, 1)) == [Written(1)]
            storage.database.attempt(storage.database.call(9), spoil)
            await storage.states.purge(1.0)

    asyncio.run(run())


def test_a_name_that_leads_nowhere(shared: Place) -> None:
    """A mistake, unless it has led somewhere before."""
    if shared.kind == "sqlite":
        pytest.skip("a file has no server")
    text = "failed to resolve host 'db': [Errno -2] Name or service not known"
    error = psycopg.OperationalError(text) if shared.kind == "postgres" else pymysql.OperationalError(2003, text)

    def fail(_: Any) -> None:
        raise error

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            with pytest.raises(StorageConfigurationError, match="correct its name"):
                await storage.run(fail)
            await storage.prepare()
            with pytest.raises(StorageUnavailable):
                await storage.run(fail)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["the database system is starting up", "sorry, too many clients already"])
def test_a_server_that_takes_nobody_in(shared: Place, kind: str) -> None:
    """While connecting, libpq gives no code."""
    if shared.kind != "postgres":
        pytest.skip("an error of PostgreSQL")

    def fail(_: Any) -> None:
        raise psycopg.OperationalError(f"connection to server failed: FATAL:  {kind}")

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            with pytest.raises(StorageUnavailable, match=kind):
                await storage.run(fail)

    asyncio.run(run())


@pytest.mark.parametrize("stale", [False, True])
def test_what_waiting_mends(shared: Place, name: str, monkeypatch: pytest.MonkeyPatch, stale: bool) -> None:
    """Another attempt comes, if need be on another connection; in the end it is unavailable."""

    async def run() -> None:
        async with shared.sql(pool_size=1, deadline_seconds=5) as storage:
            await storage.prepare()
            monkeypatch.setattr(storage.database, "writes_at_once", False)
            look = storage.database.look
            for number, error in enumerate(errors(shared.kind, STALE if stale else PASSING)):
                drivers: list[Any] = []

                def fail(driver: Any, question: Any, seen: list[Any] = drivers, error: Exception = error) -> Any:
                    seen.append(driver)
                    if len(seen) == 1 or (stale and driver is seen[0]):
                        raise error
                    return look(driver, question)

                monkeypatch.setattr(storage.database, "look", fail)
                assert await storage.states.commit(change(name, number)) == [Written(1)], error
                assert len(drivers) == 2, error
                assert not stale or drivers[0] is not drivers[1], error

    asyncio.run(run())


def test_what_does_not_pass(shared: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with shared.sql(pool_size=1, deadline_seconds=0.3) as storage:
            await storage.prepare()
            monkeypatch.setattr(storage.database, "writes_at_once", False)
            for error in errors(shared.kind, PASSING) + errors(shared.kind, STALE):

                def fail(driver: Any, question: Any, error: Exception = error) -> Any:
                    raise error

                monkeypatch.setattr(storage.database, "look", fail)
                with pytest.raises(StorageUnavailable):
                    await storage.states.commit(change(name, 1))

    asyncio.run(run())


def test_a_transaction_that_took_too_long_was_not_written(
    shared: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told so has no doubt, although the connection is gone."""
    if shared.kind != "postgres":
        pytest.skip("an error of PostgreSQL")

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            write = storage.database.write
            told = iter(errors(shared.kind, {"postgres": ("25P03",)}))

            def fail(driver: Any, plan: Any, call: Any) -> None:
                call.sent = True
                for error in told:
                    driver.close()
                    raise error
                write(driver, plan, call)

            monkeypatch.setattr(storage.database, "write", fail)
            assert await storage.states.commit(change(name, 1)) == [Written(1)]

    asyncio.run(run())


def test_an_error_during_commit(shared: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL does not say whether it was undone."""
    if shared.kind != "mysql":
        pytest.skip("an error of MySQL")

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            write = storage.database.write

            def fail(driver: Any, plan: Any, call: Any) -> None:
                write(driver, plan, call)
                raise pymysql.OperationalError(1180, "Got error 6 during COMMIT")

            monkeypatch.setattr(storage.database, "write", fail)
            with pytest.raises(StorageOutcomeUnknown):
                await storage.states.commit(change(name, 1))

    asyncio.run(run())
