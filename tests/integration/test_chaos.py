"""The campaign of `make chaos`, small enough for each run of the tests, on one database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from chaos.campaign import Extent, run_campaign
from chaos.servers import ServerMissing
from tests.integration.stack import need
from tests.required import absent

DATABASE = os.environ.get("INFINITIC_CHAOS_DATABASE", "postgres")
SMALL = Extent(
    workflows=28,
    seconds=12.0,
    gap=1.6,
    each=1,
    kinds=("kill-worker", "kill-broker", "kill-client", "kill-database", "stop-worker"),
    patience=90.0,
)


def test_all_is_right_after_everything_was_killed(tmp_path: Path) -> None:
    need(DATABASE)
    told = list[str]()
    try:
        report = asyncio.run(run_campaign(DATABASE, 11, SMALL, told.append, tmp_path))
    except ServerMissing as missing:
        absent(str(missing))
    assert report.violations == [], "\n".join([*report.violations, *told])
    assert report.workflows >= SMALL.workflows
    assert report.asked == SMALL.workflows
    assert all(report.done[kind] for kind in SMALL.kinds), report.done
