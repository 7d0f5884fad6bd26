"""Waits for what threads and processes do, of which no event tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds within which everything happens, also on a busy machine."""


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (threads and processes tell nobody)
            await asyncio.sleep(0.005)
