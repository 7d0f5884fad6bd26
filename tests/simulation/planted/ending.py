"""Bugs in what is ended from outside: workflows, methods, tasks and timers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from infinitic.engines import timers
from infinitic.engines.effects import Answer
from infinitic.engines.state import TimerKind, WorkflowHead
from infinitic.engines.workflow import tasks
from infinitic.messages import engine as inputs, events
from infinitic.replay.instance import Instance
from infinitic.runtime.service_executor.running import TaskRunner
from tests.simulation.planted.planting import DECIDE, TERMINATE, Part, Planter, bug

ENDING = "engine, endings"


@bug(ENDING)
def timed_out_task_goes_on(planter: Planter) -> None:
    """The total timeout of a task is over, and nobody is told to stop it."""
    planter.put_result(tasks, "cancel_positions", None)


@bug(ENDING, "deletes")
def deletion_that_keeps_the_retention(planter: Planter) -> None:
    """Who deletes an instance is told that it is done, and it stays until its retention ends."""

    @planter.wrap_handler(inputs.Delete)
    def delete(original: Part, head: WorkflowHead, message: Any, now: float) -> Any:
        result = original(head, message, now)
        return replace(result, head=replace(result.head, retention=head.retention))


@bug(ENDING)
def cancelled_task_goes_on(planter: Planter) -> None:
    """Code cancels a task, and nobody is told to stop it."""
    planter.put_result(DECIDE, "cancel_positions", None)


@bug(ENDING)
def closed_instance_leaves_tasks_running(planter: Planter) -> None:
    """A cancelled instance closes, and nobody is told to stop the tasks that it leaves."""
    planter.put_result(DECIDE, "cancel_rest", None)


@bug(ENDING)
def cleanup_stopped_with_the_rest(planter: Planter) -> None:
    """A cancelled instance that closes also stops what its clean-up has asked for."""

    @planter.wrap(DECIDE, "cancel_rest")
    def cancel_rest(original: Part, head: WorkflowHead, cleanup: int, closed: Collection[int]) -> Any:
        return original(head, 10**9, closed)


@bug(ENDING)
def waiting_task_told_to_stop_too_early(planter: Planter) -> None:
    """Not the task that is cancelled is told to stop, but the one before it."""

    @planter.wrap(DECIDE, "cancel_positions")
    def cancel_positions(original: Part, head: WorkflowHead, closed: Collection[int]) -> Any:
        return original(head, {each - 1 for each in closed})


@bug(ENDING)
def cancelled_attempt_never_acknowledged(planter: Planter) -> None:
    """An attempt that was told to stop has ended, and its message is not acknowledged."""

    def drop(self: Any, work: Any) -> None:
        del self._in_hand.works[work.attempt]

    planter.put(TaskRunner, "_drop", drop)


@bug(ENDING)
def one_method_cancels_all(planter: Planter) -> None:
    """The cancellation of one method reaches the code as that of the whole instance."""

    @planter.wrap(Instance, "_apply")
    def apply(original: Part, self: Any, stimulus: Any) -> None:
        original(self, events.CancelRequested() if isinstance(stimulus, events.CancelRequested) else stimulus)


@bug(ENDING)
def method_begins_in_a_cancelled_instance(planter: Planter) -> None:
    """A method that is called after the cancellation begins beside the clean-up."""

    @planter.wrap_handler(inputs.CallMethod)
    def call(original: Part, head: WorkflowHead, message: inputs.CallMethod, now: float) -> Any:
        result = original(replace(head, canceling=False), message, now)
        return result if result.head is None else replace(result, head=replace(result.head, canceling=head.canceling))


@bug(ENDING)
def terminated_instance_answers_nobody(planter: Planter) -> None:
    """An instance is terminated, and whoever waits for it is not told."""

    @planter.wrap_handler(inputs.Terminate)
    def terminate(original: Part, head: WorkflowHead, message: inputs.Terminate, now: float) -> Any:
        result = original(head, message, now)
        return replace(result, outbox=tuple(each for each in result.outbox if not isinstance(each, Answer)))


@bug(ENDING)
def terminated_instance_keeps_its_timers(planter: Planter) -> None:
    """A terminated instance still has the timers that were open."""

    @planter.wrap_handler(inputs.Terminate)
    def terminate(original: Part, head: WorkflowHead, message: inputs.Terminate, now: float) -> Any:
        result = original(head, message, now)
        return replace(result, head=replace(result.head, timers=head.timers))


@bug(ENDING)
def terminated_instance_leaves_tasks_running(planter: Planter) -> None:
    """An instance is terminated, and nobody is told to stop its tasks and children."""
    planter.put_result(TERMINATE, "cancel_all", None)


@bug(ENDING)
def lost_activation_not_noted(planter: Planter) -> None:
    """The history does not say that the commands of the last activation are missing."""

    @planter.wrap_handler(inputs.Terminate)
    def terminate(original: Part, head: WorkflowHead, message: inputs.Terminate, now: float) -> Any:
        result = original(head, message, now)
        abandoned = [replace(each, unanswered=False) for each in result.events]
        return replace(result, events=tuple(abandoned))


@bug(ENDING)
def limits_completed_as_timers(planter: Planter) -> None:
    """Whoever completes timers also ends the limits of `asyncio.timeout`."""

    def take_completable(blocks: timers.Blocks, method: str | None) -> Any:
        left = tuple(block for block in blocks if block.kind is not TimerKind.TIMER)
        taken = [block for block in blocks if block.kind is TimerKind.TIMER]
        return left, sorted(timers.list_timers(taken))

    planter.put(timers, "take_completable", take_completable)


@bug(ENDING)
def timers_of_all_methods_completed(planter: Planter) -> None:
    """Whoever completes the timers of one method completes those of all."""

    @planter.wrap(timers, "take_completable")
    def take_completable(original: Part, blocks: timers.Blocks, method: str | None) -> Any:
        return original(blocks, None)


@bug(ENDING)
def completed_timers_not_deduplicated(planter: Planter) -> None:
    """The wish to complete timers is taken again when it comes again."""

    @planter.wrap_handler(inputs.CompleteTimers)
    def complete(original: Part, head: WorkflowHead, message: inputs.CompleteTimers, now: float) -> Any:
        return replace(original(head, message, now), deduplication_id=None)
