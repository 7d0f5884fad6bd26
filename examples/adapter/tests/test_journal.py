"""What is the shelf's own: its file, and who may use it when."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from infinitic_shelf import ShelfStorage

from infinitic.storage import (
    Change,
    Lost,
    Segment,
    StateKey,
    StorageConfigurationError,
    StorageOutcomeUnknown,
    Written,
)

KEY = StateKey("Trip", "1")
HERE = Path(__file__).parents[1]

WRITER = """
import asyncio, sys
from infinitic.storage import Change, Segment, StateKey
from infinitic_shelf import ShelfStorage

async def main():
    async with ShelfStorage(sys.argv[1]) as storage:
        for n in range(1, 100_000):
            change = Change(StateKey("Trip", "1"), n - 1 or None, n, b"head", 1.0, Segment(n, b"x" * 5000))
            [written] = await storage.states.commit([change])
            print(written.version, flush=True)

asyncio.run(main())
"""


def trip(version: int, head: bytes = b"head", expires_at: float | None = None) -> Change:
    expected = version - 1 or None
    segment = Segment(version, b"events")
    deduplication_ids = ("m",) if version == 1 else ()
    return Change(KEY, expected, version, head, 1.0, segment, deduplication_ids, expires_at=expires_at)


async def version(folder: Path) -> int | None:
    async with ShelfStorage(folder) as storage:
        stored = (await storage.states.load([KEY])).get(KEY)
        return None if stored is None else stored.version


def test_what_a_killed_process_was_told_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    with writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        told += [int(line) for line in writer.stdout]

    async def look() -> None:
        async with ShelfStorage(tmp_path) as storage:
            stored = (await storage.states.load([KEY]))[KEY]
            segments = await storage.states.history(KEY, limit=100_000)
            assert stored.version in (told[-1], told[-1] + 1)
            assert [each.sequence for each in segments] == list(range(1, stored.version + 1))

    asyncio.run(look())


@pytest.mark.parametrize(("cut", "zeros"), [(1, 0), (11, 0), (12, 0), (13, 0), (40, 0), (0, 60)])
def test_half_a_step_never_was(tmp_path: Path, cut: int, zeros: int) -> None:
    async def main() -> None:
        async with ShelfStorage(tmp_path) as storage:
            await storage.states.commit([trip(1)])
            before = (tmp_path / "journal").stat().st_size
            await storage.states.commit([trip(2)])
        os.truncate(tmp_path / "journal", before + cut)
        if zeros:  # the file had grown, its content had not come
            os.truncate(tmp_path / "journal", before + cut + zeros)
        assert await version(tmp_path) == 1
        assert (tmp_path / "journal").stat().st_size == before
        async with ShelfStorage(tmp_path) as storage:
            assert await storage.states.commit([trip(2, b"again")]) == [Written(2)]
        assert await version(tmp_path) == 2

    asyncio.run(main())


def test_damage_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with ShelfStorage(tmp_path) as storage:
            await storage.states.commit([trip(1, b"first")])
            await storage.states.commit([trip(2)])
        journal = tmp_path / "journal"
        journal.write_bytes(journal.read_bytes().replace(b"first", b"worst"))
        with pytest.raises(StorageConfigurationError, match="damaged at byte"):
            await version(tmp_path)
        journal.write_bytes(b"infinitic-shelf 2\n")
        with pytest.raises(StorageConfigurationError, match="no journal of this release"):
            await version(tmp_path)
        with pytest.raises(StorageConfigurationError):
            await version(journal)

    asyncio.run(main())


def test_a_disk_that_fails_leaves_the_outcome_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("no space left")

    async def main() -> None:
        async with ShelfStorage(tmp_path) as storage:
            await storage.states.commit([trip(1)])
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", fail)
                with pytest.raises(StorageOutcomeUnknown):
                    await storage.states.commit([trip(2)])
            assert await storage.states.commit([trip(2)]) == [Lost(2)]  # here it had happened

    asyncio.run(main())


def test_the_journal_is_written_anew_under_the_eyes_of_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ShelfStorage(tmp_path, deduplication_window=10.0) as one,
            ShelfStorage(tmp_path, deduplication_window=10.0) as two,
        ):
            await one.states.commit([trip(1)])
            for number in range(2, 20):
                await one.states.commit([trip(number, b"x" * 100_000)])
            assert (await two.states.load([KEY]))[KEY].version == 19
            assert await one.states.purge(5.0) == 0
            assert (tmp_path / "journal").stat().st_size < 200_000
            assert await two.states.commit([trip(20)]) == [Written(20)]
            assert len(await one.states.history(KEY)) == 20
            assert await version(tmp_path) == 20
            assert await two.states.commit([trip(21, expires_at=20.0)]) == [Written(21)]
            assert await one.states.purge(20.0) == 2  # the instance and a deduplication id
            assert await two.states.commit([trip(1)]) == [Lost(21)]
            assert await one.states.purge(30.0) == 0  # the remnant does not count
            assert await two.states.commit([trip(1)]) == [Written(1)]

    asyncio.run(main())
