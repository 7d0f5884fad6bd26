"""The workflows of the campaign, and the service that they call.

They are written so that their results are known before, whatever is killed. Each runs for several
rounds with a durable pause between them, so that thousands are in flight at once.
"""

from __future__ import annotations

import asyncio
import os
import random
from datetime import timedelta
from pathlib import Path

from infinitic import Channel, ExponentialBackoff, TaskFailedError, Workflow, task, task_context

ATTEMPTS_FOLDER = "CHAOS_ATTEMPTS"
"""The environment variable that names the folder where processes note each attempt that begins."""

SOON = ExponentialBackoff(minimum_seconds=0.2, random_factor=0.0, maximum_retries=5)
MEGABYTE = 1024 * 1024
WIDTH = 4
SIGNALS = 5
"""How many signals a client sends to each `Talk`."""


def note_attempt() -> None:
    """Note that an attempt begins: its task and its number, in a file of this process."""
    context = task_context()
    line = f"{context.task_id} {context.retry_sequence}.{context.retry_index}\n"
    path = Path(os.environ[ATTEMPTS_FOLDER]) / f"{os.getpid()}.txt"
    # One write, so that a kill leaves a whole line or none.
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


class Chores:
    """Short tasks. Some fail a few times, some always, some take too long."""

    async def add(self, x: int, y: int) -> int:
        note_attempt()
        await asyncio.sleep(0.01)
        return x + y

    @task(retry=SOON)
    async def stumble(self, x: int, times: int) -> int:
        note_attempt()
        if task_context().retry_index < times:
            raise ValueError(f"attempt {task_context().retry_index} of {x}")
        return x

    async def refuse(self, x: int) -> int:
        note_attempt()
        raise LookupError(f"no {x}")

    @task(attempt_timeout=2.0, retry=SOON)
    async def hang(self, x: int, times: int) -> int:
        note_attempt()
        if task_context().retry_index < times:
            await asyncio.sleep(60.0)
        return x

    async def repeat(self, letter: str, times: int) -> str:
        note_attempt()
        return letter * times

    async def weigh(self, text: str) -> int:
        note_attempt()
        return len(text)


class Walk(Workflow):
    """One task after another."""

    chores = Workflow.new_service(Chores)

    async def run(self, number: int, rounds: int, pause: float) -> int:
        total = number
        for each in range(rounds):
            total = await self.chores.add(total, each)
            await asyncio.sleep(pause)
        return total


class Fan(Workflow):
    """Tasks side by side, some of them dispatched and awaited later."""

    chores = Workflow.new_service(Chores)

    async def run(self, number: int, rounds: int, pause: float) -> int:
        total = 0
        for each in range(rounds):
            early = self.dispatch(self.chores.add, number, each)
            total += sum(await asyncio.gather(*(self.chores.add(each, other) for other in range(WIDTH))))
            await asyncio.sleep(pause)
            total += await early
        return total


class Stumble(Workflow):
    """Retries, attempts that take too long, failures that are caught."""

    chores = Workflow.new_service(Chores)

    async def run(self, number: int, rounds: int, pause: float) -> list[int]:
        seen = list[int]()
        for each in range(rounds):
            seen.append(await self.chores.stumble(number, each % 3))
            if each == 0:
                seen.append(await self.chores.hang(number + 1, 1))
            try:
                await self.chores.refuse(number)
            except TaskFailedError:
                seen.append(-1)
            await asyncio.sleep(pause)
        return seen


class Race(Workflow):
    """Races of tasks, receivers and timers, a timeout, and a lock between branches."""

    chores = Workflow.new_service(Chores)
    never = Channel[int]()

    async def run(self, number: int, rounds: int, pause: float) -> list[int]:
        lock, order = asyncio.Lock(), list[int]()

        async def enter(branch: int) -> None:
            async with lock:
                order.append(await self.chores.add(number, branch))

        for _ in range(rounds):
            async with asyncio.TaskGroup() as group:
                for branch in range(2):
                    group.create_task(enter(branch))
            order.append(await (self.dispatch(self.chores.add, number, 7) | self.never.receive()))
            # Also if both are due when the workflow goes on, the first one wins. Nobody waits for
            # the other one: its wake finds nothing to do.
            first = self.timer(timedelta(seconds=pause))
            await (first | self.timer(timedelta(seconds=2 * pause)))
            order.append(-1 if first.is_completed() else -2)
            try:
                async with asyncio.timeout(pause):
                    await self.never.receive()
            except TimeoutError:
                order.append(-3)
        return order


class Draw(Workflow):
    """Draws numbers that no replay may draw again."""

    chores = Workflow.new_service(Chores)

    async def run(self, number: int, rounds: int, pause: float) -> bool:
        same = True
        for _ in range(rounds):
            drawn = self.inline(_draw)
            same = same and await self.chores.add(drawn, number) == drawn + number
            await asyncio.sleep(pause)
        return same


def _draw() -> int:
    return random.Random().randrange(1_000_000)


class Heavy(Workflow):
    """Values of megabytes."""

    chores = Workflow.new_service(Chores)

    async def run(self, number: int, rounds: int, pause: float) -> int:
        total = 0
        for _ in range(min(rounds, 2)):
            text = await self.chores.repeat("x", MEGABYTE + number)
            total += await self.chores.weigh(text)
            await asyncio.sleep(pause)
        return total


class Talk(Workflow):
    """Signals from outside, until the last one has come; and a method beside the first one."""

    chores = Workflow.new_service(Chores)
    numbers = Channel[int]()

    async def run(self, number: int, rounds: int, pause: float) -> list[int]:
        received = list[int]()
        while not received or received[-1] < SIGNALS:
            received.append(await self.numbers.receive())
        await asyncio.sleep(pause)
        return received

    async def ask(self, number: int) -> int:
        return await self.chores.add(number, 1)


class Leave(Workflow):
    """Is cancelled while it waits, and cleans up."""

    chores = Workflow.new_service(Chores)
    never = Channel[int]()

    async def run(self, number: int, rounds: int, pause: float) -> int:
        try:
            return await self.never.receive()
        finally:
            await self.chores.add(number, 1)
