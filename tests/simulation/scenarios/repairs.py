"""Workflows that fail, and an operator who runs their failed tasks again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from infinitic import (
    ExponentialBackoff,
    RequestRefusedError,
    TaskFailedError,
    Workflow,
    WorkflowFailedError,
    WorkflowHandle,
    ids,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, VERY_LONG


class Garage:
    """Tasks that succeed only once an operator has asked for them often enough."""

    async def mend(self, value: int, times: int) -> int:
        if task_context().retry_sequence < times:
            raise LookupError(f"no spare part for {value}")
        return value

    @task(retry=ExponentialBackoff(minimum_seconds=0.2, maximum_retries=2))
    async def mend_with_attempts(self, value: int, times: int) -> int:
        if task_context().retry_sequence < times:
            raise LookupError(f"no spare part for {value}")
        return value

    async def polish(self, value: int) -> int:
        await asyncio.sleep(0.3)
        return value

    @task(total_timeout=2.0)
    async def order(self, value: int, times: int) -> int:
        if task_context().retry_sequence < times:
            await asyncio.sleep(VERY_LONG)
        return value


class Repair(Workflow):
    garage = Workflow.new_service(Garage)

    async def in_order(self, times: int) -> list[int]:
        """One after the other: each fails once the one before succeeds."""
        found = [await self.garage.mend(1, times)]
        found.append(await self.garage.polish(2))
        found.append(await self.garage.mend_with_attempts(3, times))
        return found

    async def in_a_group(self, times: int) -> list[int]:
        """A failure cancels the others, which run again with it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.garage.polish(value)) for value in range(3)]
            tasks.append(group.create_task(self.garage.mend(3, times)))
        return [each.result() for each in tasks]

    async def gathered(self, times: int) -> list[int]:
        """The others are not cancelled: what they returned counts."""
        parts = (self.garage.mend(1, times), self.garage.polish(2), self.garage.mend_with_attempts(3, times))
        return list(await asyncio.gather(*parts))

    async def in_time(self, times: int) -> list[int]:
        """A timeout around the task, and one of the task itself."""
        async with asyncio.timeout(VERY_LONG):
            found = await self.garage.mend(1, times)
        return [found, await self.garage.order(2, times)]

    async def with_care(self, times: int) -> list[int]:
        """The first failure is dealt with, the second one is not."""
        try:
            await self.garage.mend(1, 1_000)
        except TaskFailedError:
            return [await self.garage.polish(1), await self.garage.mend(2, times)]
        return []


async def insist(sim: Simulation, handle: WorkflowHandle[Any], most: int = 20) -> tuple[Any, int]:
    """Run failed tasks again until the workflow succeeds.

    Returns:
        Its result, and how often it has failed before that.
    """
    for failures in range(most):
        try:
            return await handle.result(), failures
        except WorkflowFailedError:
            await sim.client.retry_tasks(handle)
    raise AssertionError(f"it has failed {most} times")


async def simulate_failed_and_retried(sim: Simulation) -> object:
    """Workflows of several shapes fail, and an operator has their failed tasks run again."""
    sim.add_service(Garage)
    sim.add_workflow(Repair, retention=KEPT)
    new = sim.client.new_workflow(Repair)
    methods = (new.in_order, new.in_a_group, new.gathered, new.in_time, new.with_care)
    handles = [await sim.client.dispatch(method, 1) for method in methods]
    outcomes = await asyncio.gather(*(insist(sim, handle) for handle in handles))
    steps = [sorted(str(step.outcome) for step in sim.steps(handle)) for handle in handles]
    return [[result for result, _ in outcomes], steps]


async def simulate_failed_again_and_again(sim: Simulation) -> object:
    """The tasks that run again fail once more, several times."""
    sim.add_service(Garage)
    sim.add_workflow(Repair, retention=KEPT)
    new = sim.client.new_workflow(Repair)
    handles = [await sim.client.dispatch(method, 3) for method in (new.in_order, new.in_a_group, new.in_time)]
    outcomes = await asyncio.gather(*(insist(sim, handle) for handle in handles))
    return [result for result, _ in outcomes]


async def simulate_retried_by_two(sim: Simulation) -> object:
    """Two operators ask for the same at once: the tasks run again once for each failure."""
    sim.add_service(Garage)
    sim.add_workflow(Repair, retention=KEPT)

    async def ask(handle: WorkflowHandle[Any], **conditions: Any) -> None:
        try:
            await sim.client.retry_tasks(handle, **conditions)
        except RequestRefusedError:
            # The other one was faster.
            return

    handle = await sim.client.dispatch(sim.client.new_workflow(Repair).gathered, 2)
    for _ in range(10):
        try:
            return await handle.result()
        except WorkflowFailedError:
            first = f"{handle.workflow_id}-0"
            await asyncio.gather(ask(handle, task_id=first), ask(handle), ask(handle, service=Garage))
    raise AssertionError("it has failed ten times")


class Workshop(Workflow):
    garage = Workflow.new_service(Garage)

    def __init__(self) -> None:
        self.done: list[int] = []

    async def run(self, jobs: int) -> list[int]:
        await self.wait_until(lambda: len(self.done) >= jobs)
        return sorted(self.done)

    async def take(self, job: int, times: int) -> int:
        found = await self.garage.mend(job, times)
        self.done.append(found)
        return found


async def simulate_failed_methods(sim: Simulation) -> object:
    """Parallel methods fail while the first one runs, and go on one by one."""
    sim.add_service(Garage)
    sim.add_workflow(Workshop, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Workshop).run, 4)
    workshop = sim.client.get_workflow_by_id(Workshop, handle.workflow_id)
    jobs = [await sim.client.dispatch(workshop.take, job, job % 2) for job in range(4)]
    ended = await asyncio.gather(*(job.result() for job in jobs), return_exceptions=True)
    failed = [isinstance(each, WorkflowFailedError) for each in ended]
    await sim.client.retry_tasks(handle)
    return [failed, await handle.result()]


class Part(Workflow):
    garage = Workflow.new_service(Garage)

    async def fit(self, value: int, times: int) -> int:
        return await self.garage.mend(value, times)


class Engine(Workflow):
    part = Workflow.new_workflow(Part)

    async def build(self, value: int, times: int) -> int:
        async with asyncio.TaskGroup() as group:
            fitted = group.create_task(self.part.fit(value, times))
            other = group.create_task(self.part.fit(1, 0))
        return fitted.result() + other.result()


class Car(Workflow):
    garage = Workflow.new_service(Garage)
    engine = Workflow.new_workflow(Engine)

    async def build(self, value: int, times: int) -> int:
        built = await self.engine.build(value, times)
        return await self.garage.polish(built)


async def simulate_failed_families(sim: Simulation) -> object:
    """A grandchild fails, and so do its parents. When it runs again, they go on in turn."""
    sim.add_service(Garage)
    for each in (Part, Engine, Car):
        sim.add_workflow(each, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Car).build, value, 1) for value in (5, 7)]
    for handle in handles:
        with suppress(WorkflowFailedError):
            await handle.result()
    results: list[int] = []
    for handle in handles:
        child = ids.remote_id(ids.remote_id(handle.workflow_id, 0, 0), 0, 0)
        await sim.client.retry_tasks(sim.client.get_workflow_by_id(Part, child))
        results.append(await _wait_for_success(sim, handle))
    return results


async def _wait_for_success(sim: Simulation, handle: WorkflowHandle[int]) -> int:
    """Wait for the result. Until the message of a child has come, its parents are failed."""
    for _ in range(2_000):
        try:
            return await handle.result()
        except WorkflowFailedError:
            await sim.sleep(1.0)
    raise AssertionError("it stays failed")
