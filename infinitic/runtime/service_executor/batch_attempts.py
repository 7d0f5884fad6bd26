"""One call for the attempts of a batch: decode the arguments, call, and report for each task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from infinitic.definitions.batch_methods import BatchMethod
from infinitic.definitions.service_contract import TaskImplementation
from infinitic.errors import ExceptionDetail, PayloadUnavailable
from infinitic.failures import describe
from infinitic.runtime.service_executor.attempt import Attempts, Code
from infinitic.runtime.service_executor.batch_layers import LayeredBatch, MissingResult
from infinitic.runtime.service_executor.current_task import CurrentBatch, CurrentTask, current_batch
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.runtime.service_executor.work import Batch, Work
from infinitic.transport import Outgoing

_logger = logging.getLogger("infinitic.executor")

Settle = Callable[[Work, Outgoing | PayloadUnavailable | None], object]
"""Takes an attempt out of its batch.

It gets the report; or why the arguments cannot be decoded now; or None if nobody waits for the
task any more.
"""


class BatchAttempts:
    """Runs the attempts of batches.

    Args:
        attempts: what runs attempts of the same service one by one.
    """

    def __init__(self, attempts: Attempts) -> None:
        self.service = attempts.service
        self._attempts = attempts

    async def run(self, batch: Batch, is_ending: Callable[[], bool], settle: Settle) -> None:
        """Run all attempts of a batch that are not settled yet.

        Args:
            batch: the batch.
            is_ending: says whether a cancellation comes from the end of the executor.
            settle: called once for each attempt, as soon as it is known what becomes of it.

        Raises:
            asyncio.CancelledError: the executor is ending, or nobody waits for any of the tasks.
            SystemExit: the batch method raised it, as it may raise `KeyboardInterrupt`.
        """
        task = self.service.tasks[batch.task]
        method = task.batch
        assert method is not None
        began_at = self._attempts.clock.now()
        arguments = await self._prepare(batch, task, method, began_at, settle)
        works = {task_id: batch.works[task_id] for task_id in arguments}
        if not works:
            return
        _logger.debug("%s runs %d tasks", method.name, len(works))
        make_context = self._attempts.make_context
        tasks = {task_id: CurrentTask(work.message, make_context) for task_id, work in works.items()}
        batch.current = current = CurrentBatch(method.name, tasks)
        for task_id, work in works.items():
            work.begin(tasks[task_id])
        variables = copy_context()
        variables.run(current_batch.set, current)
        code = Code(method.function, method.is_coroutine, task.attempt_timeout)

        async def call(chosen: dict[str, Any]) -> Mapping[Any, Any] | MissingResult:
            returned = _read_results(method, await self._attempts.call(code, current, variables, (chosen,), {}))
            if not isinstance(returned, MissingResult):
                _warn_of_others(method, returned, chosen)
            return returned

        results: Mapping[Any, Any] | BaseException
        layers = self._attempts.layers
        try:
            if layers:
                _show_arguments(method, tasks, arguments)
                results = await LayeredBatch(method.name, layers, tasks, arguments, call).run()
            else:
                results = await call(arguments)
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            if is_ending():
                current.cancel()
                raise
            results = error
        except BaseException as error:  # noqa: BLE001 (whatever it raises is the failure of each task)
            results = error
        described: dict[int, ExceptionDetail] = {}
        for work in works.values():
            report = None
            if not work.is_cancelled:
                report = await self._report(work, task, method, tasks, results, began_at, described)
            settle(work, report)

    async def _prepare(
        self, batch: Batch, task: TaskImplementation, method: BatchMethod, began_at: float, settle: Settle
    ) -> dict[str, Any]:
        """Decode what the batch method gets, by the ids of the tasks. What cannot be is settled."""
        attempts = self._attempts
        works = list(batch.works.values())
        prepared = [self._read(work, task, method) for work in works]
        # Together, so that all of them wait no longer for the payload codec than one does.
        decoded = await asyncio.gather(*prepared) if attempts.has_coder else [await each for each in prepared]
        arguments: dict[str, Any] = {}
        for work, (argument, error) in zip(works, decoded, strict=True):
            message = work.message
            if work.is_cancelled:
                settle(work, None)
            elif message.deaths >= MAX_DEATHS:
                settle(work, attempts.report_deaths(message))
            elif error is None:
                arguments[work.task_id] = argument
            elif isinstance(error, PayloadUnavailable):
                settle(work, error)
            else:
                settle(work, attempts.failures.make_final(message, error, began_at))
        return arguments

    async def _read(self, work: Work, task: TaskImplementation, method: BatchMethod) -> tuple[Any, Exception | None]:
        """Decode the arguments of one task.

        Returns:
            What the batch method gets for it. If that cannot be: None, and what is wrong.
        """
        try:
            args, kwargs = await self._attempts.decode_arguments(work.message, task.signature)
        except Exception as error:  # noqa: BLE001 (codecs are the user's too: reported, not raised)
            return None, error
        return method.join_arguments(args, kwargs), None

    async def _report(
        self,
        work: Work,
        task: TaskImplementation,
        method: BatchMethod,
        tasks: Mapping[str, CurrentTask],
        results: Mapping[Any, Any] | BaseException,
        began_at: float,
        described: dict[int, ExceptionDetail],
    ) -> Outgoing:
        """Make the report of one task.

        Args:
            work: the attempt.
            task: the task.
            method: its batch method.
            tasks: the attempts of the batch, whose contexts may have been changed.
            results: what the batch method returned or raised.
            began_at: when the batch began, in seconds since the Unix epoch.
            described: errors that were described before, by their `id`. One error is often that of
                all tasks, and to describe it takes longer than all the rest.
        """
        message, failures = work.message, self._attempts.failures
        if isinstance(results, MissingResult):
            return failures.make_final(message, results, began_at)
        result: object = results
        if isinstance(results, Mapping):
            if work.task_id not in results:
                missing = MissingResult(f"{method.name} returned no result for this task: its id is not in the dict")
                return failures.make_final(message, missing, began_at)
            result = results[work.task_id]
        if isinstance(result, MissingResult):
            return failures.make_final(message, result, began_at)
        if isinstance(result, BaseException):
            detail = described.get(id(result))
            if detail is None:
                detail = described[id(result)] = describe(result)
            return failures.make(message, result, task, tasks[work.task_id].context.meta, began_at, detail)
        return await self._attempts.report_value(message, task.signature, result, began_at)


def _read_results(method: BatchMethod, returned: object) -> Mapping[Any, Any] | MissingResult:
    """Read what a batch method returned, which may be any mapping."""
    if isinstance(returned, Mapping):
        return dict(returned)  # pyright: ignore[reportUnknownArgumentType] (of whatever keys and values)
    kind = type(returned).__qualname__
    return MissingResult(f"{method.name} returned no dict of results by the ids of the tasks, but a {kind}")


def _show_arguments(method: BatchMethod, tasks: Mapping[str, CurrentTask], arguments: Mapping[str, Any]) -> None:
    """Give the contexts the arguments of their tasks, for middlewares."""
    single = len(method.parameters) == 1
    for task_id, task in tasks.items():
        argument = arguments[task_id]
        task.context.args = (argument,) if single else argument


def _warn_of_others(method: BatchMethod, results: Mapping[Any, Any], tasks: Mapping[str, Any]) -> None:
    """Log that there are results for what was no task of the batch: they are dropped."""
    if others := [key for key in results if key not in tasks]:
        _logger.warning(
            "%s returned %d results whose keys are no ids of its tasks, such as %.100r",
            method.name,
            len(others),
            others[0],
        )
