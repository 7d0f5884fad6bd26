"""Code that never stops, or lets worse than an exception escape, stalls (S17, S34)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from infinitic import Channel, UsageError, Workflow, WorkflowCodeError, WorkflowFailedError
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk
from tests.replay.restart import line_of


class Abort(BaseException):
    """Not an `Exception`: nobody may take it for an ordinary failure."""


class Runaway(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[bool]()

    def __init__(self) -> None:
        self.turn = 0

    async def spins(self) -> str:
        await self.desk.say("before")
        while True:  # noqa: ASYNC110 (that is the point)
            await asyncio.sleep(0)  # HERE

    async def spins_deep_inside(self) -> str:
        return await self._deeper()

    async def _deeper(self) -> str:
        while True:
            await asyncio.wait_for(asyncio.sleep(0), 5)  # DEEP

    async def spins_in_a_task(self) -> str:
        task = asyncio.create_task(self._spin())
        await self.desk.say("x")
        return str(task.done())

    async def _spin(self) -> NoReturn:
        while True:  # noqa: ASYNC110 (that is the point)
            await asyncio.sleep(0)  # IN A TASK

    async def plays_ping_pong(self) -> str:
        """Two conditions that make each other true: the loop rests, the instance never does."""
        await asyncio.gather(self._play(0, 1), self._play(1, 0))
        return "done"

    async def _play(self, mine: int, other: int) -> None:
        while True:
            await self.wait_until(lambda: self.turn == mine)  # PING-PONG
            self.turn = other

    async def exits(self) -> str:
        await self.desk.say("before")
        raise SystemExit(3)  # HERE

    async def exits_in_a_task(self) -> str:
        await asyncio.create_task(self._exit())
        return "done"

    async def _exit(self) -> NoReturn:
        raise SystemExit("in a task")

    async def aborts(self) -> str:
        await self.desk.say("before")
        raise Abort("enough")  # HERE

    async def aborts_in_a_group(self) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._abort())
            group.create_task(self.desk.say("x"))
        return "done"

    async def _abort(self) -> NoReturn:
        raise Abort("in a group")

    async def stops_a_generator(self) -> str:
        raise GeneratorExit  # HERE

    async def many_steps(self) -> int:
        """Much work in one activation is fine."""
        for _ in range(50_000):
            await asyncio.sleep(0)
        return 50_000

    async def cancels_itself(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await self.desk.say("never")


LINES: list[tuple[Callable[[Runaway], Any], str, str]] = [
    (Runaway.spins, "never stops", line_of(Runaway.spins)),
    (Runaway.spins_deep_inside, "10,001 things at once", line_of(Runaway, "# DEEP")),
    (Runaway.spins_in_a_task, "never stops", line_of(Runaway, "# IN A TASK")),
    (Runaway.plays_ping_pong, "never stops", line_of(Runaway, "# PING-PONG")),
    (Runaway.exits, "SystemExit", ""),
    (Runaway.exits_in_a_task, "SystemExit", ""),
    (Runaway.aborts, "Abort", ""),
    (Runaway.aborts_in_a_group, "Abort", ""),
    (Runaway.stops_a_generator, "GeneratorExit", ""),
]


@pytest.mark.parametrize(("method", "reason", "line"), LINES, ids=lambda each: getattr(each, "__name__", ""))
async def test_it_stalls(sim: Simulation, method: Callable[[Runaway], Any], reason: str, line: str) -> None:  # S34
    sim.add_service(Desk)
    sim.add_workflow(Runaway)
    handle = await sim.client.dispatch(getattr(sim.client.new_workflow(Runaway), method.__name__))
    with pytest.raises(WorkflowCodeError, match=reason) as caught:
        await handle.result()
    assert line in str(caught.value)
    assert (await sim.client.describe(handle)).stalled == str(caught.value)


async def test_much_work_in_one_activation_is_fine(sim: Simulation) -> None:  # S17
    sim.add_workflow(Runaway)
    assert await sim.client.new_workflow(Runaway).many_steps() == 50_000


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(sim: Simulation) -> None:  # S34
    sim.add_service(Desk)
    sim.add_workflow(Runaway)
    with pytest.raises(WorkflowFailedError, match="CancelledError"):
        await sim.client.new_workflow(Runaway).cancels_itself()


class Undecodable(Workflow):
    """What arrives and does not fit stalls: nobody is told that the workflow failed."""

    desk = Workflow.new_service(Desk)
    numbers = Channel[int]()

    async def run(self) -> int:
        return await self.numbers.receive()


class Impostor(Workflow):
    """The same workflow, as a client of another release knows it."""

    numbers = Channel[str]()

    async def run(self) -> int:
        return 0


async def test_a_signal_that_cannot_be_decoded_stalls(sim: Simulation) -> None:  # S34
    Impostor.__name__ = "Undecodable"
    sim.add_workflow(Undecodable)
    handle = await sim.client.dispatch(sim.client.new_workflow(Undecodable).run)
    await sim.client.get_workflow_by_id(Impostor, handle.workflow_id).numbers.send("no number")
    with pytest.raises(WorkflowCodeError, match="numbers"):
        await handle.result()


class NoConstructor(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self) -> None:
        raise LookupError("in the constructor")

    async def run(self) -> str:
        return "never"


async def test_a_constructor_that_raises_stalls(sim: Simulation) -> None:  # S34
    sim.add_workflow(NoConstructor)
    with pytest.raises(WorkflowCodeError, match="in the constructor"):
        await sim.client.new_workflow(NoConstructor).run()


class Greedy(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self, count: int) -> int:
        return len(await asyncio.gather(*(self.dispatch(self.desk.say, "x") for _ in range(count))))


async def test_an_activation_that_asks_for_too_much_at_once_stalls(sim: Simulation) -> None:
    sim.add_service(Desk())
    sim.add_workflow(Greedy)
    assert await sim.client.new_workflow(Greedy).run(2_000) == 2_000
    with pytest.raises(WorkflowCodeError, match="10,001 things at once, more than 10,000"):
        await sim.client.new_workflow(Greedy).run(10_001)


class Endless(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> None:
        while True:
            self.dispatch(self.desk.say, "x")  # ENDLESS


async def test_code_that_asks_for_ever_and_never_waits_stalls_at_that_line(sim: Simulation) -> None:
    sim.add_workflow(Endless)
    handle = await sim.client.dispatch(sim.client.new_workflow(Endless).run)
    with pytest.raises(WorkflowCodeError, match="10,001 things at once, more than 10,000") as caught:
        await handle.result()
    assert line_of(Endless, "# ENDLESS") in str(caught.value)


class Hoarder(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> list[str]:
        for turn in range(20):
            for _ in range(5_000):
                self.timer(1e6)
            if turn < 19:
                await asyncio.sleep(1)
        refused: list[str] = []
        for _ in range(2):
            try:
                self.dispatch(self.desk.say, "too much")
            except UsageError as error:
                refused.append(str(error))
        refused.append(str(self.inline(int)))
        return refused


async def test_too_much_open_work_is_refused_at_the_call(sim: Simulation) -> None:
    sim.add_service(Desk())
    sim.add_workflow(Hoarder)
    handle = await sim.client.dispatch(sim.client.new_workflow(Hoarder).run)
    refused = await handle.result()
    assert refused[2] == "0"
    assert refused[0] == refused[1]
    assert "100,000 tasks, children and timers of this workflow are open, and no more than 100,000 can be" in refused[0]
    head = await sim.client.describe(handle)
    assert head.open_timers == 0
