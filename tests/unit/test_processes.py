"""Simulated processes: what belongs to them, pauses that lose nothing, clocks that are wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from infinitic.errors import UsageError
from infinitic_testing.loop import (
    EPOCH,
    DeadlockError,
    Process,
    SkewedClock,
    VirtualClock,
    current_process,
    run,
)
from tests.unit.ticking import forever, loop, seen, tick

pytestmark = pytest.mark.usefixtures("nothing_is_reported")


def test_whatever_a_process_starts_belongs_to_it() -> None:
    async def main() -> None:
        one, other = Process("one"), Process("other")
        assert current_process() is None

        async def child(depth: int) -> None:
            seen.append(current_process())
            if depth:
                await asyncio.create_task(child(depth - 1))
                async with asyncio.TaskGroup() as group:
                    group.create_task(child(0))
                await asyncio.Task(child(0))

        def callback() -> None:
            seen.append(current_process())

        async def parent() -> str | None:
            await child(1)
            loop().call_soon(callback)
            loop().call_later(1, callback)
            future = loop().create_future()
            future.add_done_callback(lambda _: callback())
            future.set_result(None)
            await other.start(child(0))
            await asyncio.sleep(2)
            return "result"

        task = one.start(parent(), name="parent")
        assert task.get_name() == "parent"
        assert await task == "result"
        assert current_process() is None
        assert [each.name for each in seen] == ["one"] * 6 + ["other", "one"]

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks before 3.12")
def test_eager_tasks_belong_to_the_process_that_makes_them() -> None:
    async def main() -> None:
        process = Process("worker")

        async def eager(name: str) -> None:
            seen.append((name, current_process() is process))
            await tick(name)

        async def work() -> None:
            loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - new in Python 3.12
            asyncio.create_task(eager("child"))  # noqa: RUF006 - the loop keeps it
            seen.append("parent")
            await forever()

        process.start(work())
        await asyncio.sleep(1.5)
        process.kill()
        await asyncio.sleep(5)
        assert seen == [("child", True), "parent", ("child", 1.0)]
        loop().set_task_factory(None)

    run(main())


def test_a_paused_process_is_held_and_then_runs_in_order() -> None:
    async def main() -> None:
        process, other = Process("worker"), Process("other")
        process.start(tick("a", 2.0))
        other.start(tick("b", 2.0))
        await asyncio.sleep(3)
        shared = loop().create_future()
        process.start(listen(shared))
        await loop().wait_idle()
        process.pause()
        process.pause()
        for number in range(3):
            loop().call_soon(seen.append, f"no process {number}")
            process.start(see(number))
        shared.set_result("message")
        await asyncio.sleep(6)
        assert (process.is_alive, process.is_paused) == (True, True)
        before = [("b", 4.0), ("b", 6.0), ("b", 8.0)]
        assert seen == [("a", 2.0), ("b", 2.0), *(f"no process {each}" for each in range(3)), *before]
        seen.clear()
        process.resume()
        process.resume()
        await asyncio.sleep(4)
        # The timer of 4.0 fires late, and sets the next one two seconds later.
        assert seen == ["message", 0, 1, 2, ("a", 9.0), ("b", 10.0), ("a", 11.0), ("b", 12.0)] or seen == [
            0, 1, 2, "message", ("a", 9.0), ("b", 10.0), ("a", 11.0), ("b", 12.0)]  # fmt: skip
        process.kill()
        other.kill()

    async def listen(future: asyncio.Future[str]) -> None:
        seen.append(await future)

    async def see(number: int) -> None:
        seen.append(number)

    run(main())


def test_a_pause_from_within_holds_what_comes_after_the_step() -> None:
    async def main() -> None:
        process = Process("worker")

        async def nap() -> None:
            process.pause()
            seen.append("same step")
            await asyncio.sleep(0)
            seen.append(loop().time())

        process.start(nap())
        loop().call_later(60, process.resume)
        await asyncio.sleep(100)
        assert seen == ["same step", 60.0]

    run(main())


def test_a_deadlock_names_paused_processes() -> None:
    async def main() -> None:
        processes = [Process(name) for name in ("one", "other", "killed")]
        for process in processes:
            process.start(tick(process.name))
            process.pause()
        processes[-1].kill()
        await forever()

    with pytest.raises(DeadlockError, match=r"Paused processes, which nobody resumes: one, other$"):
        run(main())


def test_paused_processes_are_resumed_and_cleaned_up_at_the_end() -> None:
    async def main() -> None:
        process = Process("worker")
        process.start(tick("a"))
        await asyncio.sleep(1.5)
        process.pause()

    run(main())
    assert seen == [("a", 1.0), "left a", "a ends with CancelledError", "finally of a"]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_task_factory_works_with_processes(legacy: bool) -> None:
    def old(loop: Any, coro: Any) -> Any:
        return asyncio.Task(coro, loop=loop)

    def new(loop: Any, coro: Any, **options: Any) -> Any:
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        process = Process("worker")
        loop().set_task_factory(new)

        async def work() -> None:
            if legacy:
                loop().set_task_factory(old)
            asyncio.create_task(tick("child"))  # noqa: RUF006 - the loop keeps it
            await tick("parent")

        process.start(work())
        await asyncio.sleep(1.5)
        process.kill()
        await asyncio.sleep(5)
        assert seen == [("parent", 1.0), ("child", 1.0)]

    run(main())


def test_a_process_needs_a_loop_in_virtual_time() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="needs a VirtualLoop"):
            Process("worker")

    asyncio.run(main())
    with pytest.raises(UsageError, match="needs a VirtualLoop"):
        Process("worker")


def test_a_process_says_its_state() -> None:
    async def main() -> None:
        process = Process("worker")
        for change in (process.pause, process.resume, process.kill):
            seen.append(repr(process))
            change()
        seen.append(repr(process))

    run(main())
    states = ("running", "paused", "running", "killed")
    assert seen == [f"<Process worker {each}>" for each in states]


def test_a_skewed_clock_is_wrong_by_its_offset() -> None:
    async def main() -> None:
        clock = SkewedClock(VirtualClock(), 5.0)
        seen = [clock.now()]
        clock.offset = -3.0
        await asyncio.sleep(1)
        seen.append(clock.now())
        assert seen == [EPOCH + 5.0, EPOCH - 2.0]

    run(main())
