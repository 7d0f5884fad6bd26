"""S2, S9: what a task does to the asyncio task that it runs in harms no other task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infinitic import task_context
from infinitic.messages import engine
from infinitic_testing.loop import run
from tests.simulation.desk import always, make_desk
from tests.unit.scripted import ScriptedTransport, delivery, request
from tests.unit.test_service_executor import Bench, played, quiet


class Unusual(BaseException):
    """No `Exception`: as test frameworks, and groups of such, raise them."""


def me() -> asyncio.Task[Any]:
    current = asyncio.current_task()
    assert current is not None
    return current


async def cancels_itself(text: str) -> str:
    me().cancel()
    await asyncio.sleep(0)
    return text


async def swallows(text: str) -> str:
    """As timeouts were written before `asyncio.timeout`."""
    me().cancel()
    try:
        await asyncio.sleep(10.0)
    except asyncio.CancelledError:
        return text
    return "never"


async def cancels_soon(text: str) -> str:
    """A timer that is forgotten: it hits whatever its asyncio task does then."""
    asyncio.get_running_loop().call_later(1.0, me().cancel)
    return text


async def cancels_itself_at_the_end(text: str) -> str:
    me().cancel()
    return text


CANCELLING = [cancels_itself, swallows, cancels_soon, cancels_itself_at_the_end]


@pytest.mark.parametrize("odd", CANCELLING, ids=lambda each: each.__name__)
def test_a_task_that_is_cancelled_from_within_costs_no_place(odd: Callable[[str], Awaitable[str]]) -> None:
    """With a concurrency of 1 the executor ran nothing more, without a word."""
    ran, transport = list[str](), ScriptedTransport()

    async def work(self: object, text: str) -> str:
        if text == "odd":
            return await odd(text)
        ran.append(text)
        await asyncio.sleep(0.1)
        return text

    bench = Bench(transport, make_desk(work), concurrency=1)

    async def scenario() -> None:
        given = [delivery(request([text], position=number)) for number, text in enumerate(["odd", "a", "odd", "b"])]
        for each in given:
            await bench.give(each)
            await asyncio.sleep(5.0)
        assert ran == ["a", "b"]
        reported = [each for each in bench.reports() if isinstance(each, engine.TaskCompleted | engine.TaskFailed)]
        assert sorted(each.position for each in reported) == [0, 1, 2, 3]
        assert bench.consumer.acked == given

    played(bench, scenario)


def test_a_cancellation_from_within_is_a_failed_attempt() -> None:
    """S9: nobody asked for it but the task."""
    transport = ScriptedTransport()

    async def work(self: object, text: str) -> str:
        return await cancels_itself(text)

    bench = Bench(transport, make_desk(work, retry=always(1.0)))

    async def scenario() -> None:
        await bench.give(given := delivery(request(["a"])))
        (report,) = bench.reports()
        assert isinstance(report, engine.AttemptFailed)
        assert bench.consumer.acked == [given]

    played(bench, scenario)


def test_what_waits_is_run_though_an_idle_place_was_cancelled() -> None:
    """The one that was woken for it was gone."""
    ran, transport = list[str](), ScriptedTransport()
    members = set[asyncio.Task[Any]]()

    async def work(self: object, text: str) -> str:
        members.add(me())
        ran.append(text)
        await asyncio.sleep(0.1)
        return text

    bench = Bench(transport, make_desk(work), concurrency=3)

    async def scenario() -> None:
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(3)))
        await asyncio.sleep(1.0)
        for each in members:
            each.cancel()
        await quiet()
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(3, 9)))
        await asyncio.sleep(5.0)
        assert sorted(ran) == [str(number) for number in range(9)]

    played(bench, scenario)


@pytest.mark.parametrize("turns", range(8))
def test_as_many_run_at_once_as_may_though_places_were_cancelled_when_work_came(turns: int) -> None:
    """Each place wakes the next one, also if its task is cancelled before it runs."""
    running, most = 0, 0
    members = set[asyncio.Task[Any]]()

    async def work(self: object, text: str) -> str:
        nonlocal running, most
        members.add(me())
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(1.0)
        finally:
            running -= 1
        return text

    transport = ScriptedTransport()
    bench = Bench(transport, make_desk(work), concurrency=3)

    async def scenario() -> None:
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(3)))
        await asyncio.sleep(5.0)
        assert most == 3
        bench.consumer.waiting.put_nowait(delivery(request(["3"], position=3)))
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in members:
            each.cancel()
        await asyncio.sleep(5.0)
        idle = running
        await bench.give(*(delivery(request([str(number)], position=number)) for number in range(4, 7)))
        await asyncio.sleep(0.5)
        assert (idle, running) == (0, 3)
        await asyncio.sleep(5.0)
        assert len(bench.consumer.acked) == 7

    played(bench, scenario)


@pytest.mark.parametrize(
    "error",
    [Unusual("odd"), BaseExceptionGroup("some", [Unusual("odd"), ValueError("x")])],
    ids=lambda each: type(each).__name__,
)
def test_whatever_a_task_raises_is_its_failure(error: BaseException) -> None:
    """It ended the worker, came again at the next one, and ended that."""
    transport = ScriptedTransport()

    async def work(self: object, text: str) -> str:
        if text == "odd":
            raise error
        return text

    bench = Bench(transport, make_desk(work, retry=always(1.0)), concurrency=1)

    async def scenario() -> None:
        given = [delivery(request(["odd"])), delivery(request(["a"], position=1))]
        for each in given:
            await bench.give(each)
        failed, completed = bench.reports()
        assert isinstance(failed, engine.AttemptFailed)
        assert failed.failure.exception.short_name == type(error).__name__
        assert isinstance(completed, engine.TaskCompleted)
        assert bench.consumer.acked == given

    played(bench, scenario)


@pytest.mark.parametrize("end", ["timeout", "drain"])
def test_what_a_callback_raises_when_it_is_told_of_the_end_changes_nothing(end: str) -> None:
    """S4: a callback that fails hides no timeout, stops no other callback, and loses no task."""
    told, transport = list[str](), ScriptedTransport()

    def broken() -> None:
        raise ValueError("in a callback")

    async def work(self: object, text: str) -> str:
        task_context().on_cancel(broken)
        task_context().on_cancel(lambda: told.append(text))
        await asyncio.sleep(100.0)
        return text

    options: dict[str, Any] = {"attempt_timeout": 5.0} if end == "timeout" else {}
    bench = Bench(transport, make_desk(work, **options))

    async def scenario() -> None:
        await bench.executor.start()
        running = asyncio.create_task(bench.executor.run())
        await bench.give(given := delivery(request(["a"])))
        if end == "timeout":
            await asyncio.sleep(10.0)
            (report,) = bench.reports()
            assert isinstance(report, engine.TaskFailed)
            assert report.failure.exception.short_name == "AttemptTimedOut"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await bench.executor.close()
        assert told == ["a"]
        assert bench.consumer.acked == [given]
        assert len(transport.on("service-executor")) == (0 if end == "timeout" else 1)

    run(scenario())
