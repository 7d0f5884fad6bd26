"""Tasks, generators, sleep, context variables and callbacks of the private loop (S15)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import pytest

from infinitic import Workflow
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways

CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


class Tasks(Workflow):
    desk = Workflow.new_service(Desk)

    async def background(self) -> list[str]:
        log = list[str]()

        async def tick() -> None:
            while True:
                await asyncio.sleep(2)
                log.append(f"tick {self.now():%S}")

        ticking = asyncio.create_task(tick(), name="ticking")
        log.append(f"{ticking.get_name()} {await self.desk.say('first', 5)}")
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        return log

    async def not_stopped(self) -> str:
        """A background task does not keep the instance open (S28)."""
        task = asyncio.create_task(asyncio.sleep(1_000_000))
        word = await self.desk.say("done", 1)
        return f"{word} {task.done()}"

    async def sleeps(self) -> list[str]:
        log = list[str]()
        for seconds in (0, 0.5, -1, 2, 1e-9):
            log.append(await asyncio.sleep(seconds, f"{self.now().timestamp() % 60:g}"))
        return [*log, f"{self.now().timestamp() % 60:g}"]

    async def never(self) -> str:
        """A sleep without an end is no timer."""
        task = asyncio.create_task(asyncio.sleep(float("inf")))
        word = await self.desk.say("done", 1)
        task.cancel()
        return word

    async def not_a_number(self) -> str:
        try:
            await asyncio.sleep(float("nan"))
        except ValueError as error:
            return type(error).__name__
        return "slept"

    async def callbacks(self) -> list[str]:
        loop, log = asyncio.get_running_loop(), list[str]()
        loop.call_soon(log.append, "soon")
        loop.call_later(3, log.append, "later")
        loop.call_at(loop.time() + 1, log.append, "at")
        loop.call_later(2, log.append, "cancelled").cancel()
        task = asyncio.create_task(self.desk.say("x", 5))
        task.add_done_callback(lambda done: log.append(f"done {done.result()}"))
        await task
        return log

    async def current(self) -> bool:
        this = asyncio.current_task()
        await self.desk.say("x")
        return this is asyncio.current_task() and this in asyncio.all_tasks()


@both_ways(Tasks)
async def test_a_task_in_the_background(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).background) == ["tick 02", "tick 04", "ticking first"]


@both_ways(Tasks)
async def test_a_task_in_the_background_does_not_keep_the_instance_open(run: Run) -> None:  # S28
    handle = await run.start(run.new(Tasks).not_stopped)
    assert await handle.result() == "done False"
    assert (await run.client.describe(handle)).closed_at is not None


@both_ways(Tasks)
async def test_sleep_of_any_length(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).sleeps) == ["0", "0", "0.5", "0.5", "2.5", "2.5"]


@both_ways(Tasks)
async def test_sleep_without_an_end_is_no_timer(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).never) == "done"


@both_ways(Tasks)
async def test_sleep_that_is_not_a_number_is_refused_at_the_call(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).not_a_number) == "ValueError"


@both_ways(Tasks)
async def test_callbacks_of_the_loop_and_of_tasks(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).callbacks) == ["soon", "at", "later", "done x"]


@both_ways(Tasks)
async def test_the_current_task(run: Run) -> None:  # S15
    assert await run.result(run.new(Tasks).current)


class BadCallback(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> str:
        task = asyncio.create_task(self.desk.say("a"))
        task.add_done_callback(lambda done: 1 / 0)
        asyncio.get_running_loop().call_soon(int, "no number")
        return await task + await self.desk.say("b")


@both_ways(BadCallback)
async def test_a_callback_that_raises_stops_nothing(run: Run) -> None:  # S15
    assert await run.result(run.new(BadCallback).run) == "ab"


async def test_a_callback_that_raises_is_logged_as_asyncio_does(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    sim.add_service(Desk)
    sim.add_workflow(BadCallback)
    with caplog.at_level(logging.WARNING):
        await sim.client.new_workflow(BadCallback).run()
    assert "ZeroDivisionError" in caplog.text
    assert "no number" in caplog.text


class Generators(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self) -> None:
        self.log = list[str]()

    async def _pages(self, count: int) -> AsyncGenerator[str, None]:
        try:
            for page in range(count):
                yield await self.desk.say(f"page {page}", 1)
        finally:
            self.log.append(await self.desk.say("closed", 1))

    async def run(self) -> list[str]:
        async for page in self._pages(3):
            self.log.append(page)
        async with contextlib.aclosing(self._pages(3)) as pages:
            async for page in pages:
                self.log.append(f"only {page}")
                break
        self.log.append(await self.desk.say("end"))
        return self.log

    async def abandoned(self) -> list[str]:
        async for page in self._pages(3):
            self.log.append(f"only {page}")
            break
        self.log.append(await self.desk.say("end", 5))
        return self.log


@both_ways(Generators)
async def test_asynchronous_generators(run: Run) -> None:  # S15
    assert await run.result(run.new(Generators).run) == [
        *("page 0", "page 1", "page 2", "closed"),
        *("only page 0", "closed", "end"),
    ]


@both_ways(Generators)
async def test_an_abandoned_generator_is_the_same_in_every_replay(run: Run) -> list[str]:  # S15
    log = await run.result(run.new(Generators).abandoned)
    assert (log[0], log[-1]) == ("only page 0", "end")
    return log


class Contexts(Workflow):
    desk = Workflow.new_service(Desk)

    async def main(self) -> list[str]:
        CALLER.set("main")
        task = asyncio.create_task(self._child())
        await self.desk.say("x", 10)
        return [CALLER.get(), await task]

    async def _child(self) -> str:
        inherited = CALLER.get()
        CALLER.set("child")
        await self.desk.say("x")
        return f"{inherited} → {CALLER.get()}"

    async def other(self) -> str:
        before = CALLER.get()
        token = CALLER.set("other")
        await self.desk.say("x")
        during = CALLER.get()
        CALLER.reset(token)
        return f"{before}, {during}, {CALLER.get()}"


@both_ways(Contexts)
async def test_each_method_has_its_own_context_variables(run: Run) -> None:  # S26
    CALLER.set("the test")
    handle = await run.start(run.new(Contexts).main)
    await run.sim.sleep(1)
    assert await run.on(Contexts).other() == "nobody, other, nobody"
    assert await handle.result() == ["main", "main → child"]
    assert CALLER.get() == "the test"
