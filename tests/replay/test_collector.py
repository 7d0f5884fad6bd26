"""What the collector finds while workflow code runs is no doing of that code."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

from infinitic import Workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.commands import CompleteMethod
from infinitic.messages.events import MethodStarted
from infinitic.replay.instance import Instance

CLOSED: list[str] = []


class Allocating(Workflow):
    """Makes enough containers for the collector to run."""

    def __init__(self) -> None:
        self.made = [[number] for number in range(20_000)]

    async def run(self) -> int:
        self.made += [[number] for number in range(20_000)]
        await self.wait_until(lambda: len([[each] for each in self.made]) > 0)
        return len(self.made)


async def left_behind() -> None:
    try:
        await asyncio.Event().wait()
    finally:  # whoever cleans up so means the loop that it ran on
        CLOSED.append("closed")
        asyncio.get_running_loop().call_later(60, print)
        asyncio.get_running_loop().call_soon(print)


def leave_garbage() -> None:
    async def begin() -> None:
        coroutine: Any = left_behind()
        coroutine.send(None)
        cycle = [coroutine]
        cycle.append(cycle)

    asyncio.run(begin())


@pytest.fixture
def collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    CLOSED.clear()
    thresholds = gc.get_threshold()
    gc.set_threshold(5000, 1, 1)
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_others_left_behind_asks_for_nothing(collector: None) -> None:
    leave_garbage()
    instance = Instance(spec_of(Allocating), "w", {})
    gc.enable()
    commands = instance.activate(0.0, [MethodStarted("m", "run", Raw(b"[]"))])
    assert gc.isenabled(), "it goes on as it was"
    gc.disable()
    instance.close()
    gc.collect()
    assert CLOSED == ["closed"], "the garbage was there, and was collected later"
    assert [type(command) for command in commands] == [CompleteMethod]


def test_one_that_is_off_stays_off(collector: None) -> None:
    instance = Instance(spec_of(Allocating), "w", {})
    instance.activate(0.0, [MethodStarted("m", "run", Raw(b"[]"))])
    assert not gc.isenabled()
    instance.close()
