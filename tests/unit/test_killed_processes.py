"""A power cut: nothing of a killed process runs any more, also no `finally`."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from infinitic.errors import UsageError
from infinitic_testing.loop import DeadlockError, Process, current_process, run
from tests.unit.ticking import forever, held, loop, seen, tick

pytestmark = pytest.mark.usefixtures("nothing_is_reported")


@pytest.mark.parametrize("seconds", [2.0, 2.5])
def test_a_killed_process_runs_nothing_more(seconds: float) -> None:
    async def main() -> None:
        process = Process("worker")
        tasks = [process.start(tick(name)) for name in "ab"]
        loop().call_later(seconds, seen.append, "killed")
        loop().call_later(seconds, process.kill)
        await asyncio.sleep(10)
        assert (process.is_alive, process.is_paused) == (False, False)
        assert not any(task.done() for task in tasks)
        assert loop().pending_tasks() == [asyncio.current_task()]
        gc.collect()
        # At the same instant, the older timers come first.
        last = [("a", 2.0), ("b", 2.0)]
        assert seen == [("a", 1.0), ("b", 1.0), *(["killed"] if seconds == 2.0 else [*last, "killed"])]

    run(main())


def test_time_does_not_move_for_timers_of_a_killed_process() -> None:
    async def main() -> None:
        process = Process("worker")
        for _ in range(3):
            process.start(tick("worker", 3600.0))
        await asyncio.sleep(1)
        process.kill()
        await forever()

    with pytest.raises(DeadlockError, match=r"no timer is left at 1\.0 s. Waiting tasks: 1\n"):
        run(main())


def test_other_timers_stay_in_order_when_a_process_is_killed() -> None:
    async def main() -> None:
        process = Process("worker")
        for number in range(40):
            owner = process if number % 3 else None
            task = asyncio.sleep(100.0 - number)
            _ = loop().create_task(task) if owner is None else owner.start(task)
            loop().call_later(100.0 - number, seen.append, number)
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(200)
        assert seen == list(reversed(range(40)))

    run(main())


def test_the_garbage_collector_runs_no_finally_of_a_killed_process() -> None:
    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            seen.append("finally of an asynchronous generator")

    async def work() -> None:
        # Nothing but the task refers to these futures and generators.
        async for _ in generate():
            with held("work"):
                await forever()

    async def drop() -> None:
        generator = generate()
        await anext(generator)
        cycle: list[object] = [generator]
        cycle.append(cycle)

    async def main() -> None:
        process = Process("worker")
        for start in (work, drop, work):
            process.start(start())
        process.start(asyncio.sleep(5))
        await asyncio.sleep(1)
        process.start(forever())
        process.kill()
        await asyncio.sleep(1)
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(3)
        assert seen == []

    run(main())
    # The loop has closed the coroutines, but not the generators: these would need a loop.
    assert seen == ["left work", "left work"]


def test_at_the_end_dead_code_is_closed_and_reaches_nothing() -> None:
    process: Process
    is_over = False

    async def clean_up() -> None:
        try:
            await forever()
        finally:
            seen.append(current_process() is process)
            logging.getLogger("user").error("The clean-up failed")
            asyncio.create_task(tick("never"))  # noqa: RUF006 - it never runs
            await asyncio.sleep(1)

    async def stubborn() -> None:
        while True:
            try:
                await Suspension()
            except BaseException:
                if is_over:
                    # Else it would print an error when Python exits.
                    raise
                seen.append("stubborn")

    async def lost() -> None:
        raise OSError("nobody retrieves this")

    async def main() -> None:
        nonlocal process
        process = Process("worker")
        process.start(clean_up())
        process.start(stubborn())
        process.start(keep(asyncio.create_task(lost(), context=None)))
        await asyncio.sleep(1)
        process.kill()
        assert seen == []

    async def keep(task: asyncio.Task[None]) -> None:
        await asyncio.sleep(0.5)
        kept = Process("other").start(lost())
        await asyncio.wait([kept, task])
        # Found by the garbage collector, after the end.
        cycle: list[object] = [kept, task]
        cycle.append(cycle)
        failing = fail_late()
        next(failing)
        await forever()

    run(main())
    assert seen[0] is True
    assert set(seen[1:]) == {"stubborn", "late"}
    assert logging.root.manager.disable == logging.NOTSET
    is_over = True


def fail_late() -> Generator[None]:
    try:
        yield
    finally:
        seen.append("late")
        raise OSError("nobody can catch this")


class Suspension:
    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.get_running_loop().create_future()


def test_a_process_that_kills_itself_runs_to_its_next_wait() -> None:
    async def main() -> None:
        process = Process("worker")

        async def die() -> None:
            try:
                seen.append("before")
                process.kill()
                loop().call_soon(seen.append, "callback")
                loop().call_later(1000.0, seen.append, "timer")
                asyncio.create_task(tick("child"))  # noqa: RUF006 - the loop keeps it
                seen.append("after")
                await asyncio.sleep(0)
                seen.append("never")
            finally:
                seen.append("finally")

        process.start(die())
        await asyncio.sleep(0)
        await loop().wait_idle()
        assert seen == ["before", "after"]
        with pytest.raises(UsageError, match="'worker' was killed"):
            process.start(forever())
        await asyncio.sleep(5)
        assert seen == ["before", "after"]
        # Timers of the dead do not move the time.
        await forever()

    with pytest.raises(DeadlockError, match=r"at 5\.0 s. Waiting tasks: 1"):
        run(main())


def test_halt_is_what_the_edge_of_a_killed_process_awaits() -> None:
    async def main() -> None:
        process = Process("worker")

        async def commit() -> None:
            process.kill()
            if not process.is_alive:
                await process.halt()

        async def work() -> None:
            await commit()
            seen.append("never")

        process.start(work())
        await asyncio.sleep(1)
        assert seen == []

    run(main())


def test_who_waits_for_a_killed_process_waits_for_ever() -> None:
    async def main() -> None:
        process = Process("worker")
        task = process.start(asyncio.sleep(1))
        shared = loop().create_future()
        waiting = process.start(wait_for(shared))
        loop().call_later(0.5, process.kill)
        loop().call_later(0.6, shared.set_result, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(9):
                await task
        assert (seen, waiting.done()) == ([], False)

    async def wait_for(future: asyncio.Future[int]) -> None:
        seen.append(await future)

    run(main())


def test_on_kill_is_called_once_in_order_outside_of_the_process() -> None:
    async def main() -> None:
        process = Process("worker")
        process.on_kill(lambda: seen.append((1, process.is_alive, current_process())))
        process.on_kill(lambda: seen.append(2))
        process.kill()
        process.kill()
        assert seen == [(1, False, None), 2]

    run(main())


def test_a_process_may_be_killed_while_it_is_paused() -> None:
    async def main() -> None:
        process = Process("worker")
        process.start(tick("a"))
        await asyncio.sleep(0.5)
        process.pause()
        await asyncio.sleep(5)
        process.kill()
        process.resume()
        await asyncio.sleep(5)
        gc.collect()
        assert (seen, process.is_paused) == ([], False)

    run(main())


def test_tasks_made_past_the_loop_die_with_their_process() -> None:
    async def main() -> None:
        process = Process("worker")

        async def work() -> None:
            stray = asyncio.Task(tick("stray"))
            ready = asyncio.Task(tick("ready"))
            await asyncio.sleep(0)
            await asyncio.gather(stray, ready)

        process.start(work())
        await asyncio.sleep(0.5)
        process.start(work())
        await asyncio.sleep(0)
        process.kill()
        assert loop().pending_tasks() == [asyncio.current_task()]
        await asyncio.sleep(5)
        gc.collect()
        assert seen == []

    run(main())
