"""Conditions of a query that cannot be are named when it is made, before any database is asked."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from infinitic.storage import (
    Change,
    DamagedState,
    Entry,
    Flag,
    Found,
    InvalidArgument,
    Query,
    StateKey,
    WorkflowStatus,
    read_entry,
)
from infinitic_storages.redis.find import decode_found
from infinitic_storages.redis.keys import encode_key
from infinitic_storages.sql.sqlite import SqliteStorage


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ({"name": 5}, "The name has to be a text, not 5"),
        ({"name": b"Trip"}, "The name has to be a text, not b'Trip'"),
        ({"name": "Trip", "id_prefix": 5}, "The beginning of an id has to be a text, not 5"),
        ({"id_prefix": "a"}, "A query for the beginning of an id needs the name of the workflow, too"),
        ({"status": "running"}, "The status has to be one of WorkflowStatus.RUNNING, WorkflowStatus."),
        ({"flag": "stalled"}, "The flag has to be one of Flag.STALLED, Flag.PARKED, not 'stalled'"),
        ({"status": Flag.STALLED}, "The status has to be one of WorkflowStatus.RUNNING"),
        ({"cursor": 5}, "The cursor has to be a text, not 5"),
        ({"cursor": "x" * 1_000_000}, "The cursor has 1,000,000 characters, and there is none with more than 10,000"),
        ({"limit": 0}, "The limit of a page has to be a whole number"),
        ({"started_after": "now"}, "started_after has to be a finite number of seconds, not 'now'"),
    ],
)
def test_a_condition_that_cannot_be_is_named(conditions: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Query(**conditions)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_can_be_is_taken() -> None:
    longest = '[1893456000.123456,"' + "\\u0000" * 255 + '","' + "\\u0000" * 255 + '"]'
    Query("", WorkflowStatus.RUNNING, flag=Flag.PARKED, cursor=longest, id_prefix="")


def test_an_entry_of_a_newer_release_hides_no_other() -> None:
    """S41. If finding failed, so would the hourly maintenance of each worker."""
    known = Entry(WorkflowStatus.RUNNING, 1.0, 2, None, 3.0, Flag.STALLED)
    assert read_entry("running", 1.0, 2, None, 3.0, "stalled") == known
    assert read_entry("running", 1.0, 2, None, 3.0, "curious") == replace(known, flag=None)
    assert read_entry("paused", 1.0, 2, None, 3.0, "stalled") == known
    assert read_entry("archived", 1.0, closed_at=5.0) == Entry(WorkflowStatus.COMPLETED, 1.0, None, 5.0)
    newer = msgspec.msgpack.encode({"status": "paused", "started_at": 1.0, "flag": "curious", "mood": "good"})
    member = encode_key(StateKey("Trip", "t1")) or b""
    assert [each.entry for each in decode_found([member, newer])] == [Entry(WorkflowStatus.RUNNING, 1.0)]
    with pytest.raises(DamagedState, match="The entry: it cannot be decoded"):
        list(decode_found([member, msgspec.msgpack.encode({"status": 5})]))


def open_kept(folder: Path) -> SqliteStorage:
    return SqliteStorage(SqliteStorage.Settings(path=folder / "kept.db"))


async def find_all(storage: SqliteStorage) -> list[Found]:
    async with storage:
        return (await storage.states.find(Query())).found


def test_a_row_of_a_newer_release_hides_no_other(tmp_path: Path) -> None:
    async def write() -> None:
        async with open_kept(tmp_path) as storage:
            await storage.prepare()
            entry = Entry(WorkflowStatus.RUNNING, 1.0)
            keys = [StateKey("Trip", name) for name in ("a", "b", "c")]
            await storage.states.commit([Change(key, None, 1, b"", 1.0, entry=entry) for key in keys])

    asyncio.run(write())
    with closing(sqlite3.connect(tmp_path / "kept.db")) as connection, connection:
        connection.execute("UPDATE infinitic_states SET status = 'paused', flag = 'curious' WHERE key LIKE '%b'")
    found = asyncio.run(find_all(open_kept(tmp_path)))
    assert [(each.key.id, each.entry) for each in found] == [
        (name, Entry(WorkflowStatus.RUNNING, 1.0)) for name in ("c", "b", "a")
    ]
