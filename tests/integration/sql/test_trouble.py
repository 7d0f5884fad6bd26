"""What goes wrong is told as what it is, and nothing leaks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import psycopg
import pytest

from infinitic.storage import (
    Change,
    Duplicate,
    Lost,
    Published,
    Segment,
    StateKey,
    StorageConfigurationError,
    StorageNotPrepared,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Written,
)
from infinitic_storages.sql.migrations import SCHEMA_VERSION
from infinitic_storages.sql.storage import SqlStorage
from tests.integration.storages.databases import Place

SERVERS = ("postgres", "mysql")


def servers_only(place: Place) -> None:
    if place.kind not in SERVERS:
        pytest.skip("a file has no server")


def cut(storage: SqlStorage) -> None:
    """Break the idle connection behind the back of the pool."""
    database = storage.database
    database.attempt(database.call(9), lambda _, driver: database.sever(driver))


async def refusal(storage: SqlStorage) -> str:
    async with storage:
        with pytest.raises(StorageConfigurationError) as caught:
            await storage.prepare()
    return str(caught.value)


def test_ten_at_once_prepare_one_schema(empty: Place) -> None:
    async def run() -> None:
        storages = [empty.sql(pool_size=1) for _ in range(10)]
        await asyncio.gather(*(each.prepare() for each in storages))
        key = StateKey("n", "k")
        assert await storages[0].states.commit([Change(key, None, 1, b"", 1.0)]) == [Written(1)]
        assert all([key in await each.states.load([key]) for each in storages])
        for each in storages:
            await each.close()

    asyncio.run(run())


def test_the_schema_of_a_newer_release(empty: Place) -> None:
    async def run() -> None:
        async with empty.sql() as storage:
            await storage.prepare()
        empty.execute("UPDATE infinitic_meta SET schema_version = 99")
        told = await refusal(empty.sql())
        assert "99" in told
        assert f"version {SCHEMA_VERSION} at most" in told

    asyncio.run(run())


def test_without_prepare(empty: Place) -> None:
    async def run() -> None:
        async with empty.sql() as storage:
            with pytest.raises(StorageNotPrepared, match="infinitic migrate"):
                await storage.states.load([StateKey("n", "k")])
            with pytest.raises(StorageNotPrepared, match="infinitic migrate"):
                await storage.states.commit([Change(StateKey("n", "k"), None, 1, b"", 1.0)])

    asyncio.run(run())


def test_wrong_password_and_missing_database(shared: Place) -> None:
    servers_only(shared)

    async def run() -> None:
        told = await refusal(shared.sql(username="nobody", password="secret-word"))
        assert "nobody" in told
        assert "127.0.0.1" in told
        assert "secret-word" not in told
        told = await refusal(shared.sql(database="missing_one"))
        assert "missing_one" in told
        assert "create the database" in told

    asyncio.run(run())


def test_tls_that_the_server_does_not_have(shared: Place) -> None:
    servers_only(shared)

    async def run() -> None:
        told = await refusal(shared.sql(sslmode="require"))
        assert "sslmode" in told

    asyncio.run(run())


def test_a_port_where_nobody_is(shared: Place) -> None:
    servers_only(shared)

    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with shared.sql(port=taken.getsockname()[1]) as storage:
                with pytest.raises(StorageUnavailable):
                    await storage.prepare()
                with pytest.raises(StorageUnavailable):
                    await storage.states.commit([Change(StateKey("n", "k"), None, 1, b"", 1.0)])

    asyncio.run(run())


def test_a_server_that_is_silent(shared: Place) -> None:
    """It accepts the connection and says nothing: every verb gives up in time."""
    servers_only(shared)

    async def run() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            storage = shared.sql(port=port, deadline_seconds=0.2, connect_timeout_seconds=60, pool_size=1)
            async with storage, asyncio.timeout(30):
                with pytest.raises(StorageUnavailable):
                    await storage.states.load([StateKey("n", "k")])

    asyncio.run(run())


def test_connections_that_the_server_closed(shared: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was idle is replaced unseen; what is lost while a commit is on its way is unknown."""
    servers_only(shared)

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            cut(storage)
            assert await storage.states.commit([Change(StateKey(name, "a"), None, 1, b"", 1.0)]) == [Written(1)]
            cut(storage)
            assert len(await storage.states.load([StateKey(name, "a")])) == 1

            # PostgreSQL writes by one statement what is in order.
            method = "write_at_once" if storage.database.writes_at_once else "write"
            write = getattr(storage.database, method)

            def lost(driver: Any, *given: Any) -> None:
                write(driver, *given)
                storage.database.sever(driver)
                driver.execute("SELECT 1") if hasattr(driver, "execute") else driver.query("SELECT 1")

            monkeypatch.setattr(storage.database, method, lost)
            with pytest.raises(StorageOutcomeUnknown):
                await storage.states.commit([Change(StateKey(name, "b"), None, 1, b"", 1.0)])
            assert len(await storage.states.load([StateKey(name, "b")])) == 1

    asyncio.run(run())


def test_changes_that_one_statement_leaves_are_decided_by_themselves(
    shared: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are written stay so. If the others fail, the whole commit is unknown."""
    if shared.kind != "postgres":
        pytest.skip("it writes with one statement")

    def change(id: str, version: int, expected: int | None = None) -> Change:
        return Change(StateKey(name, id), expected, version, b"head", 1.0, deduplication_ids=("d",))

    async def run() -> None:
        async with shared.sql(pool_size=1, deadline_seconds=5) as storage:
            await storage.prepare()
            states, database = storage.states, storage.database
            look, asked = database.look, list[int]()

            def fail_once(driver: Any, question: Any) -> Any:
                asked.append(len(question.changes))
                if len(asked) == 1:
                    raise psycopg.errors.DeadlockDetected
                return look(driver, question)

            monkeypatch.setattr(database, "look", fail_once)
            assert await states.commit([change(each, 1) for each in "abe"]) == [Written(1)] * 3
            assert not asked
            several: list[Change | Published] = [
                change("b", 2, 7),
                change("c", 1),
                change("a", 2, 1),
                Published(StateKey(name, "e"), 1),
            ]
            assert await states.commit(several) == [Lost(1), Written(1), Duplicate(("d",)), Written(1)]
            assert asked == [2, 2]

            def fail(driver: Any, question: Any) -> Any:
                raise psycopg.errors.DiskFull

            monkeypatch.setattr(database, "look", fail)
            with pytest.raises(StorageUnavailable):
                await states.commit([change("b", 3, 7)])
            with pytest.raises(StorageOutcomeUnknown, match="Some changes of a commit were written"):
                await states.commit([change("d", 1), change("b", 3, 7)])
            assert set(await states.load([StateKey(name, each) for each in "abcd"])) == {
                StateKey(name, each) for each in "abcd"
            }

    asyncio.run(run())


def test_a_lock_that_another_holds(shared: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that cannot lock its row in time is known not to be written.

    The pool stays whole.
    """

    async def run() -> None:
        key = StateKey(name, "a")
        async with shared.sql() as holder, shared.sql(deadline_seconds=1.0, pool_size=1) as storage:
            await holder.prepare()
            await holder.states.commit([Change(key, None, 1, b"", 1.0)])
            held, release = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()
            monkeypatch.setattr(holder.database, "writes_at_once", False)
            write = holder.database.write

            def slow(driver: Any, plan: Any, call: Any) -> None:
                loop.call_soon_threadsafe(held.set)
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(60)
                write(driver, plan, call)

            monkeypatch.setattr(holder.database, "write", slow)
            holding = asyncio.create_task(holder.states.commit([Change(key, 1, 2, b"", 1.0)]))
            await held.wait()
            with pytest.raises(StorageUnavailable):
                await storage.states.commit([Change(key, 1, 3, b"", 1.0)])
            release.set()
            assert await holding == [Written(2)]
            assert await storage.states.commit([Change(key, 2, 4, b"", 1.0)]) == [Written(4)]

    asyncio.run(run())


def test_cancelled_verbs_leak_no_connection(shared: Place, name: str) -> None:
    async def run() -> None:
        async with shared.sql(pool_size=2) as storage:
            await storage.prepare()
            for turn in range(20):
                key = StateKey(name, str(turn))
                tasks: list[asyncio.Task[Any]] = [
                    asyncio.create_task(storage.states.commit([Change(key, None, 1, b"h", 1.0, Segment(1, b"e"))])),
                    *(asyncio.create_task(storage.states.load([key])) for _ in range(6)),
                ]
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            keys = [StateKey(name, str(turn)) for turn in range(20)]
            loaded = await storage.states.load(keys)
            for key in loaded:
                assert await storage.states.history(key) == [Segment(1, b"e")]

    asyncio.run(run())
