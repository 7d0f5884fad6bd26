"""Runs the tasks of a batch inside middlewares: each task has its own chain, all share one call.

The call begins when every chain has come to its end, or has ended without: a task that a middleware
refuses is not in the call. Then each chain goes on with the outcome of its own task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any

from infinitic.errors import InfiniticError
from infinitic.middleware.chain import Layer, run_through
from infinitic.runtime.service_executor.current_task import CurrentTask, current_task


class MissingResult(InfiniticError):
    """The batch method has returned no result for this task."""


Call = Callable[[dict[str, Any]], Awaitable[Mapping[Any, Any] | MissingResult]]
"""Calls the batch method with the arguments of some tasks, by their ids."""


class LayeredBatch:
    """One batch inside middlewares.

    Args:
        name: the name of the batch method, for people.
        layers: the middlewares, outermost first.
        tasks: the attempts, by the ids of their tasks.
        arguments: what the batch method gets for each of them.
        call: calls the batch method.
    """

    def __init__(
        self,
        name: str,
        layers: tuple[Layer[Any], ...],
        tasks: Mapping[str, CurrentTask],
        arguments: Mapping[str, Any],
        call: Call,
    ) -> None:
        self._name = name
        self._layers = layers
        self._tasks = tasks
        self._arguments = arguments
        self._call = call
        # Those that wait for the call, and then their outcomes.
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._called: Mapping[Any, Any] | BaseException = {}
        self._traceback: TracebackType | None = None
        self._outcomes: dict[str, object] = {}
        self._changed = asyncio.Event()

    async def run(self) -> dict[str, object]:
        """Run all chains, and the call.

        Returns:
            What the middlewares have returned for each task, or the exception that they raised.

        Raises:
            asyncio.CancelledError: the whole batch was cancelled.
            SystemExit: the batch method or a middleware raised it, or `KeyboardInterrupt`.
        """
        loop = asyncio.get_running_loop()
        chains: list[asyncio.Task[None]] = []
        try:
            for task_id, task in self._tasks.items():
                variables = copy_context()
                variables.run(current_task.set, task)
                chains.append(loop.create_task(self._run_chain(task_id, task), context=variables))
            while len(self._waiting) + len(self._outcomes) < len(self._tasks):
                self._changed.clear()
                await self._changed.wait()
            if self._waiting:
                await self._run_call()
            await asyncio.gather(*chains)
        finally:
            for chain in chains:
                chain.cancel()
            await asyncio.gather(*chains, return_exceptions=True)
        for outcome in self._outcomes.values():
            if isinstance(outcome, SystemExit | KeyboardInterrupt):
                raise outcome
        return self._outcomes

    async def _run_chain(self, task_id: str, task: CurrentTask) -> None:
        """Run the chain of one task. Whatever it raises is the outcome of this task alone."""
        try:
            outcome: object = await run_through(self._layers, task.context, partial(self._wait_for_call, task_id))
        except asyncio.CancelledError as error:
            # That of the whole batch counts no tasks.
            outcome = error
        except BaseException as error:  # noqa: BLE001 (also SystemExit: an asyncio task would end the loop)
            outcome = error
        self._waiting.pop(task_id, None)
        self._outcomes[task_id] = outcome
        self._changed.set()

    async def _wait_for_call(self, task_id: str) -> object:
        waiting = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        self._changed.set()
        await waiting
        called = self._called
        if isinstance(called, BaseException):
            # One error is that of many tasks. Its traceback must not grow with each of them.
            raise called.with_traceback(self._traceback)
        if task_id not in called:
            raise MissingResult(f"{self._name} returned no result for this task: its id is not in the dict")
        result: object = called[task_id]
        if isinstance(result, BaseException):
            raise result
        return result

    async def _run_call(self) -> None:
        waiting = dict(self._waiting)
        try:
            self._called = await self._call({task_id: self._arguments[task_id] for task_id in waiting})
        except (asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it raises is the failure of each task)
            self._called = error
            self._traceback = error.__traceback__
        self._waiting.clear()
        for each in waiting.values():
            if not each.done():
                each.set_result(None)
