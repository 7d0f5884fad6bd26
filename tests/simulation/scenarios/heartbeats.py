"""Long tasks that say how far they are, and go on elsewhere when their worker is gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from infinitic import ExponentialBackoff, TaskFailedError, Workflow, task, task_context
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, OFTEN

FAST = ExponentialBackoff(minimum_seconds=0.1, maximum_seconds=1.0, maximum_retries=10_000)


class Steps:
    """How often each step of a task was made, by its name."""

    made: ClassVar[Counter[tuple[str, int]]] = Counter()


class Factory:
    """Its tasks take many steps."""

    @task(heartbeat_timeout=6, retry=OFTEN)
    async def assemble(self, name: str, steps: int) -> list[int]:
        last = task_context().last_heartbeat
        done = list[int]() if last is None else list[int](last["done"])
        while len(done) < steps:
            await asyncio.sleep(1.0)
            Steps.made[name, len(done)] += 1
            done.append(len(done))
            task_context().heartbeat({"done": done, "name": name})
        return done

    @task(heartbeat_timeout=6, retry=FAST)
    def stumble(self, name: str) -> int:
        """It is a plain function, and fails at each step but the last one."""
        done = task_context().last_heartbeat or 0
        task_context().heartbeat(done + 1)
        if done < 3:
            raise LookupError(f"no part {done}")
        return min(int(done), 3)

    @task(heartbeat_timeout=3, retry=ExponentialBackoff(minimum_seconds=0.1, maximum_retries=3))
    async def fall_silent(self, name: str) -> str:
        task_context().heartbeat("begun")
        await asyncio.sleep(10_000.0)
        return "never"


class Plant(Workflow):
    factory = Workflow.new_service(Factory)

    async def run(self, name: str) -> list[object]:
        long = self.dispatch(self.factory.assemble, name, 20)
        short = self.dispatch(self.factory.stumble, name)
        try:
            silent: object = await self.factory.fall_silent(name)
        except TaskFailedError as error:
            # Its worker may also have been lost.
            silent = error.last_failure.exception.name.rpartition(".")[2] in ("HeartbeatTimedOut", "WorkerLost")
        return [await long, await short, silent]


async def simulate_heartbeats(sim: Simulation) -> object:
    """What a task has said with its heartbeats is not done again, but for a few steps.

    A worker that dies or stands still loses what it has said in a third of the timeout, and another
    one may begin while it still runs.
    """
    Steps.made.clear()
    sim.add_service(Factory)
    sim.add_workflow(Plant, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Plant).run, f"w{each}") for each in range(3)]
    found = [await handle.result() for handle in handles]
    return [found, all(Steps.made[f"w{each}", step] for each in range(3) for step in range(20))]
