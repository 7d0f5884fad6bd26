"""Every verb ends, and so does `close`: whatever the server does, and when."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event

from infinitic.storage import Change, StateKey, StorageOutcomeUnknown, StorageUnavailable, Written
from infinitic_storages.sql import storage as module
from infinitic_storages.sql.dialects.call import Failure
from tests.integration.sql.proxies import proxy
from tests.integration.storages.databases import Place

COMMIT = [Change(StateKey("n", "k"), None, 1, b"", 1.0)]


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    monkeypatch.setattr(module, "_AGAIN", 0.1, raising=False)


@pytest.mark.parametrize("late", [0.0, 1.2], ids=["silent at once", "connected after the deadline"])
@pytest.mark.parametrize("when", ["in use", "set up"])
def test_a_server_that_stops_answering(shared: Place, monkeypatch: pytest.MonkeyPatch, late: float, when: str) -> None:
    if shared.kind == "sqlite":
        pytest.skip("a file has no server")
    set_up = b"statement_timeout" if shared.kind == "postgres" else b"innodb_lock_wait_timeout"
    last = b"infinitic_states" if when == "in use" else set_up
    hasten(monkeypatch)

    async def run() -> None:
        async with shared.sql() as ready:
            await ready.prepare()
        async with proxy(shared.kind, late=late, last=last) as port:
            storage = shared.sql(port=port, deadline_seconds=0.5, pool_size=1, sslmode="disable")
            committing = asyncio.create_task(storage.states.commit(COMMIT))
            done, _ = await asyncio.wait([committing], timeout=6)
            closing = asyncio.create_task(storage.close())
            closed, _ = await asyncio.wait([closing], timeout=3)
        result = await asyncio.gather(committing, closing, return_exceptions=True)
        assert done, "it hangs"
        assert closed, "close() hangs"
        # The first statement of PostgreSQL writes already.
        is_sent = shared.kind == "postgres" and when == "in use" and not late
        assert isinstance(result[0], StorageOutcomeUnknown if is_sent else StorageUnavailable)

    asyncio.run(run())


def test_what_was_given_up_begins_nothing(shared: Place) -> None:
    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            database = storage.database
            begun: list[Any] = []
            call = database.call(9)
            call.give_up()
            with pytest.raises(StorageUnavailable):
                database.attempt(call, lambda _, driver: begun.append(driver))
            assert not begun

    asyncio.run(run())


def test_what_is_given_up_while_it_connects_begins_nothing(shared: Place) -> None:
    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            database = storage.database
            begun: list[Any] = []
            call = database.call(9)
            event.listen(database.engine, "checkout", lambda *_: call.give_up())
            with pytest.raises(StorageUnavailable):
                database.attempt(call, lambda _, driver: begun.append(driver))
            assert not begun

    asyncio.run(run())


def test_what_does_not_end_is_cut_again(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first cut may come between two statements, or while connecting."""
    hasten(monkeypatch)
    cuts: list[Any] = []
    ended = Event()

    def sever(driver: Any) -> None:
        cuts.append(driver)
        if len(cuts) == 2:
            ended.set()

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            database = storage.database
            monkeypatch.setattr(database, "sever", sever)
            assert await storage.run(lambda call: database.attempt(call, lambda _, __: ended.wait(20)), seconds=0.1)

    asyncio.run(run())


def test_only_its_own_connection_is_cut(shared: Place, name: str) -> None:
    """One that went back to the pool may be another's already."""

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            database = storage.database
            call = database.call(9)
            used: list[Any] = []

            def late(_: Any, driver: Any) -> None:
                used.append(driver)
                call.give_up()

            database.attempt(call, lambda _, driver: used.append(driver))
            database.attempt(database.call(9), late)
            assert used[0] is used[1]
            assert await storage.states.commit([Change(StateKey(name, "a"), None, 1, b"", 1.0)]) == [Written(1)]
            database.attempt(database.call(9), lambda _, driver: used.append(driver))
            assert used[2] is used[0]

    asyncio.run(run())


def gone(_: BaseException) -> tuple[Failure, str]:
    return Failure.LOST, "gone"


def test_a_connection_that_is_closed_is_not_cut(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another's in a moment."""

    async def run() -> None:
        async with shared.sql(pool_size=1) as storage:
            await storage.prepare()
            database = storage.database
            cuts: list[Any] = []
            closed: list[Any] = []
            monkeypatch.setattr(database, "sever", cuts.append)
            monkeypatch.setattr(database, "classify", gone)
            call = database.call(9)

            def closing(driver: Any, _: Any) -> None:
                closed.append(driver)
                call.give_up()

            def fails(_: Any, __: Any) -> None:
                raise OSError("gone")

            event.listen(database.engine, "close", closing)
            with pytest.raises(OSError, match="gone"):
                database.attempt(call, fails)
            assert (len(closed), cuts) == (1, [])

    asyncio.run(run())
