"""Workflows, and what a client does with them. Most simulations run all of these cases.

The answers of the services depend only on the arguments and the number of the attempt, not on how
often they ran. So the outcome is the same, whatever runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from infinitic import (
    Channel,
    Client,
    ExponentialBackoff,
    TaskFailedError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    task,
    task_context,
)
from infinitic.definitions.service_contract import implementation_of


class Numbers:
    """Tasks that add, fail a few times, always fail, or take long."""

    async def add(self, x: int, y: int) -> int:
        return x + y

    @task(retry=ExponentialBackoff(minimum_seconds=1.0, random_factor=0.0, maximum_retries=3))
    async def stumble(self, x: int, times: int) -> int:
        if task_context().retry_index < times:
            raise ValueError(f"attempt {task_context().retry_index} of {x}")
        return x

    async def fail(self, x: int) -> int:
        raise LookupError(f"no {x}")

    async def wait(self, x: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return x


NUMBERS = implementation_of(Numbers(), retry=None, attempt_timeout=None)
"""It has no state, so all workers host this one, and its signatures are read only once."""


class Sequential(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self, start: int) -> int:
        total = await self.numbers.add(start, 1)
        total = await self.numbers.add(total, 2)
        return await self.numbers.add(total, 3)


class Parallel(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self, width: int) -> list[int]:
        first = await asyncio.gather(*(self.numbers.add(index, index) for index in range(width)))
        second = [self.dispatch(self.numbers.add, each, 1) for each in first]
        return [await each for each in second]


class Retries(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> list[int]:
        stumbling = self.dispatch(self.numbers.stumble, 7, 2)
        fine = await self.numbers.stumble(8, 0)
        return [fine, await stumbling]


class Timers(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> list[str]:
        began = self.now()
        log = list[str]()
        try:
            async with asyncio.timeout(2.0):
                await self.numbers.wait(1, 60.0)
        except TimeoutError:
            log.append("too slow")
        fast = self.dispatch(self.numbers.add, 1, 1)
        winner = await (fast | self.timer(timedelta(hours=30)))
        log.append(f"winner {winner}")
        await asyncio.sleep(100_000.0)
        log.append("on time" if self.now() - began >= timedelta(seconds=100_002) else "early")
        return log


class Approval(Workflow):
    numbers = Workflow.new_service(Numbers)
    approvals = Channel[str]()

    async def run(self) -> list[str]:
        got = list[str]()
        receiver = self.approvals.receive()
        while len(got) < 2:
            got.append(await receiver)
        total = await self.numbers.add(1, len(got))
        late = self.approvals.receive()
        await (late | self.timer(timedelta(hours=30)))
        return [*got, str(total), "late" if late.is_completed() else "never"]

    async def note(self, text: str) -> str:
        return f"{text} {await self.numbers.add(2, 2)}"


class Cleanup(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> int:
        undone = 0
        try:
            return await self.numbers.wait(1, 50.0)
        finally:
            undone += await self.numbers.add(40, 1)
            await self.numbers.add(undone, 1)


class Failure(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def run(self) -> int:
        try:
            await self.numbers.fail(1)
        except TaskFailedError as error:
            if error.last_failure.exception.short_name != "LookupError":
                raise
        self.dispatch(self.numbers.add, 1, 1)  # fire and forget
        return await self.numbers.fail(2)


class Inline(Workflow):
    """Each run of a step draws another number. If two workers run it, only one may count."""

    numbers = Workflow.new_service(Numbers)

    async def run(self) -> bool:
        first = self.inline(_draw)
        echo = await self.numbers.add(first, 0)
        second = self.inline(_draw)
        both = await asyncio.gather(self.numbers.add(second, 0), self.numbers.add(first, second))
        return [echo, *both] == [first, second, first + second]


_drawn = count(1)


def _draw() -> int:
    return next(_drawn)


@dataclass(frozen=True)
class Case:
    """Workflows with their services, and what a client does with them.

    Attributes:
        name: for the ids of tests.
        workflows: the classes.
        scenario: what the client does. It returns the outcome.
        services: factories of the services.
    """

    name: str
    workflows: tuple[type[Workflow], ...]
    scenario: Callable[[Client], Coroutine[Any, Any, object]]
    services: tuple[Callable[[], object], ...] = (lambda: NUMBERS,)


async def _run_sequential(client: Client) -> object:
    return await client.new_workflow(Sequential).run(1)


async def _run_parallel(client: Client) -> object:
    return await client.new_workflow(Parallel).run(3)


async def _run_retries(client: Client) -> object:
    return await client.new_workflow(Retries).run()


async def _run_timers(client: Client) -> object:
    return await client.new_workflow(Timers).run()


async def _run_approval(client: Client) -> object:
    handle = await client.dispatch(client.new_workflow(Approval).run)
    stub = client.get_workflow_by_id(Approval, handle.workflow_id)
    await stub.approvals.send("first")
    noted = await stub.note("noted")
    await stub.approvals.send("second", confirm=True)
    return [noted, await handle.result()]


async def _run_cleanup(client: Client) -> object:
    handle = await client.dispatch(client.new_workflow(Cleanup).run)
    await asyncio.sleep(10.0)
    await client.cancel(handle, confirm=True)
    try:
        return await handle.result()
    except WorkflowCanceledError:
        return "cancelled"


async def _run_failure(client: Client) -> object:
    try:
        return await client.new_workflow(Failure).run()
    except WorkflowFailedError as error:
        cause = error.cause
        assert isinstance(cause, TaskFailedError)
        return [error.failure.short_name, str(cause.last_failure.exception)]


async def _run_inline(client: Client) -> object:
    return await client.new_workflow(Inline).run()


async def _run_crowd(client: Client) -> object:
    return await asyncio.gather(*(client.new_workflow(Sequential).run(start) for start in range(4)))


class Helper(Workflow):
    numbers = Workflow.new_service(Numbers)
    go = Channel[int]()

    async def help(self, x: int) -> int:
        if x < 0:
            raise LookupError("no help")
        return await self.numbers.add(x, 1)

    async def wait(self) -> int:
        return await self.go.receive()

    async def look(self, x: int) -> int:
        return x


class Family(Workflow):
    helper = Workflow.new_workflow(Helper)

    async def run(self) -> list[object]:
        waiting = self.dispatch(self.helper.wait)
        left = self.dispatch(self.helper.wait)
        helped = await asyncio.gather(*(self.helper.help(each) for each in range(2)))
        try:
            await self.helper.help(-1)
        except WorkflowFailedError as error:
            helped.append(len(error.failure.message))
        other = self.get_workflow_by_id(Helper, waiting.id)
        looked = await other.look(7)
        await other.go.send(8)
        left.cancel()
        return [*helped, looked, await waiting]


async def _run_family(client: Client) -> object:
    return await client.new_workflow(Family).run()


CASES = (
    Case("sequential", (Sequential,), _run_sequential),
    Case("parallel", (Parallel,), _run_parallel),
    Case("retries", (Retries,), _run_retries),
    Case("timers", (Timers,), _run_timers),
    Case("approval", (Approval,), _run_approval),
    Case("cleanup", (Cleanup,), _run_cleanup),
    Case("failure", (Failure,), _run_failure),
    Case("inline", (Inline,), _run_inline),
    Case("family", (Family, Helper), _run_family),
)

CROWD = Case("crowd", (Sequential,), _run_crowd)
"""Several instances at once."""


def by_name(name: str) -> Case:
    """One of the cases, by its name."""
    return next(case for case in CASES if case.name == name)
