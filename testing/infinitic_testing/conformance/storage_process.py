"""Two processes that write to one storage, one of which is killed: KILL-1."""

from __future__ import annotations

import asyncio
import pickle

from infinitic_testing.conformance.other_process import start_program
from infinitic_testing.conformance.storage_bench import (
    T0,
    V0,
    StorageBench,
    StorageSuite,
    in_bench,
    make_change,
    make_start,
)
from infinitic_testing.conformance.storage_errand import KEY, try_to_write

WINS = 25
"""How many changes each process writes, at least, before one of them is killed."""


class KillRules(StorageSuite):
    @in_bench
    async def test_kill_1_processes_write_one_after_the_other_and_a_kill_loses_nothing(
        self, bench: StorageBench
    ) -> None:
        connect = bench.backend.make_connector()
        await bench.commit(make_start(KEY))
        mine: list[str] = []
        others: list[str] = []
        async with start_program("infinitic_testing.conformance.storage_errand", pickle.dumps(connect)) as process:
            assert process.stdout is not None
            others.append(await _read_line(process))
            writing = asyncio.create_task(_write(bench, mine))
            async with asyncio.timeout(self.patience * 2):
                while len(others) < WINS or len(mine) < WINS:
                    others.append(await _read_line(process))
            # It dies in the middle of its work.
            process.kill()
            others += (await process.stdout.read()).decode().splitlines()
            writing.cancel()
            await asyncio.wait([writing])
            if not writing.cancelled():
                writing.result()
        segments = await bench.history(KEY)
        assert [each.sequence for each in segments] == list(range(1, len(segments) + 1))
        kept = [each.events.decode() for each in segments[1:]]
        assert len(set(kept)) == len(kept)
        lost = [each for each in mine + others if each not in kept]
        assert not lost, f"{lost} were `Written`, and are gone"
        # Of the last one that it wrote, it had no time to say so.
        assert len(kept) - len(mine) - len(others) <= 1, "something is written that nobody was told of"
        # It holds up nobody.
        stored = await bench.load(KEY)
        assert stored is not None
        last = make_change(KEY, stored.version, V0 * 2, at=T0)
        assert [type(each).__name__ for each in await bench.commit(last)] == ["Written"]


async def _write(bench: StorageBench, written: list[str]) -> None:
    """Write until cancelled, and note what was written."""
    while True:
        # A commit that is cancelled may be written, and nobody would know.
        writing = asyncio.ensure_future(try_to_write(bench.other, "this", 0))
        try:
            each = await asyncio.shield(writing)
        except asyncio.CancelledError:
            each = await writing
            written += [] if each is None else [each]
            raise
        written += [] if each is None else [each]
        await asyncio.sleep(0)


async def _read_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "the other process ended: see its error above"
    return line.decode().rstrip("\n")
