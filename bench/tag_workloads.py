"""A tag with many members on one database: added, added again, read in pages, counted, removed.

python -m bench.tag_workloads postgres|mysql|redis|sqlite N
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench import load, servers
from bench.tag_floor import BATCH, make_ids
from infinitic import ids
from infinitic.storage import TagChange, TagKey, TagKind, TagStorage

TAG = TagKey(TagKind.WORKFLOW, "Bench", "million")
T0 = 1_800_000_000.25
VERSION = 1_800_000_000_000_001


def measure_memory() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def update(tags: TagStorage, count: int, *, live: bool, version: int) -> float:
    """Write all members in batches, one after another, as the lane of a tag does.

    Return how many a second.
    """
    began = time.perf_counter()
    for batch in make_ids(count):
        await tags.update([TagChange(TAG, id.decode(), live, version, T0) for id in batch])
    return count / (time.perf_counter() - began)


async def page(tags: TagStorage, until: float | None) -> tuple[int, float, int]:
    """Read all pages. Return how many members there were, their rate, and the bytes it took."""
    began, before, most = time.perf_counter(), measure_memory(), 0
    after, counted, checked = "", 0, time.perf_counter()
    while page := await tags.members(TAG, until=until, after=after, limit=BATCH):
        counted += len(page)
        after = page[-1]
        if time.perf_counter() - checked > 0.05:
            checked = time.perf_counter()
            most = max(most, measure_memory() - before)
    return counted, counted / (time.perf_counter() - began), max(most, measure_memory() - before)


async def main(database: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        label = f"bench_{ids.new_id()[:12]}"
        async with servers.storage(database, label, Path(folder)) as storage:
            await storage.prepare()
            tags = storage.tags
            # The first pages load code, and fill buffers.
            await update(tags, BATCH, live=True, version=0)
            await page(tags, T0)
            figures = {"add_per_s": await update(tags, count, live=True, version=VERSION)}
            before = measure_memory()
            figures["repeat_per_s"] = await update(tags, count, live=True, version=VERSION)
            figures["update_growth_bytes"] = measure_memory() - before
            found, figures["page_per_s"], figures["page_growth_bytes"] = await page(tags, T0)
            assert found == count, f"{found:,} of {count:,} members"
            began = time.perf_counter()
            assert await tags.count(TAG) == count
            figures["count_ms"] = (time.perf_counter() - began) * 1000
            figures["remove_per_s"] = await update(tags, count, live=False, version=VERSION + 1)
            began = time.perf_counter()
            gone = 0
            while step := await tags.purge(T0 + servers.DEDUPLICATION_WINDOW, BATCH):
                gone += step
            figures["purge_per_s"] = gone / (time.perf_counter() - began)
            # The user of MariaDB has one database, in which others may have left something.
            assert gone >= count, f"{gone:,} of {count:,} members"
    load.result(**figures)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
