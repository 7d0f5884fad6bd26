"""Numbers that cannot be are told before anything is sent; nothing else is changed in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infinitic.storage import Change, Duplicate, Entry, StateKey, WorkflowStatus, Written
from tests.integration.storages.databases import Place

ENTRY = Entry(WorkflowStatus.RUNNING, 1.0)
WRONG = (float("nan"), float("inf"), float("-inf"), 10**400)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**80])
def test_versions_that_are_too_large(shared: Place, name: str, number: int) -> None:
    async def run() -> None:
        async with shared.sql() as storage:
            await storage.prepare()
            good = Change(StateKey(name, "good"), None, 1, b"", 1.0)
            key = StateKey(name, "a")
            with pytest.raises(ValueError, match=r"Change\.version"):
                await storage.states.commit([good, Change(key, None, number, b"", 1.0)])
            entry = msgspec.structs.replace(ENTRY, version=number)
            with pytest.raises(ValueError, match=r"Entry\.version"):
                await storage.states.commit([good, Change(key, None, 1, b"", 1.0, entry=entry)])
            assert await storage.states.load([good.key, key]) == {}

    asyncio.run(run())


@pytest.mark.parametrize("field", ["at", "expires_at", "started_at", "closed_at", "next_wake"])
def test_instants_that_are_not_finite(shared: Place, name: str, field: str) -> None:
    async def run() -> None:
        async with shared.sql() as storage:
            await storage.prepare()
            key = StateKey(name, "a")
            for number in WRONG:
                change: Any = Change(key, None, 1, b"", 1.0, entry=ENTRY)
                if field in ("at", "expires_at"):
                    change = msgspec.structs.replace(change, **{field: number})
                else:
                    change = msgspec.structs.replace(change, entry=msgspec.structs.replace(ENTRY, **{field: number}))
                with pytest.raises(ValueError, match=rf"\.{field} has to be a finite"):
                    await storage.states.commit([change])
            assert await storage.states.load([key]) == {}

    asyncio.run(run())


def test_the_largest_numbers(shared: Place, name: str) -> None:
    async def run() -> None:
        async with shared.sql() as storage:
            await storage.prepare()
            for number in (2**63 - 1, -(2**63)):
                key = StateKey(name, str(number))
                assert await storage.states.commit([Change(key, None, number, b"", 1.0)]) == [Written(number)]
                assert (await storage.states.load([key]))[key].version == number

    asyncio.run(run())


def test_an_insert_hides_nothing(shared: Place, name: str) -> None:
    """Of what the server would cut or clamp, it says so."""
    if shared.kind != "mysql":
        pytest.skip("the others know no IGNORE")

    async def run() -> None:
        from infinitic.errors import StorageError
        from infinitic_storages.sql.commit import make_question

        async with shared.sql() as storage:
            await storage.prepare()
            database = storage.database
            question = make_question([Change(StateKey(name, "a"), None, 2**70, b"", 1.0)])
            with pytest.raises(StorageError, match="Out of range"):
                database.run(
                    database.call(9), lambda call: database.attempt(call, lambda _, d: database.look(d, question))
                )

    asyncio.run(run())


def test_a_mark_that_comes_twice(shared: Place, name: str) -> None:
    async def run() -> None:
        async with shared.sql(deduplication_window=10.0) as storage:
            await storage.prepare()
            key = StateKey(name, "a")
            first = Change(key, None, 1, b"", 1.0, deduplication_ids=("b", "a", "b"))
            assert await storage.states.commit([first]) == [Written(1)]
            again = Change(key, 1, 2, b"", 1.0, deduplication_ids=("new", "b", "a", "b", "a"))
            assert await storage.states.commit([again]) == [Duplicate(("b", "a"))]
            assert await storage.states.purge(20.0) == 2

    asyncio.run(run())


@pytest.mark.parametrize(("synchronous", "durable"), [("full", True), ("normal", False)])
def test_whether_a_file_is_durable(tmp_path: Path, synchronous: str, durable: bool) -> None:
    async def run() -> None:
        async with Place("sqlite", "durable", tmp_path).sql(synchronous=synchronous) as storage:
            assert storage.capabilities.durable is durable
            await storage.prepare()
            assert storage.capabilities.durable is durable

    asyncio.run(run())
