"""W6: how many seeds a second one core runs, of a scenario of 200 messages.

Ten instances run nine tasks each. A task is two messages, and each instance is started and
answers. With faults, there are several workers, and messages come again.

python -m bench.seeds none|all N
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

from bench import load
from infinitic import Workflow
from infinitic_testing.campaign import Setting, run_seed
from infinitic_testing.loop.garbage import freeze_heap
from infinitic_testing.simulation import Simulation

INSTANCES, TASKS = 10, 9


class Adder:
    async def add_one(self, x: int) -> int:
        return x + 1


class Nine(Workflow):
    adder = Workflow.new_service(Adder)

    async def run(self, start: int) -> int:
        value = start
        for _ in range(TASKS):
            value = await self.adder.add_one(value)
        return value


async def simulate_two_hundred_messages(sim: Simulation) -> object:
    sim.add_service(Adder)
    sim.add_workflow(Nine)
    return await asyncio.gather(*(sim.client.new_workflow(Nine).run(index) for index in range(INSTANCES)))


def main(faults: str, count: int) -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    profile = "seeded" if faults == "none" else None
    setting = Setting(faults=faults, profile=profile)
    run_seed(simulate_two_hundred_messages, 0, setting)
    began, cpu = time.perf_counter(), time.process_time()
    # As in the child processes of a campaign.
    freeze_heap()
    for seed in range(count):
        report = run_seed(simulate_two_hundred_messages, seed, setting)
        if report.failure is not None:
            raise SystemExit(f"Seed {seed} failed: {report.failure.message}")
    load.result(
        per_cpu_s=round(count / (time.process_time() - cpu), 1), per_s=round(count / (time.perf_counter() - began), 1)
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
