"""What an instance hands out: deferreds of tasks and timers, and its logger."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from infinitic import ids
from infinitic.clock import to_datetime
from infinitic.definitions.deferred import Deferred
from infinitic.definitions.home import Home
from infinitic.definitions.stubs import TaskStub
from infinitic.errors import DeferredError, TaskCanceledError, TaskFailedError, TaskTimedOutError
from infinitic.messages.events import TaskCanceled, TaskError, TaskTimeout

_Future: Any = asyncio.Future
"""For calls of its methods by name: `super()` costs 800 instructions more for each task."""


class TaskDeferred(Deferred[Any]):
    """The result of a task."""

    def __init__(self, home: Home, position: int, stub: TaskStub) -> None:
        # As `Deferred` does, without one more call.
        _Future.__init__(self, loop=home.loop)
        self.home = home
        self._position = position
        self._number = home.next_number()
        self.stub = stub

    @property
    def id(self) -> str:
        return ids.task_id(self.home.id, self.home.run, self._position)

    def fail_for(self, why: TaskError | TaskTimeout | TaskCanceled) -> None:
        """Fail: it failed, or its total timeout is over, or it was cancelled by a tag."""
        service, task = self.stub.service, self.stub.spec.name
        match why:
            case TaskError():
                self.fail(TaskFailedError(service, task, self.id, why.failure))
            case TaskTimeout():
                self.fail(TaskTimedOutError(service, task, self.id))
            case TaskCanceled():
                self.fail(self._cancellation())

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError(self.stub.service, self.stub.spec.name, self.id)


class TimerDeferred(Deferred[Any]):
    """A timer. Its value is the instant at which it was due."""

    def __init__(self, home: Home, position: int, due: float) -> None:
        super().__init__(home, position)
        self.due = due

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("timer", to_datetime(self.due).isoformat(), str(self._position))


class ReplayLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent while its instance replays, or cleans up as it leaves memory."""

    def __init__(self, home: Home, name: str) -> None:
        super().__init__(logging.getLogger(name), {"workflow_id": home.id})
        self._home = home

    def isEnabledFor(self, level: int) -> bool:
        home = self._home
        return not home.replaying and not home.loop.dead and super().isEnabledFor(level)
