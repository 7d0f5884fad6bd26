"""Order that depends on the seed alone: what runs next, what a step makes ready, and the digest."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from infinitic.errors import UsageError
from infinitic_testing.choices import Choices
from infinitic_testing.loop import DeadlockError, LivelockError, Process, VirtualLoop, run
from infinitic_testing.loop.garbage import RUNS_TO_COLLECT
from infinitic_testing.loop.stepping import SCHEDULE, is_task_step
from tests.unit.repeated_run import play_once
from tests.unit.ticking import loop

ROOT = Path(__file__).parents[2]
RECORDED = "49f114ea2b8d7a42ab9ff7bf98829b8f"
"""The digest of `repeated_run` with the seed 5. It is the same on Python 3.11, 3.12 and 3.13."""

Main = Callable[[], Coroutine[Any, Any, Any]]


def play(main: Main, *, seed: int | None = None, only: list[tuple[str, int]] | None = None) -> str:
    """Run a coroutine in a repeatable loop, and return the digest of its steps."""
    choices = None if seed is None else Choices(seed, only=only)
    virtual = VirtualLoop(choices=choices, trace=True)
    try:
        virtual.run_until_complete(main())
        return virtual.trace_digest()
    finally:
        virtual.close()


def test_the_digest_is_the_same_in_other_processes_with_other_heaps() -> None:
    outputs = set[str]()
    for junk in (1, 1003, 20_002):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.unit.repeated_run", "5", str(junk)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(junk)},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(ran.stdout)
    assert len(outputs) == 1
    assert outputs.pop().split()[0] == RECORDED


def test_the_digest_is_the_same_again_in_one_process_and_differs_between_seeds() -> None:
    digest, log = play_once(5)
    assert digest == RECORDED
    assert play_once(5) == (digest, log)
    plain = play_once(None)
    assert plain == play_once(None)
    assert len({digest, plain[0], play_once(6)[0], play_once(7)[0]}) == 4


async def three_tasks(log: list[str]) -> None:
    async def work(name: str) -> None:
        for step in range(3):
            log.append(f"{name}{step}")
            await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"), work("c"))


def test_without_choices_the_oldest_callback_runs() -> None:
    log = list[str]()
    play(partial(three_tasks, log))
    assert log == [f"{name}{step}" for step in range(3) for name in "abc"]


def test_any_order_of_tasks_is_drawn() -> None:
    starts = set[str]()
    for seed in range(60):
        log = list[str]()
        play(partial(three_tasks, log), seed=seed)
        assert sorted(log) == sorted(f"{name}{step}" for step in range(3) for name in "abc")
        starts.add("".join(each[0] for each in log if each[1] == "0"))
    assert len(starts) == 6


def test_plain_choices_give_the_order_of_a_loop_without_choices() -> None:
    log, other = list[str](), list[str]()
    assert play(partial(three_tasks, log), seed=3, only=[]) == play(partial(three_tasks, other))
    assert log == other


def test_the_kept_choices_of_a_run_repeat_it() -> None:
    choices = Choices(9)
    virtual = VirtualLoop(choices=choices, trace=True)
    log, again = list[str](), list[str]()
    virtual.run_until_complete(three_tasks(log))
    digest = virtual.trace_digest()
    virtual.close()
    assert {label for label, _ in choices.taken} == {SCHEDULE}
    assert play(partial(three_tasks, again), seed=9, only=list(choices.taken)) == digest
    assert log == again


def test_plain_callbacks_of_a_process_keep_their_order() -> None:
    """asyncio promises this for `call_soon`, and code may rely on it."""
    mixed = False
    for seed in range(20):
        seen = list[tuple[str, int]]()

        async def main(seen: list[tuple[str, int]] = seen) -> None:
            async def work(name: str) -> None:
                for number in range(5):
                    loop().call_soon(seen.append, (name, number))
                loop().call_soon(seen.append, (name, 99)).cancel()

            for name in "ab":
                Process(name).start(work(name))
            await asyncio.sleep(1)

        play(main, seed=seed)
        for name in "ab":
            assert [number for who, number in seen if who == name] == list(range(5))
        mixed = mixed or seen != sorted(seen)
    assert mixed, "callbacks of two processes never changed places"


def test_what_one_step_makes_ready_runs_in_the_order_of_creation() -> None:
    log = list[int]()

    async def main() -> None:
        async def wait(number: int, future: asyncio.Future[None]) -> None:
            await future
            log.append(number)

        futures = [loop().create_future() for _ in range(20)]
        tasks = [loop().create_task(wait(number, future)) for number, future in enumerate(futures)]
        strays = [asyncio.Task(wait(100 + number, future)) for number, future in enumerate(futures)]
        await asyncio.sleep(0)
        for future in reversed(futures):
            future.set_result(None)
        await asyncio.wait([*tasks, *strays])

    play(main)
    strays = [number for number in log if number >= 100]
    assert [number for number in log if number < 100] == list(range(20))
    assert strays == list(range(100, 120))


@pytest.mark.parametrize("trace", [False, True])
def test_sets_of_tasks_are_walked_in_the_same_order_each_time(trace: bool) -> None:
    orders = list[list[str]]()
    for junk in (0, 7, 500):
        held = [bytearray(100 + each) for each in range(junk)]

        async def main() -> None:
            tasks = {asyncio.create_task(asyncio.sleep(0), name=str(number)) for number in range(30)}
            done, _ = await asyncio.wait(tasks)
            orders.append([task.get_name() for task in done])

        run(main(), trace=trace)
        del held
    assert orders[0] == orders[1] == orders[2]


def test_a_livelock_is_found_with_choices() -> None:
    async def main() -> None:
        async def spin() -> None:
            for _ in itertools.count():
                await asyncio.sleep(0)

        await asyncio.gather(spin(), spin())

    virtual = VirtualLoop(choices=Choices(1), trace=True, max_steps_per_instant=1000)
    with pytest.raises(LivelockError, match=r"(?s)More than 1000 steps at 0\.0 s.*spin\) at "):
        virtual.run_until_complete(main())
    virtual.close()


def test_a_deadlock_is_found_with_choices() -> None:
    async def main() -> None:
        await asyncio.gather(asyncio.Event().wait(), asyncio.sleep(3))

    with pytest.raises(DeadlockError, match=r"no timer is left at 3\.0 s"):
        play(main, seed=1)


def test_names_of_processes_and_callbacks_are_in_the_digest() -> None:
    def first() -> None: ...

    def second() -> None: ...

    async def main(name: str, callback: Any) -> None:
        Process(name).start(asyncio.sleep(1))
        loop().call_soon(callback)
        await asyncio.sleep(2)

    digests = [
        play(partial(main, name, callback))
        for name, callback in (("a", first), ("b", first), ("a", second), ("a", partial(partial(first))), ("a", first))
    ]
    assert digests[0] == digests[3] == digests[4]
    assert len(set(digests)) == 3


def test_marks_tell_when_two_runs_begin_to_differ() -> None:
    async def main(odd: float) -> list[tuple[float, str]]:
        for number in range(3000):
            await asyncio.sleep(1.0)
            if number == odd:
                await asyncio.sleep(0)
        return loop().trace_marks()

    marks = [run(main(odd), trace=True) for odd in (1500, -1, -1)]
    assert marks[1] == marks[2]
    assert len(marks[0]) > 20
    first = next(index for index, (one, other) in enumerate(zip(*marks[:2], strict=False)) if one != other)
    assert marks[0][first - 1][0] <= 1501 <= marks[0][first][0] <= 1501 + 128
    assert run(main(-1)) == [], "a loop without a trace"


def test_a_loop_without_a_trace_says_so() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="keeps no trace"):
            loop().trace_digest()

    run(main())


@pytest.mark.parametrize("kind", [asyncio.Task, cast(Any, asyncio.tasks)._PyTask])
def test_steps_of_tasks_are_told_from_plain_callbacks(kind: Any) -> None:
    async def main() -> None:
        steps = cast(Any, loop())._ready

        async def wait(future: asyncio.Future[None]) -> None:
            await future

        future = loop().create_future()
        task = kind(wait(future), loop=loop())
        assert is_task_step(steps[-1]._callback)
        await asyncio.sleep(0)
        future.set_result(None)
        assert is_task_step(steps[-1]._callback)
        for plain in (task.cancel, len, future.done, lambda: None, print, partial(print)):
            assert not is_task_step(plain)
        await task

    run(main())


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, found: list[float]) -> None:
        self.itself = self
        self.found = found

    def __del__(self) -> None:
        self.found.append(asyncio.get_running_loop().time())


@pytest.fixture
def unfrozen() -> Iterator[None]:
    """Nothing is frozen during a test."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("unfrozen")
def test_garbage_is_collected_at_fixed_steps_only() -> None:
    found = list[float]()
    kept = list[object]()

    async def main() -> None:
        Cycle(found)
        for _ in range(50):
            # Python would collect meanwhile.
            kept.extend([] for _ in range(1000))
            await asyncio.sleep(1)
        assert found == []
        for _ in range(20_000):
            await asyncio.sleep(1)
        assert found == [10_000.0]

    before, older = gc.get_freeze_count(), len(gc.get_objects())
    assert gc.isenabled()
    virtual = VirtualLoop(trace=True)
    assert not gc.isenabled()
    assert gc.get_freeze_count() > older // 2, "what was there before is not searched"
    virtual.run_until_complete(main())
    virtual.close()
    virtual.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= before


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.usefixtures("unfrozen")
def test_the_collector_is_given_back_as_it_was(enabled: bool) -> None:
    gc.freeze()
    try:
        if not enabled:
            gc.disable()
        run(asyncio.sleep(1), choices=Choices(1), trace=True)
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()


class Left:
    """What a run leaves. It is collected some time later."""

    def __init__(self, ended: list[bool]) -> None:
        self.ended = ended
        self.itself = self

    def __del__(self) -> None:
        self.ended.append(asyncio._get_running_loop() is None)


@pytest.mark.usefixtures("unfrozen")
def test_what_runs_have_left_ends_between_runs() -> None:
    """In the middle of a run it could start tasks there."""
    ended: list[bool] = []

    async def main() -> None:
        # As a simulation does when it begins.
        loop().make_repeatable(Choices(1))

    # Python itself shall collect nothing.
    gc.disable()
    try:
        for _ in range(2 * RUNS_TO_COLLECT):
            left = Left(ended)
            run(main())
            del left
    finally:
        gc.enable()
    assert len(ended) >= RUNS_TO_COLLECT
    assert all(ended)
