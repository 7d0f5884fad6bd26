"""What tests of simulated processes have in common."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.unit.ticking import seen


@pytest.fixture
def nothing_is_reported(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither asyncio nor the clean-up of a dead process logs anything."""
    seen.clear()
    yield
    gc.collect()
    assert caplog.get_records("call") + caplog.get_records("teardown") == []
