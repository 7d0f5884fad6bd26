"""Faults of tasks: they take longer than usual, or their worker ends right after them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from infinitic.definitions.service_contract import ServiceImplementation, TaskImplementation
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan

SLOW, CUT = "slow-tasks", "cuts-after-task"

LONGEST_SECONDS = 20.0
"""How much longer a task takes at most."""

PART_OF_TIMEOUT = 0.3
"""How much of its `attempt_timeout` a task is delayed at most: a slow task must not fail."""


class TaskFaults:
    """Makes tasks slow, and ends workers right after a task, if the plan of the run has these.

    Args:
        plan: of the run.
        choices: of the run.
        cut: kills the worker of the current process.
    """

    def __init__(self, plan: FaultPlan, choices: Choices, cut: Callable[[], None]) -> None:
        self._plan = plan
        self._choices = choices
        self._cut = cut

    def apply(self, service: ServiceImplementation) -> ServiceImplementation:
        """Return the same service, with tasks that have these faults at times.

        Args:
            service: what a worker would host.
        """
        if not self._plan.has(SLOW) and not self._plan.has(CUT):
            return service
        return replace(service, tasks={name: self._disturb(task) for name, task in service.tasks.items()})

    def _disturb(self, task: TaskImplementation) -> TaskImplementation:
        longest = LONGEST_SECONDS
        for timeout in (task.attempt_timeout, task.heartbeat_timeout):
            if timeout is not None:
                longest = min(longest, PART_OF_TIMEOUT * timeout)
        batch = task.batch
        if batch is not None:
            batch = replace(batch, function=self._disturb_function(batch.function, longest))
        return replace(task, function=self._disturb_function(task.function, longest), batch=batch)

    def _disturb_function(self, function: Callable[..., Any], longest: float) -> Callable[..., Any]:

        async def run(*args: Any, **kwargs: Any) -> Any:
            if self._plan.fires(SLOW, factor=4.0):
                await asyncio.sleep(self._choices.between("slow-task/seconds", 0.0, longest))
            result = await function(*args, **kwargs)
            self._end_worker()
            return result

        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self._end_worker()
            return result

        return run if inspect.iscoroutinefunction(function) else call

    def _end_worker(self) -> None:
        """Draw whether the worker ends now. Nothing that it still does reaches anybody then."""
        if self._plan.draw(CUT, factor=2.0):
            self._cut()
