"""Waking whoever waits on a future: the runtime's one way to say that there is something to do."""

from __future__ import annotations

import asyncio


def wake(waiting: asyncio.Future[None] | None) -> None:
    """Wake who waits, if somebody does and has not been woken or cancelled already."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
