"""What the errors of a loop say: who waits, and at which line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from infinitic_testing.loop.errors import DeadlockError, LivelockError
from infinitic_testing.loop.refusals import NO_THREADS
from infinitic_testing.tracebacks import find_waiting_frames, is_user_frame

OnDeadlock = Callable[[], Exception | str | None]
"""Explains a deadlock, by a text or an exception."""

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


def explain_deadlock(
    now: float, tasks: Sequence[asyncio.Task[Any]], paused: Sequence[str], hook: OnDeadlock | None
) -> DeadlockError:
    """Make the error of a loop in which nothing can run any more.

    Args:
        now: the virtual time, in seconds.
        tasks: those that wait.
        paused: the names of processes that are paused.
        hook: explains more. What it raises is the explanation, too.
    """
    head = f"Nothing can run and no timer is left at {now} s. Waiting tasks"
    message = format_list(head, [describe_task(task) for task in tasks])
    if paused:
        message += f"\nPaused processes, which nobody resumes: {', '.join(paused[:MAX_LISTED])}"
    try:
        reason = hook and hook()
    except Exception as failure:  # noqa: BLE001 - a broken explanation must not hide the deadlock
        reason = failure
    text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    error = DeadlockError(f"{message}\n{text}" if text else message)
    if isinstance(reason, Exception):
        error.__cause__ = reason
    return error


class RunningList:
    """What ran last at this instant, by name. It is filled once a livelock is near."""

    def __init__(self) -> None:
        self._found: dict[object, str] = {}

    def clear(self) -> None:
        """Time has moved."""
        self._found.clear()

    def look(self, ready: Iterable[object], now: float, steps: int, limit: int) -> None:
        """Remember what is ready to run.

        Args:
            ready: the callbacks.
            now: the virtual time, in seconds.
            steps: how many have run at this time.
            limit: how many may run.

        Raises:
            LivelockError: more have run. It says which ones.
        """
        for handle in islice(ready, MAX_LISTED):
            owner: Any = getattr(getattr(handle, "_callback", None), "__self__", None)
            if hasattr(owner, "get_coro"):
                # The callback is a step of this task.
                self._found[owner] = describe_task(owner)
            else:
                self._found[repr(handle)] = repr(handle)
        if steps > limit:
            head = f"More than {limit} steps at {now} s: time cannot move. Running"
            raise LivelockError(format_list(head, list(self._found.values())))
