"""Parallel methods are tasks of one object on one loop (S26, S27, S28).

They share attributes, `wait_until` and an order.
"""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Workflow, WorkflowFailedError
from tests.replay.harness import Desk, Run, both_ways


class Board(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self.turns = list[str]()

    async def hold(self) -> str:
        """The first method: it ends when somebody says so."""
        await self.wait_until(lambda: self.done)
        return self.text

    async def finish(self) -> str:
        self.done = True
        return self.text

    async def append(self, letter: str) -> str:
        self.text += letter
        return self.text

    async def append_later(self, letter: str, after: float) -> str:
        await self.desk.say(letter, after)
        self.text += letter
        return self.text

    async def append_twice(self, first: str, second: str, after: float) -> str:
        self.text += first
        await self.desk.say(second, after)
        self.text += second
        return self.text

    async def wait_long(self, length: int) -> str:
        await self.wait_until(lambda: len(self.text) >= length)
        return f"{length}: {self.text}"

    async def bad_condition(self) -> str:
        log = list[str]()
        try:
            await self.wait_until(lambda: len(self.text) > 0 and self.text[5] == "f")
        except IndexError as error:
            log.append(type(error).__name__)
        return f"{log} {await self.desk.say('still here')}"

    async def impatient(self) -> str:
        try:
            async with asyncio.timeout(5):
                await self.wait_until(lambda: self.done)
        except TimeoutError:
            return f"timeout at {self.now():%S}"
        return "done"

    async def take_turns(self, mine: str, other: str, times: int) -> list[str]:
        for _ in range(times):
            await self.wait_until(lambda: not self.turns or self.turns[-1] == other)
            self.turns.append(mine)
        return self.turns

    async def fail(self) -> str:
        raise LookupError("this method only")


async def _close(run: Run) -> str:
    await run.on(Board).finish()
    return await run.client.get_handle(Board.hold, "w1").result()


@both_ways(Board)
async def test_branches_append_in_the_order_of_their_start(run: Run) -> None:  # S27
    await run.start(run.new(Board).hold)
    for letter in "abc":
        await run.client.dispatch(run.on(Board).append, letter)
    assert await _close(run) == "abc"


@both_ways(Board)
async def test_branches_immediate_delayed_and_in_two_steps(run: Run) -> None:  # S27
    await run.start(run.new(Board).hold)
    board = run.on(Board)
    calls = board.append("a"), board.append_later("b", 5.0), board.append_twice("c", "d", 3.0)
    assert list(await asyncio.gather(*calls)) == ["a", "acdb", "acd"]
    assert await _close(run) == "acdb"


@both_ways(Board)
async def test_a_hundred_methods_append_in_the_order_of_dispatch(run: Run) -> None:  # S27
    await run.start(run.new(Board).hold)
    letters = [chr(0x4E00 + index) for index in range(100)]
    for letter in letters:
        await run.client.dispatch(run.on(Board).append, letter)
    assert await _close(run) == "".join(letters)


@both_ways(Board)
async def test_methods_over_several_activations_share_attributes(run: Run) -> None:  # S26
    await run.start(run.new(Board).hold)
    for letter in "abcde":
        await run.on(Board).append(letter)
        await run.sim.sleep(1)
    assert await _close(run) == "abcde"


@both_ways(Board)
async def test_wait_until_sees_what_other_methods_did(run: Run) -> None:  # S26
    await run.start(run.new(Board).hold)
    waiting = asyncio.gather(*(run.on(Board).wait_long(length) for length in (3, 1, 2)))
    for letter in "xyz":
        await run.on(Board).append(letter)
    assert await waiting == ["3: xyz", "1: x", "2: xy"]
    await _close(run)


@both_ways(Board)
async def test_a_condition_that_raises_is_the_failure_of_its_method(run: Run) -> None:  # S26
    await run.start(run.new(Board).hold)
    waiting = await run.client.dispatch(run.on(Board).bad_condition)
    await run.on(Board).append("x")
    assert await waiting.result() == "['IndexError'] still here"
    await _close(run)


@both_ways(Board)
async def test_a_condition_that_comes_too_late(run: Run) -> None:  # S26
    assert await run.result(run.new(Board).impatient) == "timeout at 05"


@both_ways(Board)
async def test_methods_that_wait_for_each_other_in_turns(run: Run) -> None:  # S26
    handle = await run.start(run.new(Board).take_turns, "a", "b", 10)
    await run.client.dispatch(run.on(Board).take_turns, "b", "a", 10)
    assert "".join(await handle.result()) == "ab" * 9 + "a"


@both_ways(Board)
async def test_a_method_that_fails_leaves_the_others_alone(run: Run) -> None:  # S28, S34
    await run.start(run.new(Board).hold)
    with pytest.raises(WorkflowFailedError, match="this method only"):
        await run.on(Board).fail()
    await run.on(Board).append("a")
    assert await _close(run) == "a"


@both_ways(Board)
async def test_a_method_answers_at_once_and_the_instance_closes_with_the_last_one(run: Run) -> None:  # S28
    handle = await run.start(run.new(Board).append, "a")
    slow = await run.client.dispatch(run.on(Board).append_later, "b", 10.0)
    assert await handle.result() == "a"
    assert (await run.client.describe(handle)).closed_at is None
    assert await slow.result() == "ab"
    assert (await run.client.describe(handle)).closed_at is not None


@both_ways(Board)
async def test_the_result_of_a_method_that_has_returned_can_be_asked_for(run: Run) -> None:  # S37
    """The method ends before its caller asks, while the instance runs on."""
    await run.start(run.new(Board).hold)
    handle = await run.client.dispatch(run.on(Board).append, "a")
    await run.idle()
    assert await handle.result() == "a"
    await _close(run)
