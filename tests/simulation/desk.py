"""A service of one task, made of whatever function a test is about, and a workflow that waits for it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

import pytest

from infinitic import TaskFailedError, TaskFailure, Worker, Workflow, service, task


class Desk:
    """The contract."""

    async def work(self, text: str) -> str:
        raise NotImplementedError

    async def unknown(self, text: str) -> str:
        raise NotImplementedError

    def block(self, text: str) -> str:
        raise NotImplementedError


class Job(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self, text: str) -> str:
        return await self.desk.work(text)

    async def run_unknown(self, text: str) -> str:
        return await self.desk.unknown(text)

    async def run_blocking(self, text: str) -> str:
        return await self.dispatch(self.desk.block, text)


def desk(work: Callable[..., Any], *, retry: Callable[[int, Exception], Any] | None = None, **options: Any) -> object:
    """A `Desk` whose `work` (and `block`, if it is a plain function) this is."""
    assert isinstance(work, FunctionType)
    own = FunctionType(work.__code__, work.__globals__, work.__name__, work.__defaults__, work.__closure__)
    own.__annotations__ = work.__annotations__
    decorated = task(retry=retry, **options)(own)
    members = {"work": decorated} if inspect.iscoroutinefunction(work) else {"block": decorated}
    return service(name="Desk")(type("DeskImplementation", (), members))()


def always(delay: Any) -> Callable[[int, Exception], Any]:
    """A retry policy that gives this delay, whatever it is."""

    def policy(retry_index: int, error: Exception) -> Any:
        return delay

    return policy


async def failure_of(outcome: Awaitable[object]) -> TaskFailure:
    """Why the task behind a workflow failed."""
    with pytest.raises(Exception, match="failed") as caught:
        await outcome
    cause = getattr(caught.value, "cause", None)
    assert isinstance(cause, TaskFailedError)
    return cause.last_failure


def hosting(worker: Worker, implementation: object) -> Worker:
    """A worker with this service and the workflow."""
    worker.add_service(implementation)
    worker.add_workflow(Job)
    return worker
