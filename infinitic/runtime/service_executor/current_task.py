"""The task that runs, and what its attempt needs of its context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from threading import Lock
from typing import Any, Protocol

import msgspec

from infinitic.messages.service import ExecuteTask
from infinitic.runtime.service_executor.pulse import Pulse

_logger = logging.getLogger("infinitic.executor")

_making = Lock()


class RunningTask(Protocol):
    """The context of a task, as far as the runtime needs it.

    It also holds a client, which stands above the runtime. So the worker makes it, and the runtime
    does not know its class, `infinitic.TaskContext`.
    """

    service_name: str
    task_name: str
    meta: dict[str, bytes]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def cancel(self) -> None:
        """Tell the attempt to stop. Raises the first of what its callbacks raise."""
        ...


class Stoppable(Protocol):
    """Code of users that can be told to stop. The attributes are those of `CurrentTask`."""

    is_blocking: bool
    is_cancelled: bool

    def cancel(self) -> None:
        """Tell it to stop."""
        ...


class CurrentTask(msgspec.Struct, eq=False):
    """One attempt while it runs. Its context is made when somebody asks for it: most tasks do not.

    Args:
        message: what is run.
        make_context: makes the context.
        is_delegated: whether somebody outside ends the task.
        pulse: its heartbeats; None: its task has no heartbeat timeout.

    Attributes:
        message: what is run.
        is_delegated: whether somebody outside ends the task.
        pulse: its heartbeats; None: its task has no heartbeat timeout.
        is_cancelled: whether it was told to stop.
        is_blocking: whether its code runs in a thread now, which cannot be stopped from outside.
    """

    message: ExecuteTask
    make_context: MakeContext
    is_delegated: bool = False
    pulse: Pulse | None = None
    is_blocking: bool = False
    is_cancelled: bool = False
    _context: RunningTask | None = None

    @property
    def context(self) -> RunningTask:
        """The context, which is the same each time."""
        # A thread may ask while the event loop cancels: both must get the same.
        with _making:
            if self._context is None:
                self._context = self.make_context(self)
            return self._context

    def cancel(self) -> None:
        """Tell the attempt to stop, whatever its callbacks raise."""
        self.is_cancelled = True
        context = self.context
        try:
            context.cancel()
        except Exception:
            _logger.exception("Task %s.%s: on_cancel raised", context.service_name, context.task_name)


class CurrentBatch:
    """The attempts of one batch while they run in one call.

    Args:
        name: the qualified name of the batch method, for people.
        tasks: the attempts, by the id of their task.

    Attributes:
        is_cancelled: whether all of it was told to stop.
        is_blocking: as for `CurrentTask`.
    """

    __slots__ = ("is_blocking", "is_cancelled", "name", "tasks")

    def __init__(self, name: str, tasks: Mapping[str, CurrentTask]) -> None:
        self.name = name
        self.tasks = tasks
        self.is_blocking = False
        self.is_cancelled = False

    def cancel(self) -> None:
        """Tell all attempts of it to stop, whatever their callbacks raise."""
        self.is_cancelled = True
        for task in self.tasks.values():
            task.cancel()


MakeContext = Callable[[CurrentTask], RunningTask]
"""Makes the context of an attempt that runs."""

current_task: ContextVar[CurrentTask] = ContextVar("infinitic_task")
"""The task that runs in this context. It is set for the time of an attempt."""

current_batch: ContextVar[CurrentBatch] = ContextVar("infinitic_batch")
"""The batch that runs in this context. It is set for the time of its call."""
