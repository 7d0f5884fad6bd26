"""An instance that leaves memory (S11, S26).

Its cleanup code records nothing and disturbs nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import gc
import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest
from msgspec import Raw

from infinitic import Channel, Workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.events import MethodStarted
from infinitic.replay.instance import Instance
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways

COLOUR: ContextVar[str] = ContextVar("colour", default="none")
CLEANED: list[str] = []


class Careful(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def cleans_up(self) -> list[str]:
        log = list[str]()
        try:
            log.append(await self.desk.say("work", 10))
        finally:
            CLEANED.append("cleans_up")
            self.dispatch(self.desk.say, "dispatched")
            log.append(await self.desk.say("cleaned up"))
        return log

    async def cleans_slowly(self) -> list[str]:
        """Cleanup that awaits again and again, in many ways."""
        log = list[str]()
        try:
            log.append(await self.desk.say("work", 10))
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            with contextlib.suppress(BaseException):
                await self.go.receive()
            with contextlib.suppress(Exception):
                await asyncio.gather(self.desk.say("a"), self.desk.say("b"))
            async with asyncio.TaskGroup() as group:
                group.create_task(self.desk.say("c"))
            with contextlib.suppress(BaseException):
                self.logger.info("cleaned")
            await self.timer(1)
        return log

    async def in_groups(self) -> list[str]:
        async with asyncio.timeout(1000), asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.desk.say(word, 5)) for word in "abc"]
            async with asyncio.TaskGroup() as inner:
                inner.create_task(self.desk.say("inner", 3))
        return [task.result() for task in tasks]

    async def generates(self) -> list[str]:
        async def pages() -> AsyncIterator[str]:
            try:
                for word in "abc":
                    yield await self.desk.say(word, 1)
            finally:
                await self.desk.say("closed")

        return [page async for page in pages()]

    async def colours(self) -> str:
        token = COLOUR.set("red")
        with decimal.localcontext() as numbers:
            numbers.prec = 5
            try:
                await self.desk.say("work", 10)
                return f"{COLOUR.get()} {decimal.getcontext().prec}"
            finally:
                COLOUR.reset(token)
                COLOUR.set("cleaned up")
                decimal.getcontext().prec = 77

    async def says(self) -> str:
        try:
            return await self.desk.say("work", 10)
        finally:
            self.logger.info("cleaned up")


@both_ways(Careful)
async def test_cleanup_that_asks_for_tasks(run: Run) -> None:  # S11
    handles = [await run.start(run.new(Careful).cleans_up) for _ in range(3)]
    assert [await handle.result() for handle in handles] == [["work", "cleaned up"]] * 3


@both_ways(Careful)
async def test_cleanup_that_awaits_again_and_again(run: Run) -> None:  # S11
    handle = await run.start(run.new(Careful).cleans_slowly)
    await run.sim.sleep(20)
    await run.on(Careful).go.send("go")
    assert await handle.result() == ["work"]
    gc.collect()  # what was left behind would complain here


@both_ways(Careful)
async def test_groups_and_deadlines(run: Run) -> None:  # S11
    assert await run.result(run.new(Careful).in_groups) == ["a", "b", "c"]


@both_ways(Careful)
async def test_asynchronous_generators(run: Run) -> None:  # S11
    assert await run.result(run.new(Careful).generates) == ["a", "b", "c"]
    gc.collect()


@both_ways(Careful)
async def test_context_variables(run: Run) -> None:  # S26
    assert await run.result(run.new(Careful).colours) == "red 5"


def _begun(method: str) -> Instance:
    """A live instance that waits for its first task."""
    instance = Instance(spec_of(Careful), "w1", {})
    instance.activate(1e9, [MethodStarted("w1", method, Raw(b"[]"))])
    return instance


@pytest.mark.parametrize("method", ["cleans_up", "cleans_slowly", "in_groups", "generates", "colours", "says"])
def test_closing_leaves_the_surroundings_as_they_were(method: str) -> None:  # S11
    COLOUR.set("mine")
    with decimal.localcontext() as numbers:
        numbers.prec = 11
        instance = _begun(method)
        instance.close()
        assert COLOUR.get() == "mine"
        assert decimal.getcontext().prec == 11
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    gc.collect()


def test_closing_runs_the_cleanup_at_once_and_only_once() -> None:  # S11
    CLEANED.clear()
    instance = _begun("cleans_up")
    instance.close()
    instance.close()
    assert CLEANED == ["cleans_up"]


def test_the_logger_is_silent_while_cleaning_up(caplog: pytest.LogCaptureFixture) -> None:  # S16
    with caplog.at_level(logging.INFO):
        _begun("says").close()
    assert "cleaned up" not in caplog.text


async def test_an_evicted_instance_does_not_disturb_another(sim: Simulation) -> None:  # S11
    """One place in memory for two instances that take turns."""
    small = Simulation(cache_size=1)
    async with small:
        small.add_service(Desk)
        small.add_workflow(Careful)
        stub = small.client.new_workflow(Careful)
        results = await asyncio.gather(stub.cleans_up(), stub.generates(), stub.in_groups(), stub.cleans_up())
        assert list(results) == [["work", "cleaned up"], ["a", "b", "c"], ["a", "b", "c"], ["work", "cleaned up"]]
