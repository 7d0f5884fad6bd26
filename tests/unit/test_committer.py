"""Failed commits leave no reference cycles: the garbage collector counts objects, not bytes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import cast

import pytest

from infinitic.runtime.lane import Lane, forget_frames
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.group_commit import MARK_SECONDS, GroupCommit
from infinitic.storage import Change, Outcome, Published, StateKey, StateStorage, StorageUnavailable
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.loop import run


class Failing(Database):
    """Writes nothing while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.written: list[Change | Published] = []

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        if self.down:
            raise StorageUnavailable("down")
        self.written += changes
        return super().commit(changes)


class Slow:
    """States whose commits fail, after a while. It remembers what it raised."""

    def __init__(self) -> None:
        self.raised: list[weakref.ref[BaseException]] = []

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        await asyncio.sleep(1.0)
        raise self._error()

    def _error(self) -> StorageUnavailable:
        error = StorageUnavailable("down")
        self.raised.append(weakref.ref(error))
        return error


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_the_error_of_a_commit_is_freed_once_nobody_keeps_it() -> None:
    slow = Slow()

    async def attempt(group_commit: GroupCommit, number: int) -> None:
        with suppress(StorageUnavailable):
            await group_commit.commit([Change(StateKey("W", str(number)), None, 1, b"x" * 1000, 0.0)])

    async def main() -> None:
        group_commit = GroupCommit(cast("StateStorage", slow))
        await asyncio.gather(*(attempt(group_commit, number) for number in range(6)))
        group_commit.close()

    run(main())
    assert len(slow.raised) == 3, "two at once, and what waited meanwhile"
    assert [each() for each in slow.raised] == [None, None, None]


def test_an_error_that_a_lane_keeps_holds_no_frames() -> None:
    lane = Lane("key")
    try:
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            raise StorageUnavailable("down") from cause
    except StorageUnavailable as error:
        lane.fail(error, 0.0, counted=False)
    forget_frames(lane.failure)
    assert lane.failure is not None
    assert (lane.failure.__traceback__, str(lane.failure)) == (None, "down")
    assert lane.failure.__cause__ is not None
    assert lane.failure.__cause__.__traceback__ is None


def test_marks_that_could_not_be_written_are_written_later() -> None:
    database = Failing()
    key = StateKey("W", "1")

    async def main() -> None:
        group_commit = GroupCommit(InMemoryStorage(database).states)
        await group_commit.commit([Change(key, None, 1, b"head", 0.0)])
        held = CachedInstance(key, None, 1, published=False)
        database.down = True
        group_commit.mark_published(held)
        await asyncio.sleep(2 * MARK_SECONDS)
        assert group_commit.take_back(key) is held
        group_commit.mark_published(held)
        database.down = False
        await asyncio.sleep(10.0)
        assert group_commit.take_back(key) is None
        assert database.written[1:] == [Published(key, 1)]

    run(main())
