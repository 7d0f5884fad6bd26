"""Event, Queue, Lock, Semaphore, Condition and Barrier (S15, S26).

They stand between parallel methods of one instance.
"""

from __future__ import annotations

import asyncio

from infinitic import Workflow
from tests.replay.harness import Desk, Run, both_ways


class Shared(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self) -> None:
        self.log = list[str]()
        self.opened = asyncio.Event()
        self.jobs = asyncio.Queue[str](maxsize=2)
        self.lock = asyncio.Lock()
        self.seats = asyncio.Semaphore(2)
        self.changed = asyncio.Condition()
        self.level = 0

    async def wait_open(self) -> list[str]:
        async def wait(word: str) -> None:
            await self.opened.wait()
            self.log.append(await self.desk.say(word, 1))

        await asyncio.gather(wait("a"), wait("b"))
        return self.log

    async def open(self) -> bool:
        await self.desk.say("opening", 3)
        self.opened.set()
        return self.opened.is_set()

    async def consume(self) -> list[str]:
        while (job := await self.jobs.get()) != "stop":
            self.log.append(await self.desk.say(job, 2))
            self.jobs.task_done()
        return self.log

    async def produce(self, *jobs: str) -> int:
        for job in jobs:
            await self.jobs.put(job)
        return self.jobs.qsize()

    async def locked(self, word: str) -> list[str]:
        async with self.lock:
            self.log.append(f"{word} in")
            await self.desk.say(word, 2)
            self.log.append(f"{word} out")
        return self.log

    async def seated(self, word: str) -> list[str]:
        async with self.seats:
            self.log.append(f"{word} in")
            await self.desk.say(word, len(word))
            self.log.append(f"{word} out")
        return self.log

    async def reach(self, level: int) -> str:
        async with self.changed:
            await self.changed.wait_for(lambda: self.level >= level)
        return f"level {self.level}"

    async def rise(self) -> int:
        await self.desk.say("rise")
        async with self.changed:
            self.level += 1
            self.changed.notify_all()
        return self.level

    async def barrier(self) -> list[str]:
        barrier = asyncio.Barrier(3)

        async def arrive(word: str) -> None:
            await self.desk.say(word, len(word))
            await barrier.wait()
            self.log.append(f"{word} at {self.now():%S}")

        await asyncio.gather(arrive("ccc"), arrive("a"), arrive("bb"))
        return sorted(self.log)


@both_ways(Shared)
async def test_an_event_set_by_another_method(run: Run) -> None:  # S26
    handle = await run.start(run.new(Shared).wait_open)
    assert await run.on(Shared).open()
    assert await handle.result() == ["a", "b"]


@both_ways(Shared)
async def test_a_queue_between_methods_keeps_order_and_bound(run: Run) -> None:  # S26
    handle = await run.start(run.new(Shared).consume)
    produced = await run.client.dispatch(run.on(Shared).produce, "a", "b", "c", "d", "e", "stop")
    assert await produced.result() <= 2
    assert await handle.result() == ["a", "b", "c", "d", "e"]


@both_ways(Shared)
async def test_a_lock_held_over_a_task(run: Run) -> None:  # S26
    handle = await run.start(run.new(Shared).locked, "a")
    others = [await run.client.dispatch(run.on(Shared).locked, word) for word in "bcd"]
    assert await handle.result() == ["a in", "a out"]
    assert await others[-1].result() == [f"{word} {way}" for word in "abcd" for way in ("in", "out")]


@both_ways(Shared)
async def test_a_semaphore_bounds_parallel_methods(run: Run) -> None:  # S26
    await run.start(run.new(Shared).seated, "eeee")
    others = [await run.client.dispatch(run.on(Shared).seated, word) for word in ("a", "bb", "cc")]
    assert await others[-1].result() == [
        *("eeee in", "a in", "a out", "bb in", "bb out", "cc in", "eeee out"),
        *("cc out",),
    ]


@both_ways(Shared)
async def test_a_condition(run: Run) -> None:  # S26
    handle = await run.start(run.new(Shared).reach, 3)
    for _ in range(3):
        await run.on(Shared).rise()
    assert await handle.result() == "level 3"


@both_ways(Shared)
async def test_a_barrier(run: Run) -> None:  # S15
    assert await run.result(run.new(Shared).barrier) == ["a at 03", "bb at 03", "ccc at 03"]


class ClassLevel(Workflow):
    """Primitives made in the class body: each instance has its own."""

    desk = Workflow.new_service(Desk)
    lock = asyncio.Lock()
    opened = asyncio.Event()
    jobs = asyncio.Queue[str]()

    async def run(self, word: str) -> str:
        async def hold() -> None:
            async with self.lock:
                await self.desk.say(word, 2)

        await asyncio.gather(hold(), hold())
        self.jobs.put_nowait(word)
        was_open = self.opened.is_set()
        self.opened.set()
        return f"{self.jobs.qsize()} {was_open} {self.lock.locked()}"


@both_ways(ClassLevel)
async def test_primitives_of_the_class_body_belong_to_one_instance(run: Run) -> None:  # S26
    handles = [await run.start(run.new(ClassLevel).run, word) for word in "abc"]
    assert [await handle.result() for handle in handles] == ["1 False False"] * 3
