"""What an instance hands out: deferreds of tasks and timers, and its logger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from infinitic import ids
from infinitic.clock import to_datetime
from infinitic.definitions.deferred import Deferred
from infinitic.definitions.stubs import TaskStub
from infinitic.errors import DeferredError, TaskCanceledError

if TYPE_CHECKING:
    from infinitic.replay.instance import Instance


class TaskDeferred(Deferred[Any]):
    """The result of a task."""

    def __init__(self, instance: Instance, position: int, stub: TaskStub) -> None:
        super().__init__(instance, position)
        self.stub = stub

    @property
    def id(self) -> str:
        home: Any = self.home
        return ids.task_id(home.id, home.run, self._position)

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError(self.stub.service, self.stub.spec.name, self.id)


class TimerDeferred(Deferred[Any]):
    """A timer. Its value is the instant at which it was due."""

    def __init__(self, instance: Instance, position: int, due: float) -> None:
        super().__init__(instance, position)
        self.due = due

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("timer", to_datetime(self.due).isoformat(), str(self._position))


class ReplayLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent while its instance replays, and while one that leaves memory cleans up."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(
            logging.getLogger(instance.spec.cls.__module__ + "." + instance.spec.cls.__qualname__),
            {"workflow_id": instance.id},
        )
        self._instance = instance

    def isEnabledFor(self, level: int) -> bool:
        instance = self._instance
        return not instance.replaying and not instance.loop.dead and super().isEnabledFor(level)
