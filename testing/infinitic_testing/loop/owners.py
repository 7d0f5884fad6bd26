"""Which task and which process a callback belongs to. Its context says so.

A task runs in a context of its own. Callbacks that its code registers copy this context, and so
they have the same owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Protocol

# No process has more.
_MOST_TASKS = 1e9


class Holder(Protocol):
    """What the loop knows of a process.

    Attributes:
        name: the name of the process.
        number: its number among those of its loop, from 1.
        runs: False while it is paused, and after it was killed.
        is_alive: False after it was killed.
        is_paused: true while it is paused.
    """

    name: str
    number: int
    runs: bool
    is_alive: bool
    is_paused: bool

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback that may not run now."""

    def resume(self) -> None:
        """End its pause, if it is paused."""

    def close_remains(self) -> None:
        """End what is left of a killed process."""


class Owner:
    """The owner of a callback.

    Attributes:
        number: the number of the task. Later tasks have higher ones.
        process: the process of the task. None: it is in none.
        mark: both numbers in one, for traces.
    """

    __slots__ = ("mark", "number", "process")

    def __init__(self, number: int, process: Holder | None) -> None:
        self.number = number
        self.process = process
        self.mark = float(number) if process is None else process.number * _MOST_TASKS + number


OWNER: ContextVar[Owner | None] = ContextVar("OWNER", default=None)
"""The owner of the code that runs in a context."""


def find_current_process() -> Holder | None:
    """The process of the code that runs now."""
    owner = OWNER.get()
    return None if owner is None else owner.process


def find_process(context: Context | None) -> Holder | None:
    """The process of what runs in a context."""
    owner = None if context is None else context.get(OWNER)
    return None if owner is None else owner.process


def find_context(task: asyncio.Task[Any], ready: list[asyncio.Handle]) -> Context | None:
    """Find the context of a task that waits or is ready to run.

    Args:
        task: one that is not done.
        ready: the callbacks of its loop that are ready to run.

    Returns:
        None if it is not known: Python 3.11 does not tell the context of a task.
    """
    get_context: Callable[[], Context] | None = getattr(task, "get_context", None)
    if get_context is not None:
        return get_context()
    for handle in ready:
        if getattr(getattr(handle, "_callback", None), "__self__", None) is task:
            return getattr(handle, "_context", None)
    waits_for: Any = getattr(task, "_fut_waiter", None)
    callbacks: list[tuple[Any, Context]] = getattr(waits_for, "_callbacks", None) or []
    return next((context for callback, context in callbacks if getattr(callback, "__self__", None) is task), None)
