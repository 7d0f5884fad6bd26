"""S7: each task of a batch has its own middlewares, around one call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import (
    CallNext,
    ExponentialBackoff,
    Middleware,
    TaskContext,
    TaskFailedError,
    Workflow,
    batch,
    task,
    task_context,
)
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation


class Payments:
    """Its batch method notes what it gets."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    @task(retry=ExponentialBackoff(maximum_retries=1, minimum_seconds=1, random_factor=0))
    async def charge(self, euros: int) -> str:
        raise NotImplementedError

    @task(attempt_timeout=10)
    @batch("charge", max_seconds=1.0)
    async def charge_all(self, tasks: dict[str, int]) -> dict[str, Any]:
        self.calls.append(sorted(tasks.values()))
        if 666 in tasks.values():
            raise OSError("all are lost")
        if 60 in tasks.values():
            await asyncio.sleep(60)
        return {task_id: _answer(euros) for task_id, euros in tasks.items() if euros != 404}


def _answer(euros: int) -> str | Exception:
    return LookupError("no money") if euros == 13 else f"paid {euros}"


class Shop(Workflow):
    payments = Workflow.new_service(Payments)

    async def sell(self, prices: list[int]) -> list[str]:
        return await asyncio.gather(*(self._sell_one(price) for price in prices))

    async def _sell_one(self, price: int) -> str:
        try:
            return await self.payments.charge(price)
        except TaskFailedError as error:
            return str(error.last_failure.exception)


class Checks(Middleware):
    """Refuses some, changes others, and notes the rest."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        (euros,) = context.args
        assert task_context() is context
        if euros < 0:
            raise PermissionError("less than nothing")
        if euros == 7:
            await asyncio.sleep(5)
        if euros == 8:
            return "free"
        try:
            result = await call_next()
        except BaseException as error:
            self.outcomes.append(f"{euros} {type(error).__name__} {context.retry_index}")
            raise
        self.outcomes.append(f"{euros} {result}")
        return f"<{result}>"


def play(prices: list[int], *middleware: Middleware) -> tuple[list[str], list[list[int]]]:
    async def main() -> tuple[list[str], list[list[int]]]:
        async with Simulation(middleware=middleware) as sim:
            payments = Payments()
            sim.add_service(payments)
            sim.add_workflow(Shop)
            return await sim.client.new_workflow(Shop).sell(prices), payments.calls

    return run(main())


def test_each_task_has_its_own_chain_and_all_share_one_call() -> None:
    """S7: one that is refused is not in the call, the others wait for one that is slow."""
    checks = Checks()
    sold, calls = play([1, -1, 7, 13, 404], checks)
    assert sold == [
        "<paid 1>",
        "PermissionError: less than nothing",
        "<paid 7>",
        "LookupError: no money",
        "MissingResult: Payments.charge_all returned no result for this task: its id is not in the dict",
    ]
    # What failed, but for a missing result, is tried again as its policy says.
    assert calls == [[1, 7, 13, 404], [13]]
    assert checks.outcomes == [
        # 7 came last to the call.
        *("1 paid 1", "13 LookupError 0", "404 MissingResult 0", "7 paid 7"),
        "13 LookupError 1",
    ]


def test_what_the_call_raises_reaches_each_chain() -> None:
    checks = Checks()
    sold, calls = play([1, 666], checks)
    assert sold == ["OSError: all are lost"] * 2
    assert calls == [[1, 666]] * 2
    assert checks.outcomes == [f"{euros} OSError {attempt}" for attempt in (0, 1) for euros in (1, 666)]


def test_a_batch_that_takes_too_long_times_out_in_each_chain() -> None:
    checks = Checks()
    sold, _ = play([60], checks)
    assert sold == ["AttemptTimedOut: The attempt took longer than 10 s"]
    assert checks.outcomes == ["60 AttemptTimedOut 0", "60 AttemptTimedOut 1"]


def test_one_that_forgets_the_next_fails_its_task_alone() -> None:
    sold, calls = play([8, 9], Checks())
    assert sold[1] == "<paid 9>"
    assert sold[0].startswith("MiddlewareError: Checks.execute_task returned without")
    assert calls == [[9]]


@pytest.mark.infinitic(seeds=25, middleware=[Checks()])
async def test_batches_inside_middlewares_survive_faults(sim: Simulation) -> None:
    """S7."""
    sim.add_service(Payments())
    sim.add_workflow(Shop)
    start = sim.client.new_workflow(Shop).sell
    sold = await asyncio.gather(*(start([number, -number - 1, 13]) for number in (1, 2, 3)))
    assert [each[0] for each in sold] == ["<paid 1>", "<paid 2>", "<paid 3>"]
    assert all(each[1].startswith("PermissionError") for each in sold)
