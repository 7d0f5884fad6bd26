"""Events on real servers: the listener and the worker are killed, and no event is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.event_report import report_steps
from tests.integration.stack import need


@pytest.mark.parametrize("database", ["postgres", "redis"])
def test_no_event_is_lost_while_the_listener_is_killed(database: str, tmp_path: Path) -> None:
    """Also not while the worker that publishes them is killed."""
    need(database)
    found = asyncio.run(report_steps(database, tmp_path, steps=1200, workflows=12, kills=2))
    assert found.missing == []
    assert found.kills, "all had ended before the listener was killed"
