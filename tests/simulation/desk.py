"""A service made of any function, and a workflow that waits for its task."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

import pytest

from infinitic import TaskFailedError, TaskFailure, Worker, Workflow, service, task


class Desk:
    """The contract of the service."""

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


def make_desk(
    work: Callable[..., Any], *, retry: Callable[[int, Exception], Any] | None = None, **options: Any
) -> object:
    """Make a `Desk` of a function: its task `work`, or `block` if the function is a plain one.

    Args:
        work: the function.
        retry: the retry policy of the task.
        options: further options of `@task`.
    """
    assert isinstance(work, FunctionType)
    own = FunctionType(work.__code__, work.__globals__, work.__name__, work.__defaults__, work.__closure__)
    own.__annotations__ = work.__annotations__
    decorated = task(retry=retry, **options)(own)
    members = {"work": decorated} if inspect.iscoroutinefunction(work) else {"block": decorated}
    return service(name="Desk")(type("DeskImplementation", (), members))()


def always(delay: Any) -> Callable[[int, Exception], Any]:
    """Make a retry policy that always returns this delay, even an impossible one."""

    def policy(retry_index: int, error: Exception) -> Any:
        return delay

    return policy


async def failure_of(outcome: Awaitable[object]) -> TaskFailure:
    """Wait for a workflow that fails because of its task, and return the failure of the task."""
    with pytest.raises(Exception, match="failed") as caught:
        await outcome
    cause = getattr(caught.value, "cause", None)
    assert isinstance(cause, TaskFailedError)
    return cause.last_failure


def host_desk(worker: Worker, implementation: object) -> Worker:
    """Give a worker this service and the workflow."""
    worker.add_service(implementation)
    worker.add_workflow(Job)
    return worker
