"""The event loop of tests: virtual time, idleness, deadlocks, livelocks, refusals, the end."""

import asyncio
import gc
import math
import pickle
import random
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import closing, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

from infinitic.errors import UsageError
from infinitic_testing.loop import EPOCH, DeadlockError, LivelockError, VirtualClock, VirtualLoop, run

Main = Callable[[], Coroutine[Any, Any, Any]]
MONTH = 30 * 24 * 3600.0
WORKING = """
    call_at call_exception_handler call_later call_soon call_soon_threadsafe close create_future create_task
    default_exception_handler get_debug get_exception_handler get_task_factory is_closed is_running
    run_forever run_until_complete set_debug set_exception_handler set_task_factory shutdown_asyncgens
    shutdown_default_executor stop time"""
FENCED = [name for name in dir(asyncio.AbstractEventLoop) if name[0] != "_" and name not in WORKING.split()]


@pytest.fixture(autouse=True)
def nothing_is_lost(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs a pending task that is destroyed, and an exception that nobody retrieved."""
    yield
    gc.collect()
    assert caplog.get_records("call") + caplog.get_records("teardown") == []


@pytest.fixture
def loop(nothing_is_lost: None) -> Iterator[VirtualLoop]:
    with closing(VirtualLoop(max_steps_per_instant=1000)) as loop:
        yield loop
        if pending := [task for task in loop.pending_tasks() if task.cancel()]:
            loop.run_until_complete(asyncio.wait(pending))


def line(function: Callable[..., Any], offset: int) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def until_cancelled(ended: list[Any], name: object) -> None:
    try:
        await forever()
    finally:
        ended.append(name)


async def never_gives_up() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await forever()


async def fails_to_clean_up() -> None:
    try:
        await forever()
    finally:
        raise OSError("disk full")


def test_time_starts_at_zero_and_passes_exactly_when_nothing_can_run(loop: VirtualLoop) -> None:
    async def main(duration: float) -> float:
        before = loop.time()
        loop.call_later(1e-9, int)
        for _ in range(100):
            assert loop.time() == before
            await asyncio.sleep(0)
        await asyncio.sleep(duration)
        return loop.time()

    assert loop.run_until_complete(main(MONTH)) == MONTH
    assert loop.run_until_complete(main(0.25)) == MONTH + 0.25


def test_timers_fire_by_time_then_by_creation(loop: VirtualLoop) -> None:
    times = [float(when) for when in range(1, 6) for _ in range(60)]
    random.Random(7).shuffle(times)
    fired: list[tuple[float, int]] = []
    for number, when in enumerate(times):
        timer = loop.call_at if number % 3 else loop.call_background
        timer(when, lambda n: fired.append((loop.time(), n)), number)
    loop.run_until_complete(asyncio.sleep(10))
    assert fired == sorted((when, number) for number, when in enumerate(times))


def test_past_timers_fire_now_and_cancelled_ones_never(loop: VirtualLoop) -> None:
    fired, timers = list[float](), list[asyncio.TimerHandle]()
    loop.call_at(1.0, pytest.fail).cancel()
    loop.call_at(3.0, lambda: timers[0].cancel())
    timers.append(loop.call_at(3.0, pytest.fail))
    loop.call_at(3.0, lambda: fired.append(loop.time()))
    loop.run_until_complete(asyncio.sleep(4))
    assert fired == [3.0]
    for when in (-math.inf, 1.0, 4.0):
        loop.call_at(when, fired.append, when)
    loop.run_until_complete(loop.wait_idle())
    assert (fired, loop.time()) == ([3.0, -math.inf, 1.0, 4.0], 4.0)


def test_cancelled_timers_are_swept_out(loop: VirtualLoop) -> None:
    timers = weakref.WeakValueDictionary[int, asyncio.TimerHandle]()
    for number in range(3000):
        timers[number] = timer = loop.call_later(MONTH, pytest.fail)
        timer.cancel()
    assert len(timers) <= 101


def test_infinity_is_never_a_timer(loop: VirtualLoop) -> None:
    loop.call_at(math.inf, pytest.fail).cancel()
    loop.call_at(1.0, int)
    task = weakref.ref(loop.create_task(asyncio.sleep(math.inf)))
    for sleep in (asyncio.sleep(math.inf), anyio.sleep_forever()):
        with pytest.raises(DeadlockError, match=r"no timer is left at 1\.0 s"):
            loop.run_until_complete(sleep)
    gc.collect()
    assert task() is not None, "a task that sleeps forever is not garbage"
    with pytest.raises(ValueError, match="not a number"):
        loop.call_at(math.nan, pytest.fail)


def test_a_background_timer_fires_when_time_passes_it(loop: VirtualLoop) -> None:
    fired: list[float] = []
    loop.call_background(7.0, pytest.fail)
    loop.call_background(2.0, pytest.fail).cancel()
    loop.call_background(3.0, lambda: loop.call_later(0.5, lambda: fired.append(loop.time())))
    loop.run_until_complete(asyncio.sleep(5))
    assert fired == [3.5]


def test_time_moves_for_no_background_timer_and_no_cancelled_one(loop: VirtualLoop) -> None:
    loop.call_background(9.0, pytest.fail)
    loop.call_background(9.0, pytest.fail).cancel()
    fired, cancelled = loop.call_at(1.0, int), loop.call_at(8.0, pytest.fail)
    loop.call_at(2.0, fired.cancel)  # after its time: counts for nothing
    loop.call_at(2.0, cancelled.cancel)
    with pytest.raises(DeadlockError, match=r"no timer is left at 2\.0 s"):
        loop.run_forever()


def test_wait_idle_ends_when_nothing_can_run_before_time_moves(loop: VirtualLoop) -> None:
    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        trace.append("work")

    trace: list[str] = []
    loop.call_later(0, trace.append, "due")
    loop.call_background(0.0, trace.append, "background, due")
    loop.call_later(1e-9, trace.append, "later")
    task = loop.create_task(work())
    for _ in range(2):  # the second time it is idle at once
        loop.run_until_complete(loop.wait_idle())
        assert (trace, loop.time(), task.done()) == (["due", "background, due", "work"], 0.0, True)


def test_waiters_for_idleness_resume_one_at_a_time(loop: VirtualLoop) -> None:
    async def wait(name: str) -> None:
        await loop.wait_idle()
        for step in range(3):
            trace.append(f"{name}{step}")
            await asyncio.sleep(0)

    trace: list[str] = []
    tasks = [loop.create_task(wait(name)) for name in ("a", "cancelled", "b")]
    loop.call_soon(tasks[1].cancel)
    loop.run_until_complete(asyncio.wait(tasks))
    assert trace == ["a0", "a1", "a2", "b0", "b1", "b2"]


class Awaitable:
    def __await__(self) -> Generator[Any, None, None]:
        yield from self.wait()  # a generator below a coroutine, as in awaitable objects

    def wait(self) -> Generator[Any, None, None]:
        yield from asyncio.get_running_loop().create_future()


async def in_a_generator() -> None:
    await Awaitable()


def test_a_deadlock_lists_who_waits_and_where(loop: VirtualLoop) -> None:
    async def main() -> None:
        for wait in (in_a_generator, asyncio.Event().wait):
            tasks.append(loop.create_task(wait(), name=f"task {len(tasks)}"))
        await asyncio.sleep(2)
        await asyncio.wait(tasks)

    tasks: list[asyncio.Task[Any]] = [loop.create_task(until_cancelled([], ""), name="task 0")]
    with pytest.raises(DeadlockError) as caught:
        loop.run_until_complete(main())
    assert loop.pending_tasks() == tasks, "only main is cancelled"
    head, first, *others, last = str(caught.value).splitlines()
    assert head == "Nothing can run and no timer is left at 2.0 s. Waiting tasks: 4"
    assert first.endswith(f"_where.<locals>.main) at {line(main, 4)}"), "the main task comes first"
    assert others == [
        f"  task 0 (until_cancelled) at {line(until_cancelled, 2)} → {line(forever, 1)}",
        f"  task 1 (in_a_generator) at {line(in_a_generator, 1)} → {line(Awaitable.wait, 1)}",
    ]
    assert last.startswith("  task 2 (Event.wait) at ")
    assert "locks.py:" in last


@pytest.mark.parametrize(
    ("hook", "end", "cause"),
    [
        (lambda: "Trip waits for a signal", "  and 11 more\nTrip waits for a signal", type(None)),
        (lambda: ValueError("lost"), "  and 11 more\nValueError: lost", ValueError),
        (lambda: int("x"), "ValueError: invalid literal for int() with base 10: 'x'", ValueError),
    ],
)
def test_a_deadlock_is_bounded_and_explained(hook: Callable[[], Any], end: str, cause: type) -> None:
    async def main() -> None:
        await asyncio.gather(*(until_cancelled([], "") for _ in range(30)))

    with pytest.raises(DeadlockError) as caught:
        run(main(), on_deadlock=hook)
    text = str(caught.value)
    assert (text.endswith(end), text.count("(until_cancelled)")) == (True, 19)
    assert type(caught.value.__cause__) is cause
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_the_main_task_cleans_up_after_a_deadlock(loop: VirtualLoop) -> None:
    async def main() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(until_cancelled(ended, "child"))
        finally:
            await asyncio.sleep(3)
            ended.append(loop.time())

    ended: list[object] = []
    with pytest.raises(DeadlockError) as caught:
        loop.run_until_complete(main())
    assert (ended, loop.pending_tasks()) == (["child", 3.0], [])
    assert not hasattr(caught.value, "__notes__")
    assert loop.run_until_complete(asyncio.sleep(1, "usable")) == "usable"


@pytest.mark.parametrize(
    ("main", "note"),
    [(fails_to_clean_up, "and raised OSError('disk full')"), (never_gives_up, "but did not end. Nothing can")],
)
def test_what_goes_wrong_in_the_clean_up_is_noted(main: Main, note: str) -> None:
    calls: list[int] = []
    with closing(VirtualLoop(on_deadlock=lambda: calls.append(1))) as loop:
        with pytest.raises(DeadlockError) as caught:
            loop.run_until_complete(main())
        assert caught.value.__notes__[0].startswith(f"The main task was cancelled, {note}")
        assert calls == [1], "the hook is not asked about the clean-up"
        assert loop.on_deadlock, "but about the next deadlock"


def test_every_run_can_end_with_a_deadlock(loop: VirtualLoop) -> None:
    for way in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
        with pytest.raises(DeadlockError, match="Waiting tasks: 0"):
            way()
    with pytest.raises(DeadlockError, match=r"forever \(forever\) at "):
        anyio.run(forever, backend_options={"loop_factory": lambda: loop})


def test_a_livelock_lists_what_ran_last(loop: VirtualLoop) -> None:
    async def ping(mine: asyncio.Event, other: asyncio.Event) -> None:
        while True:
            await mine.wait()
            mine.clear()
            other.set()

    def spin() -> None:
        loop.call_soon(spin)

    async def main() -> None:
        (a := asyncio.Event()).set()
        for duration in [*[0] * 990, 1]:
            await asyncio.sleep(duration)
        spin()
        await asyncio.gather(until_cancelled([], ""), ping(a, b := asyncio.Event()), ping(b, a))

    with pytest.raises(LivelockError) as caught:
        loop.run_until_complete(main())
    assert loop.pending_tasks() == []
    head, *running = str(pickle.loads(pickle.dumps(caught.value))).splitlines()
    assert head == "More than 1000 steps at 1.0 s: time cannot move. Running: 3"
    assert sum(f".ping) at {line(ping, 2)}" in text for text in running) == 2
    assert sum("spin() at " in text for text in running) == 1


def test_steps_are_counted_for_one_instant(loop: VirtualLoop) -> None:
    async def main(steps: int) -> None:
        for duration in [1, *[0] * steps] * 3:
            await asyncio.sleep(duration)

    loop.run_until_complete(main(997))  # and three: the timer, the task's first step, the end of the run
    with pytest.raises(LivelockError):
        loop.run_until_complete(main(998))


@pytest.mark.parametrize("name", FENCED)
def test_what_leaves_virtual_time_is_refused_at_the_call(loop: VirtualLoop, name: str) -> None:
    with pytest.raises(UsageError, match=rf"^loop\.{name}\(\) does not work in virtual time.*: \w+"):
        getattr(loop, name)(None, None)  # not awaited: the call itself raises


@pytest.mark.parametrize("main", [lambda: asyncio.to_thread(print), lambda: anyio.run_process("true")])
def test_what_leaves_virtual_time_is_refused_in_libraries(main: Main) -> None:
    with pytest.raises(UsageError, match="virtual time"):
        run(main())


def test_only_the_thread_that_runs_the_loop_may_call(loop: VirtualLoop) -> None:
    thread = threading.Thread(target=loop.run_until_complete, args=[loop.wait_idle()])
    thread.start()
    thread.join()
    with pytest.raises(UsageError, match="from another thread"):
        loop.call_soon_threadsafe(loop.stop)
    loop.run_until_complete(loop.wait_idle())
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()  # until it is stopped


def test_a_deadlock_says_that_a_thread_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        try:
            await anyio.to_thread.run_sync(released.wait)
        finally:
            workers.extend(set(threading.enumerate()) - before)
            released.set()

    released, before, workers = threading.Event(), set(threading.enumerate()), list[threading.Thread]()
    monkeypatch.setattr(threading, "excepthook", id)  # the worker cannot report back
    with pytest.raises(DeadlockError, match=r"main\) waits for a thread, which does not work .*: call "):
        run(main())
    for thread in workers:
        thread.join()


def test_asyncio_runs_in_virtual_time() -> None:
    async def main() -> float:
        queue: asyncio.Queue[int] = asyncio.Queue()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(MONTH):
                await queue.get()
        loop = asyncio.get_running_loop()
        loop.call_later(MONTH, queue.put_nowait, 1)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.call_at(1.0, forever)  # debug mode
        await asyncio.wait_for(queue.get(), 2 * MONTH)
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop, debug=True) as runner:
        assert [runner.run(main()), runner.run(main())] == [2 * MONTH, 4 * MONTH]


def test_anyio_runs_in_virtual_time() -> None:
    async def drain() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(30)

    async def main() -> float:
        send, receive = anyio.create_memory_object_stream[str]()
        async with anyio.create_task_group() as group, send, receive:
            group.start_soon(send.send, "item")
            assert await receive.receive() == "item"
            with anyio.move_on_after(100):
                await receive.receive()
            group.start_soon(drain)
            await asyncio.sleep(0)
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert anyio.run(main, backend_options={"loop_factory": VirtualLoop}) == 130.0
    assert run(main()) == 130.0


def test_stop_ends_a_run_without_time_moving() -> None:
    with closing(VirtualLoop()) as loop:
        loop.call_later(1, pytest.fail)
        loop.stop()
        loop.run_forever()
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before"):
            loop.run_until_complete(forever())
        assert loop.time() == 0.0


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_and_leftovers_are_cleaned_up(interrupt: type[BaseException]) -> None:
    async def main(leftovers: int) -> None:
        tasks = [asyncio.create_task(until_cancelled(ended, "child")) for _ in range(leftovers)]
        await asyncio.sleep(1)
        raise interrupt(tasks)

    ended: list[str] = []
    with pytest.raises(interrupt):
        run(main(1))
    assert ended == ["child"]
    with closing(VirtualLoop()) as loop, pytest.raises(interrupt):
        loop.run_until_complete(main(0))


def test_leftovers_are_cancelled_in_the_order_of_their_creation() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: ended.append(repr(context["exception"])))
        tasks.extend(loop.create_task(until_cancelled(ended, number)) for number in range(50))
        tasks.append(asyncio.Task(until_cancelled(ended, 50)))  # past `loop.create_task`
        tasks.append(loop.create_task(fails_to_clean_up()))
        tasks[0].set_name("z")
        await asyncio.sleep(1)

    tasks, ended = list[asyncio.Task[None]](), list[object]()
    run(main())
    assert ended == [*range(51), "OSError('disk full')"]


def test_a_leftover_that_does_not_end_is_a_deadlock() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(asyncio.create_task, never_gives_up())
        await asyncio.sleep(1)

    with pytest.raises(DeadlockError, match=r"\(never_gives_up\) at "):
        run(main())


def test_asynchronous_generators_are_closed_in_the_order_of_their_creation() -> None:
    async def generator(number: int) -> AsyncIterator[int]:
        try:
            yield number
        finally:
            await asyncio.sleep(1)
            ended.append(number)

    async def main() -> None:
        await anext(generator(-1))  # dropped: closed as soon as it is garbage
        await asyncio.sleep(1)
        for number in range(50):
            generators.append(generator(number))
            await anext(generators[-1])

    generators, ended = list[AsyncIterator[int]](), list[int]()
    run(main())
    assert ended == [*range(-1, 50)]


@pytest.mark.parametrize("error", [OSError, DeadlockError])
def test_run_leaves_the_thread_as_it_was(error: type[Exception]) -> None:
    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        with pytest.raises(UsageError, match="while an event loop runs"):
            run(forever())
        with pytest.raises(RuntimeError, match="already running"), closing(forever()) as coroutine:
            loops[-1].run_until_complete(coroutine)
        raise error("own")

    loops, hooks, mine = list[asyncio.AbstractEventLoop](), sys.get_asyncgen_hooks(), asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    for _ in range(2):
        with pytest.raises(error, match=r"^own$"):
            run(main())
    assert (asyncio.get_event_loop(), sys.get_asyncgen_hooks()) == (mine, hooks)
    asyncio.set_event_loop(None)
    mine.close()
    assert loops[0] is not loops[1]
    with pytest.raises(RuntimeError, match="closed"):
        loops[0].call_later(1, print)


def test_the_clock_follows_its_loop() -> None:
    async def main() -> list[float]:
        return [clock.now() for clock in (VirtualClock(), VirtualClock(start=1000.0))]

    with closing(VirtualLoop()) as loop:
        clock = VirtualClock(loop)
        assert clock.now() == EPOCH
        loop.run_until_complete(asyncio.sleep(90))
        assert [clock.now(), *loop.run_until_complete(main())] == [1893456090.0, 1893456090.0, 1090.0]
    for outside in (VirtualClock().now, lambda: asyncio.run(main())):
        with pytest.raises(UsageError, match="none is running"):
            outside()
