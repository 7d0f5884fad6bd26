"""Tasks that run in batches: each has its own outcome, whatever becomes of the others.

The services look at each batch that they are given. What is wrong with one is in the outcome.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping

from infinitic import (
    ExponentialBackoff,
    TaskContext,
    TaskFailedError,
    TaskTimedOutError,
    Workflow,
    WorkflowCanceledError,
    all_of,
    batch,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import OFTEN, VERY_LONG, wait_for

MOST = 7
"""How many tasks are in a batch at most."""

STUBBORN = ExponentialBackoff(
    minimum_seconds=0.1, maximum_seconds=5.0, maximum_retries=10_000, ignored_exceptions=(LookupError,)
)


class Works:
    """Runs all its tasks in batches.

    Attributes:
        faults: what was wrong with batches.
        begun: how often a batch with a task has begun, by what the task was asked for.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.begun: Counter[int] = Counter()

    async def double(self, number: int) -> int:
        raise NotImplementedError

    def add(self, first: int, second: int = 1000) -> int:
        raise NotImplementedError

    async def hang(self, number: int) -> int:
        raise NotImplementedError

    async def outlast(self, number: int) -> int:
        raise NotImplementedError

    @task(retry=STUBBORN)
    @batch("double", max_messages=MOST, max_seconds=0.3)
    async def double_all(self, numbers: dict[str, int]) -> dict[str, int | Exception]:
        """Each seventh number is a failure, each fifth one only once. Each ninth is left out."""
        contexts = self._inspect(numbers)
        await asyncio.sleep(0.05)
        if any(number % 13 == 0 and contexts[each].retry_index == 0 for each, number in numbers.items()):
            raise ConnectionError("all of this batch")
        results: dict[str, int | Exception] = {}
        for each, number in numbers.items():
            if number % 7 == 0:
                results[each] = LookupError(f"no {number}")
            elif number % 5 == 0 and contexts[each].retry_index < 2:
                results[each] = ConnectionError("this one")
            elif number % 9:
                results[each] = 2 * number
        return results

    @task(retry=OFTEN)
    @batch("add", max_messages=MOST, max_seconds=0)
    def add_all(self, pairs: dict[str, tuple[int, int]]) -> Mapping[str, int]:
        self._inspect(pairs)
        return {each: first + second for each, (first, second) in pairs.items()}

    @task(retry=OFTEN, attempt_timeout=0.5)
    @batch("hang", max_messages=MOST, max_seconds=0.1)
    async def hang_all(self, numbers: dict[str, int]) -> dict[str, int]:
        """Hang once for each number."""
        contexts = self._inspect(numbers)
        if any(context.retry_index == 0 for context in contexts.values()):
            await asyncio.sleep(VERY_LONG)
        return dict(numbers)

    @task(retry=OFTEN)
    @batch("outlast", max_messages=MOST, max_seconds=0.1)
    async def outlast_all(self, numbers: dict[str, int]) -> dict[str, int]:
        """Never end well if there is an odd number."""
        self._inspect(numbers)
        self.begun.update(numbers.values())
        if any(number % 2 for number in numbers.values()):
            await asyncio.sleep(60.0)
            raise ConnectionError("as ever")
        return dict(numbers)

    def _inspect(self, tasks: Mapping[str, object]) -> dict[str, TaskContext]:
        contexts = {each: task_context(each) for each in tasks}
        keys = {context.batch_key for context in contexts.values()}
        if not 1 <= len(tasks) <= MOST or len(keys) > 1:
            self.faults.append(f"{len(tasks)} tasks with keys {keys}")
        if any(context.task_id != each for each, context in contexts.items()):
            self.faults.append("the context of another task")
        return contexts


class Many(Workflow):
    works = Workflow.new_service(Works)
    keyed = Workflow.new_service(Works, meta={"batch_key": b"even"})
    hurried = Workflow.new_service(Works, total_timeout=5.0)

    async def double(self, count: int) -> list[str]:
        stubs = (self.keyed, self.works)
        calls = [self.dispatch(stubs[number % 2].double, number) for number in range(1, count + 1)]
        log: list[str] = []
        for call in calls:
            try:
                log.append(str(await call))
            except TaskFailedError as error:
                log.append(error.last_failure.exception.name.rpartition(".")[2])
        return log

    async def add(self, count: int) -> int:
        total = 0
        for number in range(count):
            both = all_of(self.dispatch(self.works.add, number), self.dispatch(self.keyed.add, number, 0))
            total += sum(await both)
        return total

    async def hang(self, count: int) -> list[int]:
        return await asyncio.gather(*(self.works.hang(number) for number in range(count)))

    async def give_up(self, number: int) -> str:
        stub = self.hurried if number % 2 else self.keyed
        try:
            return str(await stub.outlast(number))
        except TaskTimedOutError:
            return "timed out"

    async def outlast(self, numbers: list[int]) -> list[int]:
        return await all_of(*(self.dispatch(self.works.outlast, number) for number in numbers))


def expect_doubles(count: int) -> list[str]:
    """What `Many.double` returns."""
    others = {number: "LookupError" if number % 7 == 0 else "MissingResult" for number in range(1, count + 1)}
    return [others[number] if number % 7 == 0 or number % 9 == 0 else str(2 * number) for number in others]


async def simulate_batches(sim: Simulation) -> object:
    """Batches of many workflows: values, failures, forgotten tasks, and calls that fail or hang."""
    works = Works()
    sim.add_service(works)
    sim.add_workflow(Many)
    start = sim.client.new_workflow(Many)
    ended = await asyncio.gather(
        *(start.double(count) for count in (3, 14, 27)), *(start.add(count) for count in (1, 6)), start.hang(9)
    )
    return [*ended, works.faults]


async def simulate_cancelled_batches(sim: Simulation) -> object:
    """Tasks are given up while their batch waits or runs, alone and with all others in it."""
    works = Works()
    sim.add_service(works)
    sim.add_workflow(Many)
    start = sim.client.new_workflow(Many)
    patient = [asyncio.create_task(_outcome(start.give_up(number))) for number in (1, 3, 5, 7)]
    handles = [await sim.client.dispatch(start.outlast, [each, each + 2]) for each in (11, 21, 31)]
    # A suspect that runs may keep all others from running.
    await wait_for(lambda: any(number > 10 for number in works.begun))
    for handle in handles:
        await sim.client.cancel(handle)
    log = [await _outcome(handle.result()) for handle in handles]
    log += [await _outcome(start.give_up(40))]
    return [*log, *await asyncio.gather(*patient), works.faults]


async def _outcome(waiting: Awaitable[object]) -> str:
    try:
        return str(await waiting)
    except WorkflowCanceledError:
        return "canceled"
