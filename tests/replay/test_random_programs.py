"""Random programs of all that can be awaited (S15, S23).

Replay is exact, and no signal is lost or taken twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from infinitic import Channel, Deferred, DeferredError, Receiver, TaskFailedError, Workflow, all_of, any_of
from tests.replay.harness import CASES, Case, Desk, Run, run_both_ways

STEPS = 12


class Program(Workflow):
    """Does what a seed says.

    What it draws depends on nothing else, so the seed is all there is to reproduce.
    """

    desk = Workflow.new_service(Desk)
    left = Channel[str]()
    right = Channel[str]()

    def __init__(self) -> None:
        self.log = list[str]()
        self.lock = asyncio.Lock()
        self.kept = list[Deferred[Any]]()

    async def run(self, seed: int) -> list[str]:
        chance = random.Random(seed)
        async with asyncio.TaskGroup() as group:
            for name in "ABC"[: chance.randint(1, 3)]:
                group.create_task(self._branch(name, random.Random(chance.random())))
        for channel in (self.left, self.right):
            await self._drain(channel)
        return self.log

    async def _branch(self, name: str, chance: random.Random) -> None:
        for step in range(STEPS):
            waited = self._anything(chance, 3)
            try:
                self.log.append(f"{name}{step} {_flat(await self._wait(waited, chance))}")
            except (TaskFailedError, TimeoutError, DeferredError) as error:
                self.log.append(f"{name}{step} {type(error).__name__}")
            if self.kept and chance.random() < 0.2:
                chance.choice(self.kept).cancel()

    async def _wait(self, waited: Deferred[Any] | Receiver[Any], chance: random.Random) -> object:
        seconds = chance.choice([1, 2, 3, 5])
        match chance.randrange(6):
            case 0:
                async with asyncio.timeout(seconds):
                    return await waited
            case 1:
                return await asyncio.wait_for(waited, seconds)
            case 2:
                task = asyncio.ensure_future(_result(waited))
                done, _ = await asyncio.wait([task], timeout=seconds)
                if not done:
                    task.cancel()
                    await asyncio.wait([task])
                    return "gave up" if task.cancelled() else task.result()
                return task.result()
            case 3:
                async with self.lock:
                    return await any_of(waited, self.timer(seconds))
            case 4:
                return await (waited | self.timer(seconds))
            case _:
                async with asyncio.timeout(60):
                    return await asyncio.gather(_result(any_of(waited, self.timer(seconds))), asyncio.sleep(seconds))

    def _anything(self, chance: random.Random, depth: int) -> Deferred[Any] | Receiver[Any]:
        parts: list[Deferred[Any] | Receiver[Any]] = []
        match chance.randrange(8 if depth else 5):
            case 0:
                return self.left.receive()
            case 1:
                return self.right.receive()
            case 2:
                return self._keep(self.timer(chance.choice([0.5, 1, 2, 4])), chance)
            case 3:
                return self._keep(self.dispatch(self.desk.say, "said", chance.choice([0.5, 1, 2, 4])), chance)
            case 4:
                return self._keep(self.dispatch(self.desk.fail, "failed", chance.choice([0.5, 1, 2])), chance)
            case 5 if self.kept:
                return chance.choice(self.kept)
            case kind:
                parts += [self._anything(chance, depth - 1) for _ in range(chance.randint(1, 3))]
                return self._keep(all_of(*parts) if kind == 6 else any_of(*parts), chance)

    def _keep(self, deferred: Deferred[Any], chance: random.Random) -> Deferred[Any]:
        if chance.random() < 0.3:
            self.kept.append(deferred)
        return deferred

    async def _drain(self, channel: Channel[str]) -> None:
        receiver = channel.receive()
        while True:
            first = await any_of(receiver, self.timer(100))
            if not isinstance(first, str):
                return
            self.log.append(f"left {first}")


async def _result(waited: Awaitable[Any]) -> object:
    return await waited


def _flat(value: object) -> str:
    return " ".join(map(_flat, cast("list[object]", value))) if isinstance(value, list) else str(value)


async def scenario(run: Run, seed: int) -> list[str]:
    chance = random.Random(-seed)
    handle = await run.start(run.new(Program).run, seed)
    sent = list[str]()
    program = run.on(Program)
    for _ in range(15):
        await run.sim.sleep(chance.choice([0, 0, 0.5, 1, 2]))
        for _ in range(chance.choice([1, 1, 2, 3])):
            channel, word = chance.choice(["left", "right"]), f"#{len(sent)}"
            sent.append(word)
            await (program.left if channel == "left" else program.right).send(word)
    log = await handle.result()
    seen = [word for line in log for word in line.split() if word.startswith("#")]
    lost, twice = set(sent) - set(seen), {word for word in seen if seen.count(word) > 1}
    assert not lost, f"lost {lost} of {log}"
    return [*log, f"twice {sorted(twice)}"]


CASES["test_random_programs"] = Case((Program,), (Desk,), lambda run: scenario(run, 0))


@pytest.mark.parametrize("seed", range(10))
def test_a_random_program(seed: int) -> None:  # S15, S23
    run_both_ways(Case((Program,), (Desk,), lambda run: scenario(run, seed)), same_elsewhere=False)
