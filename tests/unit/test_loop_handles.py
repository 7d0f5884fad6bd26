"""The callbacks of a loop in virtual time behave as those of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from infinitic_testing.choices import Choices
from infinitic_testing.loop import VirtualLoop

COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


def make_plain() -> VirtualLoop:
    return VirtualLoop()


def make_careful() -> VirtualLoop:
    return VirtualLoop(choices=Choices(1), trace=True)


@pytest.fixture(params=[make_plain, make_careful])
def loop(request: pytest.FixtureRequest) -> Iterator[VirtualLoop]:
    made: VirtualLoop = request.param()
    yield made
    made.close()


def raise_error(text: str) -> None:
    raise ValueError(text)


def run_out(loop: VirtualLoop) -> None:
    loop.call_later(10.0, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_a_callback_is_reported_and_the_loop_goes_on(loop: VirtualLoop, debug: bool) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    loop.set_debug(debug)
    handles = [loop.call_soon(raise_error, "soon"), loop.call_later(1.0, raise_error, "later")]
    run_out(loop)
    assert [str(report["exception"]) for report in reports] == ["soon", "later"]
    assert [report["handle"] for report in reports] == handles
    assert all(report["message"].startswith("Exception in callback raise_error(") for report in reports)
    assert [("source_traceback" in report) for report in reports] == [debug, debug]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_leaves_the_loop_at_once(loop: VirtualLoop, kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind

    later: list[int] = []
    loop.call_soon(leave)
    loop.call_soon(later.append, 1)
    with pytest.raises(kind):
        loop.run_forever()
    assert not later
    run_out(loop)
    assert later == [1]


def test_a_callback_runs_in_the_context_of_its_caller_or_in_a_given_one(loop: VirtualLoop) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(COLOUR.get())

    given = copy_context()
    given.run(COLOUR.set, "given")
    token = COLOUR.set("own")
    loop.call_soon(look)
    loop.call_later(1.0, look)
    loop.call_soon(look, context=given)
    loop.call_later(2.0, look, context=given)
    COLOUR.reset(token)
    run_out(loop)
    assert sorted(seen) == ["given", "given", "own", "own"]


def add_soon(loop: VirtualLoop, callback: Callable[[], None]) -> asyncio.Handle:
    return loop.call_soon(callback)


def add_later(loop: VirtualLoop, callback: Callable[[], None]) -> asyncio.Handle:
    return loop.call_later(1.0, callback)


@pytest.mark.parametrize("add", [add_soon, add_later])
def test_a_cancelled_callback_does_not_run(
    loop: VirtualLoop, add: Callable[[VirtualLoop, Callable[[], None]], asyncio.Handle]
) -> None:
    seen: list[int] = []
    handle = add(loop, lambda: seen.append(1))
    assert not handle.cancelled()
    handle.cancel()
    run_out(loop)
    assert not seen
    assert handle.cancelled()
    assert "cancelled" in repr(handle)


def test_a_closed_loop_takes_no_callback() -> None:
    closed = make_careful()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.call_soon(print)


def test_a_debug_loop_refuses_what_cannot_be_called() -> None:
    loop = make_plain()
    loop.set_debug(True)
    with pytest.raises(TypeError, match="callable"):
        loop.call_soon(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # this is the mistake
    loop.close()
