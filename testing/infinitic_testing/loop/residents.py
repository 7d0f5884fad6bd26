"""Who lives in a loop: its tasks, in the order of creation, and its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context
from itertools import count
from typing import Any

from infinitic_testing.loop.owners import OWNER, Holder, Owner, find_context, find_process
from infinitic_testing.loop.tasks import OrderedWeakSet, read_number

# Tasks are numbered from here until `restart_numbers`.
_FIRST_NUMBER = -(2**30)


class Residents:
    """The tasks and processes of one loop.

    Attributes:
        tasks: the tasks that are known, each with its process.
        processes: the processes, in the order of creation.
    """

    def __init__(self) -> None:
        self.tasks: OrderedWeakSet[asyncio.Task[Any]] = OrderedWeakSet()
        self.processes: list[Holder] = []
        self._numbers = count(_FIRST_NUMBER)

    def adopt(self, process: Holder) -> None:
        """Add a process, and give it its number."""
        self.processes.append(process)
        process.number = len(self.processes)

    def list_killed(self) -> list[Holder]:
        """List the processes that were killed."""
        return [process for process in self.processes if not process.is_alive]

    def restart_numbers(self) -> None:
        """Number the tasks from 1 on. Earlier ones have numbers below, however many there are."""
        self._numbers = count(1)

    def make_owner(self, process: Holder | None) -> Owner:
        """Number a new task of a process, or of none."""
        return Owner(next(self._numbers), process)

    def own_context(self, context: Context, process: Holder | None) -> Owner:
        """Make a new task the owner of a context.

        Args:
            context: the context in which the task will run.
            process: the process of the task.

        Returns:
            Number and process of the task.
        """
        owner = self.make_owner(process)
        context.run(OWNER.set, owner)
        return owner

    def list_tasks(
        self, running: set[asyncio.Task[Any]], ready: Iterable[asyncio.Handle]
    ) -> list[tuple[asyncio.Task[Any], Holder | None]]:
        """List all tasks that somebody refers to, also done ones, with their processes.

        Args:
            running: the tasks that asyncio knows of. New ones are remembered.
            ready: the callbacks that are ready to run.
        """
        strays = running.difference(self.tasks)
        if strays:
            handles = list(ready)
            for task in sorted(strays, key=lambda task: (read_number(task), task.get_name())):
                self.tasks[task] = find_process(find_context(task, handles))
        return list(self.tasks.items())
