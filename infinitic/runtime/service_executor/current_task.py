"""The task that runs: what an attempt needs of its context."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class RunningTask(Protocol):
    """The context of a task, as far as the runtime needs it.

    It also holds a client, which stands above the runtime. So the worker makes it, and the runtime
    does not know its class, `infinitic.TaskContext`.
    """

    service_name: str
    task_name: str
    meta: dict[str, bytes]

    def cancel(self) -> None:
        """Tell the attempt to stop. Raises the first of what its callbacks raise."""
        ...


current_task: ContextVar[RunningTask] = ContextVar("infinitic_task")
"""The task that runs in this context. It is set for the time of an attempt."""
