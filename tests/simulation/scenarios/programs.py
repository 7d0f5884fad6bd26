"""Workflows drawn at random: each run of another seed has other programs.

A program is a list of steps as data. A workflow runs it. `evaluate` says what it must return.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from infinitic import Channel, TaskFailedError, Workflow, all_of, any_of
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw

Step = list[Any]
"""The name of a step, and its arguments. Some arguments are steps themselves."""

INSTANCES = 3


class Program(Workflow):
    office = Workflow.new_service(Office)
    ticks = Channel[int]()
    closing = Channel[bool]()

    async def run(self, steps: list[Step]) -> int:
        total = await self._run_all(steps)
        # The instance stays open until all other methods have been called.
        await self.closing.receive()
        return total

    async def beside(self, steps: list[Step]) -> int:
        return await self._run_all(steps)

    async def _run_all(self, steps: list[Step]) -> int:
        total = 0
        for step in steps:
            total += await self._run(step)
        return total

    async def _run(self, step: Step) -> int:
        match step:
            case ["add", x, y]:
                return await self.office.add(x, y)
            case ["sleep", seconds]:
                await asyncio.sleep(seconds)
                return 1
            case ["tick"]:
                return await self.ticks.receive()
            case ["stumble", value, times]:
                return await self.office.stumble(value, times)
            case ["fail"]:
                try:
                    return await self.office.fail(1)
                except TaskFailedError:
                    return 2
            case ["inline", value]:
                drawn = self.inline(draw)
                return int(value) + await self.office.add(drawn, 0) - drawn
            case ["together", *parts]:
                return sum(await asyncio.gather(*(self._run_all(part) for part in parts)))
            case ["all", value, seconds]:
                return sum(await all_of(*(self.dispatch(self.office.wait, value, each) for each in seconds)))
            case ["any", value, seconds]:
                first: int = await any_of(*(self.dispatch(self.office.wait, value, each) for each in seconds))
                return first
            case ["timeout", seconds, value]:
                try:
                    async with asyncio.timeout(seconds):
                        return await self.office.wait(value, 0.2)
                except TimeoutError:
                    return int(value)
            case _:
                raise ValueError(f"unknown step {step}")


def evaluate(steps: list[Step]) -> int:
    """Compute what a program returns."""
    return sum(_evaluate(step) for step in steps)


def _evaluate(step: Step) -> int:
    match step:
        case ["add", x, y]:
            return int(x + y)
        case ["sleep", _] | ["tick"]:
            return 1
        case ["stumble", value, _] | ["inline", value] | ["any", value, _] | ["timeout", _, value]:
            return int(value)
        case ["fail"]:
            return 2
        case ["together", *parts]:
            return sum(evaluate(part) for part in parts)
        case ["all", value, seconds]:
            return int(value * len(seconds))
        case _:
            raise ValueError(f"unknown step {step}")


def count_ticks(steps: list[Step]) -> int:
    """Count the signals that a program receives."""
    parts = [part for step in steps if step[0] == "together" for part in step[1:]]
    return sum(step == ["tick"] for step in steps) + sum(count_ticks(part) for part in parts)


def draw_program(rng: random.Random, length: int, depth: int) -> list[Step]:
    """Draw a program.

    Args:
        rng: draws it.
        length: how many steps it has.
        depth: how deep steps may be nested.
    """
    return [_draw_step(rng, depth) for _ in range(length)]


def _draw_step(rng: random.Random, depth: int) -> Step:
    value, seconds = rng.randrange(100), [rng.choice((0.0, 0.01, 0.3, 2.0)) for _ in range(rng.randint(1, 4))]
    steps: list[Step] = [
        ["add", value, rng.randrange(100)],
        ["sleep", rng.choice((0.0, 0.001, 0.3, 30.0))],
        ["tick"],
        ["tick"],
        ["stumble", value, rng.randint(0, 3)],
        ["fail"],
        ["inline", value],
        ["all", value, seconds],
        ["any", value, seconds],
        ["timeout", rng.choice((0.0, 0.1, 0.2, 0.3)), value],
    ]
    if depth > 0:
        parts = [draw_program(rng, rng.randint(1, 3), depth - 1) for _ in range(rng.randint(2, 3))]
        steps += [["together", *parts]] * 2
    return rng.choice(steps)


async def simulate_programs(sim: Simulation) -> object:
    """A few programs, each with parallel methods and signals."""
    begin_draws()
    rng = random.Random(sim.options["seed"])
    sim.add_service(Office)
    sim.add_workflow(Program, retention=KEPT)
    await asyncio.gather(*(_play(sim, random.Random(rng.random())) for _ in range(INSTANCES)))
    # The programs of another seed return something else.
    return None


async def _play(sim: Simulation, rng: random.Random) -> None:
    main, *others = [draw_program(rng, rng.randint(2, 6), 2) for _ in range(rng.randint(1, 3))]
    handle = await sim.client.dispatch(sim.client.new_workflow(Program).run, main)
    program = sim.client.get_workflow_by_id(Program, handle.workflow_id)
    beside = [await sim.client.dispatch(program.beside, other) for other in others]
    for _ in range(count_ticks([["together", main, *others]])):
        await program.ticks.send(1)
        await sim.sleep(rng.choice((0.0, 0.0, 0.05, 1.0)))
    for other, running in zip(others, beside, strict=True):
        assert await running.result() == evaluate(other), other
    await program.closing.send(True, confirm=True)
    assert await handle.result() == evaluate(main), main
