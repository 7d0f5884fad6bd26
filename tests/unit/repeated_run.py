"""A program whose order depends on addresses in an ordinary event loop. It prints digests.

Run it as ``python -m tests.unit.repeated_run SEED JUNK``. `JUNK` changes the heap: where objects
lie, and so in which order sets of them are walked.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import cast

import anyio

from infinitic_testing.choices import Choices
from infinitic_testing.loop import Process, VirtualLoop, run

TASKS = 40


class Waiter:
    """Waits, and notes how it ended."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def wait(self, name: str, seconds: float = 1e6) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.log.append(f"{name} cancelled")
            raise
        return name

    async def fail(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise OSError("planned")


async def cancel_by_anyio(waiter: Waiter) -> None:
    async def nested(number: int) -> None:
        with anyio.CancelScope():
            async with anyio.create_task_group() as inner:
                for each in range(3):
                    inner.start_soon(waiter.wait, f"anyio {number}.{each}")

    async with anyio.create_task_group() as group:
        for number in range(TASKS):
            group.start_soon(nested, number)
        await anyio.sleep(1)
        group.cancel_scope.cancel()


async def cancel_by_asyncio(waiter: Waiter) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(waiter.wait(f"asyncio {number}"))
            group.create_task(waiter.fail(1.0))
    except* OSError:
        waiter.log.append("planned")


async def walk_sets(waiter: Waiter) -> None:
    """Walk sets of tasks, as user code does with the results of `asyncio.wait`."""
    tasks = {asyncio.create_task(waiter.wait(f"set {number}", number % 3)) for number in range(TASKS)}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    waiter.log += [task.result() for task in done]
    for task in pending:
        task.cancel()
        task.add_done_callback(lambda task: waiter.log.append(f"seen {task.cancelled()}"))
    await asyncio.wait(pending)


async def live_and_die(waiter: Waiter) -> None:
    processes = [Process(f"worker-{number}") for number in range(3)]
    for process in processes:
        for number in range(5):
            process.start(waiter.wait(f"{process.name} {number}", 0.5))
            process.start(waiter.wait(f"{process.name} {number}", 5.0))
    await asyncio.sleep(0.5)
    processes[0].kill()
    processes[1].pause()
    await asyncio.sleep(1)
    processes[1].resume()
    await asyncio.sleep(10)


async def generate(waiter: Waiter) -> AsyncIterator[int]:
    try:
        for number in range(5):
            await asyncio.sleep(0.1)
            yield number
    finally:
        waiter.log.append("generator closed")


async def main(waiter: Waiter, choices: Choices | None) -> str:
    loop = cast(VirtualLoop, asyncio.get_running_loop())
    loop.make_repeatable(choices)
    # Tasks of before are not numbered.
    await asyncio.create_task(play(waiter))
    return loop.trace_digest()


async def play(waiter: Waiter) -> None:
    for part in (cancel_by_anyio, cancel_by_asyncio, walk_sets, live_and_die):
        await part(waiter)
    event = asyncio.Event()
    queue = asyncio.Queue[int](3)

    async def produce(number: int) -> None:
        await event.wait()
        for each in range(4):
            await queue.put(10 * number + each)

    async def consume() -> None:
        while True:
            waiter.log.append(f"item {await queue.get()}")

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    producers = [produce(number) for number in range(4)]
    loop = asyncio.get_running_loop()
    for number in range(5):
        loop.call_soon(waiter.log.append, f"callback {number}")
        loop.call_later(1, waiter.log.append, f"timer {number}")
    loop.call_later(1, event.set)
    await asyncio.gather(*producers)
    async for number in generate(waiter):
        if number == 2:
            break
    for task in consumers:
        task.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)


def play_once(seed: int | None) -> tuple[str, list[str]]:
    """Run the program. Return the digest of its steps, and what it noted."""
    waiter = Waiter([])
    digest = run(main(waiter, None if seed is None else Choices(seed)))
    return digest, waiter.log


if __name__ == "__main__":
    # Some of it stays, and there are holes between.
    junk = [bytearray(size % 613 + 16) for size in range(int(sys.argv[2]))]
    del junk[:: 1 + int(sys.argv[2]) % 5]
    digest, log = play_once(int(sys.argv[1]))
    sys.stdout.write(f"{digest} {blake2b(chr(10).join(log).encode(), digest_size=8).hexdigest()}\n")
