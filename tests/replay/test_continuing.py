"""`continue_as_new`: what the next run gets, and what it does not (S20)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import (
    Channel,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowUnknownError,
    query,
)
from infinitic.engines import state
from infinitic.messages import engine, events
from infinitic.messages.commands import ContinueRun
from infinitic.storage import StateKey
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


class Runs(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()
    unkept = Channel[str](keep=0)
    log: list[str] = []  # noqa: RUF012 (each object gets a copy)

    async def run(self, number: int, heard: list[str]) -> list[str]:
        self.log.append(f"run {number}")
        heard = [*heard, await self.words.receive(), await self.desk.say(f"said {number}")]
        assert self.log == [f"run {number}"], "attributes are new"
        if number < 3:
            self.continue_as_new(self.run, number + 1, heard)
        return heard

    async def other(self) -> str:
        return "other"

    async def busy(self) -> str:
        """Ends the run while a task, a timer, another method and a background task are there."""
        self.dispatch(self.desk.say, "alone", 3.0)
        self.timer(1000)
        background = asyncio.get_running_loop().create_task(asyncio.sleep(500))
        try:
            self.continue_as_new(self.end, word="end")
        finally:
            self.log.append(await self.desk.say("finally"))
            assert not background.done()

    async def end(self, *, word: str) -> str:
        return f"{word} {self.uuid4()} {self.now().timestamp():.0f}"

    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return f"slow {len(self.log)}"

    async def in_group(self, number: int) -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            await asyncio.sleep(1)
            if number:
                self.continue_as_new(self.in_group, number - 1)
            raise LookupError("the last run")

    async def swallow(self, number: int) -> int:
        if number:
            try:
                self.continue_as_new(self.swallow, number - 1)
            except Exception:  # noqa: BLE001 (it does not catch this)
                return -1
        return number

    async def from_task(self) -> str:
        async def inner() -> None:
            self.continue_as_new(self.other)

        try:
            await asyncio.get_running_loop().create_task(inner())
        except UsageError as error:
            return str(error)
        return "done"

    async def from_method(self) -> str:
        try:
            self.continue_as_new(self.other)
        except UsageError as error:
            return str(error)

    async def wait(self) -> None:
        await asyncio.sleep(1000)

    async def with_nonsense(self) -> list[str]:
        found = list[str]()
        for nonsense in (Runs.other, self.desk.say, "other", Runs().other):
            try:
                self.continue_as_new(nonsense)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # this is the mistake
            except UsageError as error:
                # What follows has addresses in it.
                found.append(str(error).partition(", got ")[0])
        for argument in ("one", None):
            try:
                self.continue_as_new(self.in_group, argument)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as above
            except UsageError as error:
                found.append(str(error))
        return found

    async def too_large(self) -> str:
        try:
            self.continue_as_new(self.end, word="x" * 6_000_000)
        except UsageError as error:
            return str(error)

    @query
    def tell(self) -> list[str]:
        return list(self.log)


@both_ways(Runs)
async def test_signals_waiters_and_the_id_go_on(run: Run) -> Any:  # S20
    handle = await run.start(run.new(Runs).run, 0, [])
    stub = run.on(Runs, handle.workflow_id)
    waiting = asyncio.ensure_future(handle.result())
    for word in "abcd":
        await stub.words.send(word, confirm=True)
    result = await waiting
    assert result == ["a", "said 0", "b", "said 1", "c", "said 2", "d", "said 3"]
    history = await run.history(handle)
    assert [event.run for event in history if isinstance(event, events.RunStarted)] == [3]
    assert sum(isinstance(event, ContinueRun) for event in history) <= 1
    key = StateKey("Runs", handle.workflow_id)
    head = state.decode((await run.sim.storage.states.load([key]))[key].head)
    assert 1 < head.first == head.base, "what was before the last run is gone"
    info = await run.client.describe(handle)
    assert info.steps == 1, "positions count from 0 again"
    assert await run.client.query(stub.tell) == ["run 3"]
    return result


@both_ways(Runs)
async def test_the_next_run_waits_for_methods_and_tasks_but_not_for_timers(run: Run) -> Any:
    handle = await run.start(run.new(Runs).busy)
    stub = run.on(Runs, handle.workflow_id)
    slow = await run.client.dispatch(stub.slow, 5.0)
    began = run.sim.now
    await asyncio.sleep(1)
    held = [await run.client.dispatch(stub.other) for _ in range(3)]
    await asyncio.sleep(1)
    assert await run.client.query(stub.tell) == ["finally"]
    assert await slow.result() == "slow 1"
    result = await handle.result()
    assert (run.sim.now - began).total_seconds() == pytest.approx(5.0, abs=0.5)
    assert [await each.result() for each in held] == ["other"] * 3, "called meanwhile, they begin in the next run"
    return result.split()[:2]


@both_ways(Runs)
async def test_it_crosses_groups_and_except_clauses(run: Run) -> Any:
    with pytest.raises(WorkflowFailedError, match="unhandled errors in a TaskGroup"):
        await run.result(run.new(Runs).in_group, 2)
    return await run.result(run.new(Runs).swallow, 2)


@both_ways(Runs)
async def test_cancel_wins(run: Run) -> Any:  # S20
    handle = await run.start(run.new(Runs).busy)
    stub = run.on(Runs, handle.workflow_id)
    slow = await run.client.dispatch(stub.slow, 50.0)
    await asyncio.sleep(1)
    held = await run.client.dispatch(stub.other)
    await asyncio.sleep(10)
    await run.client.cancel(handle)
    for each in (handle, slow, held):
        with pytest.raises(WorkflowCanceledError):
            await each.result()
    with pytest.raises(WorkflowUnknownError):
        await stub.other()
    history = await run.history(handle)
    assert not any(isinstance(event, events.RunStarted) for event in history)
    return None


@both_ways(Runs)
async def test_a_cancelled_method_alone_has_no_next_run(run: Run) -> Any:
    handle = await run.start(run.new(Runs).busy)
    stub = run.on(Runs, handle.workflow_id)
    slow = await run.client.dispatch(stub.slow, 50.0)
    await asyncio.sleep(1)
    first, second = await run.client.dispatch(stub.other), await run.client.dispatch(stub.other)
    await asyncio.sleep(10)
    await run.client.cancel(first)
    with pytest.raises(WorkflowCanceledError):
        await first.result()
    cancel = engine.Cancel(made_at=run.sim.clock.now(), request_id="c1", method_id=handle.workflow_id)
    message = Message(handle.workflow_id, handle.workflow_id, engine.encode(cancel))
    await run.sim.transport.publish(run.topic(handle), [message])
    with pytest.raises(WorkflowCanceledError):
        await handle.result()
    assert await second.result() == "other", "what was held begins, since no run follows"
    assert await slow.result() == "slow 1"
    return None


@both_ways(Runs)
async def test_mistakes_are_named(run: Run) -> Any:
    handle = await run.start(run.new(Runs).wait)
    stub = run.on(Runs, handle.workflow_id)
    told = await (await run.client.dispatch(stub.from_method)).result()
    assert "is for the code of the first method" in told
    await run.client.cancel(handle)
    assert "is for the code of the first method" in await run.result(run.new(Runs).from_task)
    nonsense = await run.result(run.new(Runs).with_nonsense)
    assert len(nonsense) == 6
    assert all("continue_as_new takes a method of this workflow" in each for each in nonsense[:4]), nonsense
    assert all("argument 'number'" in each for each in nonsense[4:]), nonsense
    return None


def test_arguments_that_are_too_large_are_refused_at_the_call() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            sim.add_workflow(Runs)
            told = await sim.client.new_workflow(Runs).too_large()
            assert "The arguments of Runs.end: 6,000," in told

    Simulation.run(main())
