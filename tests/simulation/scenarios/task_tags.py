"""Tags of tasks: tasks are listed and cancelled by tag, while others come and go."""

from __future__ import annotations

import asyncio
from typing import Any

from infinitic import Deferred, TaskCanceledError, TaskFailedError, TaskTimedOutError, Workflow, WorkflowFailedError
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.repairs import Garage
from tests.simulation.scenarios.services import KEPT, VERY_LONG, Office


class Shipment(Workflow):
    office = Workflow.new_service(Office, tags={"all"})
    stuck = Workflow.new_service(Office, tags={"all", "stuck"})
    hurried = Workflow.new_service(Office, tags={"all", "hurried"}, total_timeout=3.0)

    async def run(self, number: int) -> list[object]:
        """Ask for tasks that end in every way that there is."""
        tasks = [
            self.dispatch(self.office.add, number, 1),
            self.dispatch(self.office.stumble, number, 2),
            self.dispatch(self.office.fail, number),
            self.dispatch(self.hurried.wait, number, VERY_LONG),
            self.dispatch(self.stuck.wait, number, VERY_LONG),
            self.dispatch(self.stuck.back_off_long, number),
        ]
        dropped = self.dispatch(self.office.wait, number, VERY_LONG)
        await asyncio.sleep(1.0)
        dropped.cancel()
        return [await self._describe(each) for each in tasks]

    async def _describe(self, task: Deferred[int]) -> object:
        try:
            return await task
        except TaskTimedOutError:
            return "timed out"
        except TaskCanceledError:
            return "canceled"
        except TaskFailedError as error:
            # A worker that runs it may die too often.
            return "canceled" if "WorkerDied" in str(error) else "failed"


async def wait_for_tasks(sim: Simulation, tag: str, count: int, service: type[Any] = Office) -> None:
    """Wait until so many tasks have the tag, or fewer if they are too old to be kept."""
    kept_until = sim.storage.capabilities.deduplication_window
    async with asyncio.timeout(VERY_LONG):
        while (found := len(await sim.client.get_tasks(service, tag))) != count:
            if found < count and asyncio.get_running_loop().time() > kept_until:
                return
            await sim.sleep(0.5)


async def simulate_cancel_tasks_by_tag(sim: Simulation) -> object:
    """Tasks run or wait for their retry until they are cancelled by tag. Others do not notice."""
    sim.add_service(Office)
    sim.add_workflow(Shipment, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Shipment).run, number) for number in range(4)]
    await wait_for_tasks(sim, "stuck", 8)
    await sim.client.cancel_tasks(Office, "stuck")
    outcomes = [await handle.result() for handle in handles]
    # Those that have failed are left.
    await wait_for_tasks(sim, "all", 4)
    return outcomes


class Delivery(Workflow):
    office = Workflow.new_service(Office, tags={"rest"})

    async def run(self, number: int) -> int:
        tasks = [self.dispatch(self.office.wait, number, VERY_LONG), self.dispatch(self.office.back_off_long, number)]
        return sum([await each for each in tasks])


async def simulate_end_of_tagged_tasks(sim: Simulation) -> object:
    """The instances that wait for tasks with tags are cancelled or terminated."""
    sim.add_service(Office)
    sim.add_workflow(Delivery, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Delivery).run, number) for number in range(6)]
    await wait_for_tasks(sim, "rest", 12)
    for number, handle in enumerate(handles):
        await (client.cancel(handle) if number % 2 else client.terminate(handle))
    await wait_for_tasks(sim, "rest", 0)
    return True


class Overhaul(Workflow):
    garage = Workflow.new_service(Garage, tags={"spares"})

    async def run(self, number: int) -> list[int]:
        parts = [self.dispatch(self.garage.mend, each, 1) for each in range(number)]
        parts.append(self.dispatch(self.garage.polish, number))
        # Most often, all of them end before the first failure is looked at.
        await asyncio.sleep(5.0)
        return [await each for each in parts]


async def simulate_retry_tasks_by_tag(sim: Simulation) -> object:
    """The failed tasks of many instances run again, as often as it takes, and no others."""
    sim.add_service(Garage)
    sim.add_workflow(Overhaul, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Overhaul).run, number) for number in range(1, 4)]
    outcomes = list[object]()
    for handle in handles:
        for _ in range(20):
            try:
                outcomes.append(await client.get_handle(Overhaul.run, handle.workflow_id).result())
                break
            except WorkflowFailedError:
                await client.retry_tasks(service=Garage, tag="spares")
                await sim.sleep(60.0)
    await wait_for_tasks(sim, "spares", 0, Garage)
    return outcomes
