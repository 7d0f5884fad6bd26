"""Tasks that take longer than usual."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from infinitic.definitions.service_contract import ServiceImplementation, TaskImplementation
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan

LONGEST_SECONDS = 20.0
"""How much longer a task takes at most."""

PART_OF_TIMEOUT = 0.3
"""How much of its `attempt_timeout` a task is delayed at most: a slow task must not fail."""


class SlowTasks:
    """Makes tasks slow, if the plan of the run has this fault.

    Args:
        plan: of the run.
        choices: of the run.
    """

    def __init__(self, plan: FaultPlan, choices: Choices) -> None:
        self._plan = plan
        self._choices = choices

    def apply(self, service: ServiceImplementation) -> ServiceImplementation:
        """Return the same service with tasks that are slow at times. Those in `def` stay the same.

        Args:
            service: what a worker would host.
        """
        if not self._plan.has("slow-tasks"):
            return service
        return replace(service, tasks={name: self._slow(task) for name, task in service.tasks.items()})

    def _slow(self, task: TaskImplementation) -> TaskImplementation:
        function: Callable[..., Any] = task.function
        if not inspect.iscoroutinefunction(function):
            return task
        longest = LONGEST_SECONDS
        if task.attempt_timeout is not None:
            longest = min(longest, PART_OF_TIMEOUT * task.attempt_timeout)

        async def run(*args: Any, **kwargs: Any) -> Any:
            if self._plan.fires("slow-tasks", factor=4.0):
                await asyncio.sleep(self._choices.between("slow-task/seconds", 0.0, longest))
            return await function(*args, **kwargs)

        return replace(task, function=run)
