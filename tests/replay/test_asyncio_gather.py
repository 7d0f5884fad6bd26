"""`asyncio.gather` in workflows (S15).

Of stub coroutines, of deferreds, of sequences; failures and cancellation.
"""

from __future__ import annotations

import asyncio

import pytest

from infinitic import TaskFailedError, Workflow, WorkflowFailedError
from tests.replay.harness import Desk, Run, both_ways


class Gathering(Workflow):
    desk = Workflow.new_service(Desk)

    async def stubs(self) -> list[str]:
        return list(await asyncio.gather(self.desk.say("a", 3), self.desk.say("b", 1), self.desk.say("c", 2)))

    async def deferreds(self) -> list[str]:
        dispatched = [self.dispatch(self.desk.say, str(index), 10 - index) for index in range(10)]
        return await asyncio.gather(*reversed(dispatched))

    async def sequences(self) -> list[list[str]]:
        async def two(first: str, second: str) -> list[str]:
            return [await self.desk.say(first, 1), await self.desk.say(second, len(second))]

        return list(await asyncio.gather(two("a", "bbb"), two("c", "d"), two("e", "ff")))

    async def with_failures(self) -> list[str]:
        got = await asyncio.gather(
            self.desk.say("a", 2), self.desk.fail("b", 1), self.dispatch(self.desk.fail, "c", 3), return_exceptions=True
        )
        return [each if isinstance(each, str) else type(each).__name__ for each in got]

    async def first_failure(self) -> list[str]:
        log = list[str]()

        async def noisy(word: str, after: float) -> None:
            log.append(await self.desk.say(word, after))

        try:
            await asyncio.gather(noisy("before", 1), self.desk.fail("broken", 2), noisy("after", 3))
        except TaskFailedError as error:
            log.append(error.last_failure.exception.message)
        await asyncio.sleep(5)  # the others of a gather run on
        return log

    async def cancelled(self) -> list[str]:
        log = list[str]()
        both = asyncio.gather(self.desk.say("a", 1), self.desk.say("b", 100))
        asyncio.get_running_loop().call_later(5, both.cancel)
        try:
            await both
        except asyncio.CancelledError:
            log.append(f"cancelled at {self.now():%S}")
        return log


@both_ways(Gathering)
async def test_gather_of_stub_coroutines_keeps_the_order_of_the_arguments(run: Run) -> None:  # S15
    assert await run.result(run.new(Gathering).stubs) == ["a", "b", "c"]


@both_ways(Gathering)
async def test_gather_of_deferreds(run: Run) -> None:  # S15
    assert await run.result(run.new(Gathering).deferreds) == [str(index) for index in reversed(range(10))]


@both_ways(Gathering)
async def test_gather_of_sequences(run: Run) -> None:  # S15
    assert await run.result(run.new(Gathering).sequences) == [["a", "bbb"], ["c", "d"], ["e", "ff"]]


@both_ways(Gathering)
async def test_gather_that_returns_exceptions(run: Run) -> None:  # S15
    assert await run.result(run.new(Gathering).with_failures) == ["a", "TaskFailedError", "TaskFailedError"]


@both_ways(Gathering)
async def test_gather_raises_the_first_failure_and_lets_the_others_run(run: Run) -> None:  # S15
    assert await run.result(run.new(Gathering).first_failure) == ["before", "broken", "after"]


@both_ways(Gathering)
async def test_gather_that_is_cancelled_cancels_its_parts(run: Run) -> None:  # S15, S25
    handle = await run.start(run.new(Gathering).cancelled)
    assert await handle.result() == ["cancelled at 05"]
    assert (await run.client.describe(handle)).open_tasks == 0


class Uncaught(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> str:
        words = await asyncio.gather(self.desk.say("a"), self.desk.fail("the reason"))
        return "".join(words)


@both_ways(Uncaught)
async def test_a_failure_that_gather_raises_fails_the_method(run: Run) -> None:  # S15, S34
    with pytest.raises(WorkflowFailedError, match="the reason") as caught:
        await run.result(run.new(Uncaught).run)
    assert isinstance(caught.value.cause, TaskFailedError)
