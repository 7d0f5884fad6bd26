"""Waking a task that waits on a future. The runtime has no other way to say that there is work."""

from __future__ import annotations

import asyncio


def wake(waiting: asyncio.Future[None] | None) -> None:
    """Wake the task that waits, unless none waits or it has been woken or cancelled already."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
