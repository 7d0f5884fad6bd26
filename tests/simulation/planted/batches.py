"""Bugs in batches of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinitic.runtime.service_executor import batch_attempts, batching
from infinitic.runtime.service_executor.batch_attempts import BatchAttempts
from infinitic.runtime.service_executor.batch_running import BatchRunner
from infinitic.runtime.service_executor.batching import Batching
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.work import Batch, Work
from tests.simulation.planted.planting import Part, Planter, bug

BATCHES = "batches"


def _is_forgotten(work: Work, results: object) -> bool:
    return isinstance(results, Mapping) and work.message.task_id not in results


def _make_early(original: Part) -> Part:
    def init(self: Any, *args: Any) -> None:
        original(self, *args)
        self._is_late = False

    return init


@bug(BATCHES)
def batch_fails_with_one_of_its_tasks(planter: Planter) -> None:
    """If one task of a batch fails, all others in it fail as well."""

    @planter.wrap(batch_attempts, "_read_results")
    def read_results(original: Part, *args: Any) -> Any:
        results: Mapping[str, object] = original(*args)
        errors = [each for each in results.values() if isinstance(each, LookupError)]
        return dict.fromkeys(results, errors[0]) if errors else results


@bug(BATCHES)
def results_by_order(planter: Planter) -> None:
    """The results of a batch are handed to its tasks in another order."""

    @planter.wrap(batch_attempts, "_read_results")
    def read_results(original: Part, *args: Any) -> Any:
        results: Mapping[str, object] = original(*args)
        return dict(zip(results, reversed(list(results.values())), strict=True))


@bug(BATCHES)
def forgotten_tasks_are_acked(planter: Planter) -> None:
    """A task without a result is acknowledged, and its workflow is told nothing."""

    @planter.wrap(BatchAttempts, "_report")
    async def report(original: Part, self: Any, work: Work, task: Any, method: Any, tasks: Any, *rest: Any) -> Any:
        return None if _is_forgotten(work, rest[0]) else await original(self, work, task, method, tasks, *rest)


@bug(BATCHES)
def forgotten_tasks_are_tried_again(planter: Planter) -> None:
    """A task without a result follows its retry policy, for ever."""

    @planter.wrap(BatchAttempts, "_report")
    async def report(original: Part, self: Any, work: Work, task: Any, method: Any, tasks: Any, *rest: Any) -> Any:
        results, *more = rest
        if _is_forgotten(work, results):
            results = ConnectionError("no result")
        return await original(self, work, task, method, tasks, results, *more)


@bug(BATCHES)
def batch_keys_ignored(planter: Planter) -> None:
    """Tasks with different batch keys are in one batch."""
    planter.put(batching, "BATCH_KEY", "no such key")


@bug(BATCHES)
def full_batches_stay_open(planter: Planter) -> None:
    """A batch takes more tasks than it may, as long as its time is not over."""

    @planter.wrap(Batching, "_close")
    def close(original: Part, self: Any, batch: Batch) -> None:
        if self._is_late:
            original(self, batch)

    @planter.wrap(Batching, "_close_late")
    def close_late(original: Part, self: Any, batch: Batch) -> None:
        self._is_late = True
        original(self, batch)
        self._is_late = False

    planter.put(Batching, "__init__", _make_early(Batching.__init__))


@bug(BATCHES)
def old_batches_stay_open(planter: Planter) -> None:
    """A batch runs only when it is full, however long its tasks have waited."""
    planter.put_result(Batching, "_close_late", None)


@bug(BATCHES)
def full_batch_drops_its_first_task(planter: Planter) -> None:
    """When a batch is closed, its first task is not in it any more."""

    @planter.wrap(Batching, "_close")
    def close(original: Part, self: Any, batch: Batch) -> None:
        if len(batch.works) > 1:
            batch.works.pop(next(iter(batch.works)))
        original(self, batch)


@bug(BATCHES)
def batch_acked_when_it_begins(planter: Planter) -> None:
    """The tasks of a batch are acknowledged when it begins to run, before any is reported."""

    @planter.wrap(BatchRunner, "run")
    async def run(original: Part, self: Any, batch: Batch, is_ending: Any) -> None:
        for work in batch.works.values():
            self._resender.ack_soon(list(work.deliveries))
        await original(self, batch, is_ending)


@bug(BATCHES)
def cancelled_tasks_stay_in_the_batch(planter: Planter) -> None:
    """A task that is cancelled while its batch waits stays there without being in hand."""

    @planter.wrap(TasksInHand, "remove_waiting")
    def remove_waiting(original: Part, self: TasksInHand, work: Work) -> None:
        if work.batch is None:
            original(self, work)
        else:
            del self.works[work.attempt]
