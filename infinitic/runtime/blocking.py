"""Where blocking code runs: in threads, or inline where time is virtual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

Blocking = Callable[[Callable[[], object]], Awaitable[object]]
"""Runs a plain function that may block, with a copy of the caller's context, and gives what it returns."""


def threads(limit: int) -> Blocking:
    """Run blocking code in at most `limit` worker threads."""
    limiter = anyio.CapacityLimiter(limit)

    async def run(function: Callable[[], object]) -> object:
        return await anyio.to_thread.run_sync(function, limiter=limiter, abandon_on_cancel=True)

    return run


async def inline(function: Callable[[], object]) -> object:
    """Run it here and now: for simulation, where nothing may happen beside the loop."""
    return function()
