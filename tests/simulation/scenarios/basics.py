"""Ordinary workflows: one task after the other, many at once, failures, and inline calls."""

from __future__ import annotations

import asyncio

from infinitic import TaskFailedError, Workflow, WorkflowFailedError, workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import Office, begin_draws, draw


class OneByOne(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, steps: int) -> int:
        total = 0
        for step in range(steps):
            # A step that was run twice has drawn two numbers. Only one of them counts.
            drawn = self.inline(draw)
            total += await self.office.add(drawn, step) - drawn
        return total


@workflow(name="OneByOne", version=1)
class OneByOneAgain(OneByOne):
    """A version with the same code, which some workers may lack."""


async def simulate_one_by_one(sim: Simulation) -> object:
    """One instance, a few tasks, one after the other."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(OneByOne, OneByOneAgain)
    return await sim.client.new_workflow(OneByOne).run(5)


async def simulate_long_loop(sim: Simulation) -> object:
    """A loop of 300 steps: a history with hundreds of segments."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(OneByOne, OneByOneAgain)
    return await sim.client.new_workflow(OneByOne).run(300)


async def simulate_crowd(sim: Simulation) -> object:
    """Many instances at once, which share workers, topics and transactions."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(OneByOne, OneByOneAgain)
    return await asyncio.gather(*(sim.client.new_workflow(OneByOne).run(steps) for steps in range(1, 25)))


class Wide(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, width: int) -> list[int]:
        first = await asyncio.gather(*(self.office.add(index, index) for index in range(width)))
        second = [self.dispatch(self.office.add, each, 1) for each in first]
        # The last one first: results wait until somebody asks for them.
        third = [await each for each in reversed(second)]
        fourth = [self.dispatch(self.office.multiply, each, 2) for each in third]
        return [await each for each in fourth]


async def simulate_wide(sim: Simulation) -> object:
    """Many tasks of one instance at once: awaited together, one by one, and plain `def` tasks."""
    sim.add_service(Office)
    sim.add_workflow(Wide)
    return await sim.client.new_workflow(Wide).run(20)


class Failing(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> int:
        for call in (self.office.fail, self.office.fail_thrice):
            try:
                await call(1)
            except TaskFailedError as error:
                if error.last_failure.exception.short_name != "LookupError":
                    raise
        caught = await asyncio.gather(self.office.fail(2), self.office.add(1, 1), return_exceptions=True)
        self.dispatch(self.office.fail, 3)
        return await self.office.fail(len(caught))


async def simulate_failing_tasks(sim: Simulation) -> object:
    """Tasks fail: some failures are caught, one is nobody's, the last one fails the workflow."""
    sim.add_service(Office)
    sim.add_workflow(Failing)
    try:
        return await sim.client.new_workflow(Failing).run()
    except WorkflowFailedError as error:
        cause = error.cause
        assert isinstance(cause, TaskFailedError)
        return [error.failure.short_name, str(cause.last_failure.exception)]


class Drawing(Workflow):
    """Each run of a step draws another number. If two workers run a step, only one may count."""

    office = Workflow.new_service(Office)

    async def run(self, steps: int) -> list[int]:
        wrong = list[int]()
        for step in range(steps):
            one, two = self.inline(draw), self.inline(draw)
            both = await asyncio.gather(self.office.add(one, 0), self.office.add(one, two))
            if list(both) != [one, one + two]:
                wrong.append(step)
        return wrong


async def simulate_inline_draws(sim: Simulation) -> object:
    """Inline calls whose result differs each time. Returns the steps that saw two results: none."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Drawing)
    return await asyncio.gather(*(sim.client.new_workflow(Drawing).run(6) for _ in range(3)))
