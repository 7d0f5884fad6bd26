"""Tasks that are numbered in the order of their creation.

asyncio and anyio keep tasks in sets, and walk them, for instance to cancel. Usual tasks are hashed
by their address, so each run has another order. These are hashed by their number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from infinitic_testing.loop.owners import Holder, Owner, find_current_process

T = TypeVar("T")


class NumberedTask(asyncio.Task[T]):
    """A task with a number.

    If its process is killed, its code never runs again. But who waits for it can be cancelled: then
    the task counts as cancelled, too.

    Attributes:
        owner: number and process of the task.

    Args:
        coro: what it runs.
        owner: number and process of the task.
        options: those of `asyncio.Task`.
    """

    __slots__ = ("owner",)

    def __init__(self, coro: Coroutine[Any, Any, T], owner: Owner, **options: Any) -> None:
        # asyncio puts the task into a set at once.
        self.owner = owner
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.owner.number

    def cancel(self, msg: Any | None = None) -> bool:
        process = self.owner.process
        if process is None or process.is_alive:
            return super().cancel(msg)
        return asyncio.Future[T].cancel(self, msg)


class OrderedWeakSet(WeakKeyDictionary[T, Holder | None]):
    """A weak set in order of creation. The sets of asyncio have another order in each run.

    It also knows the process of each item.
    """

    def add(self, item: T) -> None:
        self[item] = find_current_process()

    def discard(self, item: T) -> None:
        self.pop(item, None)


def read_number(task: asyncio.Task[Any]) -> int:
    """Read the number from the name that asyncio gives to a task, such as "Task-7".

    Returns:
        0 if it has another name.
    """
    number = task.get_name().removeprefix("Task-")
    return int(number) if number.isdecimal() else 0


def never_log_destroy(task: Any) -> None:
    """Do not log "Task was destroyed but it is pending" for a task."""
    task._log_destroy_pending = False
