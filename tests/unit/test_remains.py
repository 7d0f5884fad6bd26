"""What is left of a killed process ends when its loop is closed. Nothing of it runs later."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from infinitic_testing.loop import Process, run
from tests.unit.ticking import forever, seen


@pytest.fixture(autouse=True)
def collector_is_off() -> Iterator[None]:
    """Only `run_and_kill` collects garbage."""
    seen.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def run_and_kill(work: Callable[[], Coroutine[Any, Any, None]]) -> list[object]:
    """Kill a process after a second, and return what its clean-up tells. No more comes later."""

    async def main() -> None:
        process = Process("worker")
        process.start(work())
        await asyncio.sleep(1)
        process.kill()
        assert seen == []

    run(main())
    told = list(seen)
    # The clean-up of what is collected now would find no loop, and print errors.
    gc.collect()
    assert seen == told
    return told


def only_garbage(make: Callable[[list[object]], Any]) -> Any:
    """Make something that refers to itself, so that only the garbage collector drops it."""
    around: list[object] = []
    made = make(around)
    around.append(made)
    return made


async def clean_up(name: str) -> None:
    try:
        await forever()
    finally:
        seen.append(name)


async def wait_and_clean_up(around: list[object]) -> None:
    try:
        await forever()
    finally:
        try:
            await clean_up("first")
        finally:
            await clean_up("second")


async def generate(at: str, around: list[object]) -> AsyncGenerator[int, None]:
    try:
        if at == "enter":
            await forever()
        yield 1
        if at == "exit":
            await forever()
    finally:
        try:
            await clean_up("first")
        finally:
            await clean_up("second")


@pytest.mark.parametrize("at", ["enter", "body", "exit"])
def test_a_block_ends_with_all_of_its_clean_up(at: str) -> None:
    async def work() -> None:
        async with only_garbage(partial(asynccontextmanager(generate), at)):
            if at == "body":
                await forever()

    assert run_and_kill(work) == ["first", "second"]


def test_a_generator_that_waits_ends_with_all_of_its_clean_up() -> None:
    async def work() -> None:
        async for _ in only_garbage(partial(generate, "enter")):
            pass

    assert run_and_kill(work) == ["first", "second"]


def test_a_generator_whose_next_item_has_a_default_ends_too() -> None:
    async def work() -> None:
        await anext(only_garbage(partial(generate, "enter")), None)

    assert run_and_kill(work) == ["first", "second"]


def test_a_generator_that_is_being_closed_ends_too() -> None:
    async def work() -> None:
        generator = only_garbage(partial(generate, "body"))
        await anext(generator)
        await generator.aclose()

    assert run_and_kill(work) == ["first", "second"]


def test_what_an_awaitable_wraps_ends_with_all_of_its_clean_up() -> None:
    class Wrapper:
        def __init__(self, around: list[object]) -> None:
            self.wrapped = wait_and_clean_up(around)

        def __await__(self) -> Generator[Any, Any, None]:
            return self.wrapped.__await__()

    async def work() -> None:
        await only_garbage(Wrapper)

    assert run_and_kill(work) == ["first", "second"]


def test_a_generator_that_clean_up_leaves_runs_no_further() -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            await anext(only_garbage(partial(generate, "body")))
            await clean_up("work")

    assert run_and_kill(work) == ["work"]


def test_a_task_that_clean_up_starts_and_cancels_is_not_reported() -> None:
    async def never_run(around: list[object]) -> None:
        seen.append(around)

    async def work() -> None:
        try:
            await forever()
        finally:
            only_garbage(lambda around: asyncio.create_task(never_run(around))).cancel()
            await clean_up("work")

    assert run_and_kill(work) == ["work"]


def test_long_clean_up_ends_too() -> None:
    async def work() -> None:
        left: Awaitable[None] = forever()
        for number in range(30):
            left = then(left, number)
        await left

    async def then(before: Awaitable[None], number: int) -> None:
        try:
            await before
        finally:
            seen.append(number)
            await forever()

    assert run_and_kill(work) == list(range(30))
