"""An error of a database keeps nothing alive once nobody looks at it.

A cycle of references would do so until the garbage collector runs. It counts objects, and one of
them may hold megabytes.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import sqlite3
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

import pytest

from infinitic.errors import StorageError
from infinitic.storage import Change, Segment, StateKey
from infinitic_storages.compressed import CompressedStorage
from tests.integration.storages.databases import Place

KEY = StateKey("Trip", "1")


@pytest.fixture(autouse=True)
def _no_records(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is kept for the report of a test, with the errors in it."""
    caplog.set_level(logging.CRITICAL, "psycopg")


@contextmanager
def uncollected() -> Generator[None]:
    """Without the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def fail(storage: CompressedStorage, change: Change, match: str) -> weakref.ref[StorageError]:
    try:
        await storage.states.commit([change])
    except StorageError as error:
        told, found = str(error), weakref.ref(error)
    else:
        pytest.fail("the commit did not fail")
    assert match in told
    return found


def check(place: Place, spoil: Callable[[], object], match: str, **settings: float) -> None:
    async def run() -> None:
        async with CompressedStorage(place.sql(pool_size=1, **settings), "none") as storage:
            await storage.prepare()
            spoil()
            payload = b"x" * 100_000
            change = Change(KEY, None, 1, b"", 1.0, Segment(1, payload, payload))
            await fail(storage, change, match)  # the first one fills what drivers keep once
            before = sys.getrefcount(payload)
            with uncollected():
                errors = [await fail(storage, change, match) for _ in range(3)]
                for _ in range(500):  # until the thread has ended its call
                    if all(ref() is None for ref in errors) and sys.getrefcount(payload) <= before:
                        break
                    await asyncio.sleep(0.01)
                assert [ref() for ref in errors if ref() is not None] == []
                assert sys.getrefcount(payload) <= before

    asyncio.run(run())


def test_a_commit_that_is_refused(empty: Place) -> None:
    check(empty, lambda: empty.execute("DROP TABLE infinitic_segments"), "infinitic migrate")


def test_a_commit_that_fails_at_one_row(empty: Place) -> None:
    segment = "INSERT INTO infinitic_segments VALUES ({}, 1, {}, {})"
    binary = {"postgres": "'\\x{}'::bytea"}.get(empty.kind, "x'{}'")
    values = [binary.format(each.hex()) for each in (b"Trip\0\x001", b"", b"")]
    check(
        empty,
        lambda: empty.execute(segment.format(*values)),
        "infinitic_segments" if empty.kind != "mysql" else "Duplicate entry",
    )


def test_a_commit_that_is_tried_again_until_its_deadline(tmp_path: Path) -> None:
    place = Place("sqlite", "locked", tmp_path)
    with ExitStack() as stack:

        def lock() -> None:
            other = stack.enter_context(closing(sqlite3.connect(place.path, check_same_thread=False)))
            other.execute("BEGIN EXCLUSIVE")

        check(place, lock, "another process holds the file", deadline_seconds=0.4)


def test_a_frame_that_a_driver_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg keeps frames when a pipeline fails early. A frame keeps all that have called it."""
    frames: list[FrameType] = []

    def write(self: object, driver: object, plan: object, call: object) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        frames.append(frame)
        raise sqlite3.IntegrityError("not now")

    monkeypatch.setattr("infinitic_storages.sql.dialects.sqlite.SqliteDatabase.write", write)
    check(Place("sqlite", "kept", tmp_path), lambda: None, "not now")
    assert len(frames) == 4
