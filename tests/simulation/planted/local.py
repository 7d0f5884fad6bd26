"""Bugs of local tasks: the bounds of a step, what goes by message, what is kept."""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import replace

from infinitic.runtime.service_executor.local_attempts import LocalAttempts
from infinitic.runtime.state_engine import lane_attempts, local_tasks
from infinitic.runtime.state_engine.local_tasks import LocalTasks
from tests.simulation.planted.planting import Part, Planter, bug

LOCAL = "local tasks"


@bug(LOCAL)
def local_report_taken_twice(planter: Planter) -> None:
    """What came of a local task is written twice."""

    @planter.wrap(LocalTasks, "_feed")
    def feed(original: Part, self: Any, under_way: Any, step: Any, over: Any) -> Any:
        before = len(step.draft.events)
        original(self, under_way, step, over)
        happened = list(step.draft.events)
        step.draft = replace(step.draft, events=[*happened[: before + 1], *happened[before:]])


@bug(LOCAL)
def unfinished_local_task_lost(planter: Planter) -> None:
    """A step ends while a local task runs, and no message stands for it."""

    @planter.wrap(LocalTasks, "_send")
    def send(original: Part, self: Any, under_way: Any, step: Any, entry: Any) -> None:
        entry.attempt.stop()


@bug(LOCAL)
def local_task_not_adopted(planter: Planter) -> None:
    """A local task whose step has ended is stopped, though the message says that it runs."""
    planter.put_result(LocalAttempts, "adopt", None)


@bug(LOCAL, "local_limits")
def local_step_without_end(planter: Planter) -> None:
    """A step waits for its local tasks for ever, also when a timer is due."""
    planter.put_result(LocalTasks, "_find_end", math.inf)


@bug(LOCAL, "local_cancelled")
def cancel_waits_for_local_task(planter: Planter) -> None:
    """Another message waits until the local tasks of the step before have ended."""
    planter.put(lane_attempts, "PATIENCE_SECONDS", 3600.0)
    planter.put(local_tasks, "LONGEST_SECONDS", 200_000.0)


@bug(LOCAL)
def local_cancellation_lost(planter: Planter) -> None:
    """What the code cancels of its own step is asked for all the same."""

    @planter.wrap(local_tasks, "stop_cancelled")
    def stop(original: Part, *given: Any) -> None:
        """Stop nothing."""


@bug(LOCAL)
def local_retry_of_other_failure(planter: Planter) -> None:
    """The next attempt in place has the number of the one before."""

    @planter.wrap(local_tasks, "make_next")
    def make(original: Part, before: Any, effect: Any, now: float) -> Any:
        return replace(original(before, effect, now), retry_index=effect.retry_index - 1)


@bug(LOCAL)
def local_tasks_of_run_before_sent(planter: Planter) -> None:
    """What is left of a run is sent, though the next run has begun in the same step."""

    def end_run(under_way: Any, step: Any) -> None:
        step.effects = len(step.draft.outbox)

    planter.put(local_tasks, "end_run", end_run)
