"""`inline`: run once, recorded, replayed; its failures; what it refuses (S16)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from infinitic import PayloadError, TaskFailedError, UsageError, Workflow, WorkflowFailedError
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways

CALLS: list[str] = []


def note(word: str) -> str:
    CALLS.append(word)
    return f"{word} noted"


def moment(year: int, *, month: int = 1) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


def broken(word: str) -> str:
    CALLS.append(word)
    raise LookupError(word)


def unserializable() -> Any:
    CALLS.append("unserializable")
    return object()


async def coroutine_function() -> str:
    CALLS.append("never")
    return "never"


class Inlines(Workflow):
    desk = Workflow.new_service(Desk)

    async def recorded(self) -> list[str]:
        log = [self.inline(note, "a")]
        log.append(await self.desk.say("b"))
        log.append(self.inline(note, word="c"))
        log.append(str(self.inline(moment, 2031, month=2)))
        log.append(type(self.inline(moment, 2031)).__name__)
        log.append(str(self.inline(lambda: [1, 2, 3])))
        await self.desk.say("d")
        return log

    async def failing(self) -> list[str]:
        log = list[str]()
        try:
            self.inline(broken, "x")
        except TaskFailedError as error:
            log.append(f"{error.service_name} {error.method_name} {error.last_failure.exception}")
        log.append(await self.desk.say("after"))
        return log

    async def uncaught(self) -> str:
        return self.inline(broken, "x")

    async def refused(self) -> list[str]:
        """What is refused is caught, and the code goes on: replay must find the same positions."""

        def dispatches() -> str:
            self.dispatch(self.desk.say, "never")
            return "dispatched"

        def keeps_quiet() -> str:
            try:
                self.dispatch(self.desk.say, "never")
            except UsageError:
                return "kept quiet"
            return "dispatched"

        def starts_timer() -> str:
            self.timer(5)
            return "started"

        def calls_stub() -> Any:
            return self.desk.say("never")

        def nests() -> str:
            return self.inline(note, "never")

        def draws() -> float:
            return self.random.random()

        log = list[str]()
        for function in (dispatches, keeps_quiet, starts_timer, calls_stub, nests, coroutine_function, draws):
            try:
                log.append(str(self.inline(function)))
            except UsageError:
                log.append(f"{function.__name__} refused")
            log.append(await self.desk.say("on"))
        return log

    async def refused_and_uncaught(self) -> str:
        return self.inline(lambda: self.dispatch(self.desk.say, "never").id)

    async def refused_result(self) -> str:
        try:
            self.inline(unserializable)
        except PayloadError:
            return await self.desk.say("refused")
        return "taken"

    async def starts_tasks(self) -> str:
        """A task made inside would exist in the first run only."""
        try:
            self.inline(lambda: asyncio.ensure_future(self.desk.say("never")).get_name())
        except (TaskFailedError, UsageError):
            return await self.desk.say("refused")
        return await self.desk.say("taken")


def _called(run: Run, *words: str) -> None:
    """Replay calls nothing again.

    Only a decision that did not get through is made again, if the code is elsewhere.
    """
    calls = list(dict.fromkeys(CALLS)) if run.split else CALLS
    assert calls == list(words)


@both_ways(Inlines)
async def test_a_result_is_recorded_and_replayed(run: Run) -> None:  # S16
    CALLS.clear()
    assert await run.result(run.new(Inlines).recorded) == [
        *("a noted", "b", "c noted", "2031-02-01 00:00:00+00:00", "datetime", "[1, 2, 3]"),
    ]
    _called(run, "a", "c")


@both_ways(Inlines)
async def test_a_failure_is_recorded_and_replayed(run: Run) -> None:  # S16
    CALLS.clear()
    assert await run.result(run.new(Inlines).failing) == ["inline broken LookupError: x", "after"]
    _called(run, "x")


@both_ways(Inlines)
async def test_a_failure_that_nobody_catches_fails_the_method(run: Run) -> None:  # S16, S34
    with pytest.raises(WorkflowFailedError) as caught:
        await run.result(run.new(Inlines).uncaught)
    assert isinstance(caught.value.cause, TaskFailedError)


@both_ways(Inlines)
async def test_stubs_timers_and_coroutines_are_refused_inside(run: Run) -> None:  # S16
    CALLS.clear()
    log = await run.result(run.new(Inlines).refused)
    assert log[1::2] == ["on"] * 7
    assert log[::2] == [
        *("dispatches refused", "kept quiet", "starts_timer refused", "calls_stub refused", "nests refused"),
        *("coroutine_function refused", "draws refused"),
    ]
    assert CALLS == []


@both_ways(Inlines)
async def test_a_refusal_that_nobody_catches_fails_the_method(run: Run) -> None:  # S16
    with pytest.raises(WorkflowFailedError, match="must not use stubs"):
        await run.result(run.new(Inlines).refused_and_uncaught)


@both_ways(Inlines)
async def test_a_result_that_cannot_be_serialized_is_refused(run: Run) -> None:  # S16
    CALLS.clear()
    assert await run.result(run.new(Inlines).refused_result) == "refused"
    _called(run, "unserializable")


@both_ways(Inlines)
async def test_tasks_cannot_be_started_inside(run: Run) -> None:  # S16
    assert await run.result(run.new(Inlines).starts_tasks) == "refused"


async def test_it_runs_once_over_many_steps(sim: Simulation) -> None:  # S16
    CALLS.clear()
    sim.add_service(Desk)
    sim.add_workflow(Inlines)
    await sim.client.new_workflow(Inlines).recorded()
    await sim.check_replay()
    await sim.check_replay()
    assert CALLS == ["a", "c"]
