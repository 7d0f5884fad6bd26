"""What the errors of a loop say: who waits, and at which line."""

from __future__ import annotations

import asyncio
from typing import Any

from infinitic_testing.loop.refusals import NO_THREADS
from infinitic_testing.tracebacks import find_waiting_frames, is_user_frame

MAX_LISTED = 20
"""How many tasks an error names."""


def format_list(head: str, lines: list[str]) -> str:
    """Write a headline with the number of lines, and the first lines below it."""
    rest = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "\n  ".join([f"{head}: {len(lines)}", *lines[:MAX_LISTED], *rest])


def describe_task(task: asyncio.Task[Any]) -> str:
    """Give its name, its coroutine, and the outermost and innermost line of the user's code."""
    step: Any = task.get_coro()
    name = f"{task.get_name()} ({getattr(step, '__qualname__', step)})"
    library, places = "", list[str]()
    for frame, _, line in find_waiting_frames(step):
        place = f"{frame.f_code.co_filename}:{line}"
        if frame.f_code.co_name == "run_sync_in_worker_thread":
            name += f" waits for a thread, which does not work in virtual time: {NO_THREADS};"
        if is_user_frame(frame):
            places.append(place)
        else:
            library = place
    where = " → ".join(dict.fromkeys([places[0], places[-1]])) if places else library
    return f"{name} at {where}" if where else name
