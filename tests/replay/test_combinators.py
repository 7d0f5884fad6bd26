"""`|`, `&`, `any_of`, `all_of`: values, failures, losers, nesting, size (S21, S22)."""

from __future__ import annotations

import asyncio
from typing import Any

from infinitic import Deferred, DeferredError, TaskCanceledError, TaskFailedError, UsageError, Workflow, all_of, any_of
from tests.replay.harness import Desk, Run, both_ways

MANY = 1000


class Combined(Workflow):
    desk = Workflow.new_service(Desk)

    def _say(self, word: str, after: float = 0.0) -> Deferred[Any]:
        return self.dispatch(self.desk.say, word, after)

    def _fail(self, word: str, after: float = 0.0) -> Deferred[Any]:
        return self.dispatch(self.desk.fail, word, after)

    async def _outcome(self, combined: Any) -> str:
        try:
            return f"{await combined} at {self.now():%S}"
        except TaskFailedError as error:
            return f"{error.last_failure.exception.message} failed at {self.now():%S}"

    async def any(self) -> list[str]:
        return [
            await self._outcome(self._say("a", 2) | self._say("b", 1)),
            await self._outcome(any_of(self._fail("a", 1), self._say("b", 3), self._fail("c", 2))),
            await self._outcome(any_of(self._fail("a", 3), self._fail("b", 1), self._fail("c", 2))),
            await self._outcome(any_of(self._say("alone", 1))),
        ]

    async def all(self) -> list[str]:
        return [
            await self._outcome(self._say("a", 2) & self._say("b", 1)),
            await self._outcome(all_of(self._say("a", 3), self._fail("b", 2), self._fail("c", 1))),
            await self._outcome(all_of(self._say("alone", 1))),
        ]

    async def nothing(self) -> list[str]:
        log = [f"{await all_of()}"]
        try:
            any_of()
        except UsageError as error:
            log.append(type(error).__name__)
        return log

    async def nested(self) -> list[str]:
        either = (self._say("a", 5) & self._say("b", 1)) | (self._say("c", 2) & self._say("d", 3))
        both = (self._say("a", 1) | self._fail("b")) & (self._fail("c", 1) | self._say("d", 2))
        deep = any_of(all_of(any_of(self._fail("a"), self._fail("b", 1)), self._say("c", 9)), self._say("d", 4))
        return [await self._outcome(each) for each in (either, both, deep)]

    async def losers(self) -> list[str]:
        slow, fast = self._say("slow", 5), self._say("fast", 1)
        first = await (slow | fast)
        return [first, str(slow.status()), await slow]

    async def done_before(self) -> list[str]:
        done, failed = self._say("done"), self._fail("failed")
        await asyncio.sleep(1)
        return [
            await self._outcome(done | self._say("later", 1)),
            await self._outcome(done & done),
            await self._outcome(failed | done),
            await self._outcome(all_of(self._say("never", 50), failed)),
            str((done | failed).status()),
        ]

    async def statuses(self) -> list[str]:
        either, both = self._say("a", 1) | self._say("b", 2), self._say("c", 1) & self._say("d", 3)
        log = list[str]()
        for _ in range(4):
            log.append(f"{either.status()}, {both.status()}")
            await asyncio.sleep(0.9)
        return log

    async def again(self) -> list[str]:
        either = self._say("a", 1) | self._say("b", 2)
        return [await either, await either, either.result()]

    async def cancelled(self) -> list[str]:
        a, b, c = self._say("a", 50), self._say("b", 50), self._say("c", 50)
        combined = any_of(a & b, c)
        log = [str(combined.cancel()), str(combined.status())]
        for each in (combined, a, b, c):
            try:
                await each
            except DeferredError as error:
                log.append(type(error).__name__)
        return log

    async def await_cancelled(self) -> list[str]:
        a, b = self._say("a", 50), self._say("b", 50)
        try:
            async with asyncio.timeout(3):
                await (a | b)
        except TimeoutError:
            pass
        return [str(a.status()), str(b.status()), f"{self.now():%S}"]

    async def part_cancelled(self) -> list[str]:
        a, b = self._say("a", 2), self._say("b", 50)
        either, both = a | b, a & b
        b.cancel()
        log = [await either]
        try:
            await both
        except TaskCanceledError as error:
            log.append("b is cancelled" if error.task_id == b.id else "another")
        return log

    async def with_asyncio(self) -> list[str]:
        either, both = self._say("a", 3) | self._say("b", 1), self._say("c", 2) & self._say("d", 1)
        done, _ = await asyncio.wait({either, both}, return_when=asyncio.FIRST_COMPLETED)
        gathered = await asyncio.gather(both, asyncio.shield(either), asyncio.wait_for(either, 5))
        return [*(str(each.result()) for each in done), *map(str, gathered)]

    async def many(self) -> list[str]:
        words = [self._say(str(index), 1 + index // 250) for index in range(MANY)]
        first = await any_of(*words)
        every = await all_of(*words)
        return [first, str(every == [str(index) for index in range(MANY)])]


@both_ways(Combined)
async def test_any_gives_the_first_value_and_the_last_failure(run: Run) -> None:  # S21
    assert await run.result(run.new(Combined).any) == ["b at 01", "b at 04", "a failed at 07", "alone at 08"]


@both_ways(Combined)
async def test_all_gives_a_list_and_the_first_failure_at_once(run: Run) -> None:  # S21
    assert await run.result(run.new(Combined).all) == ["['a', 'b'] at 02", "c failed at 03", "['alone'] at 04"]


@both_ways(Combined)
async def test_combinations_of_nothing(run: Run) -> None:  # S21
    assert await run.result(run.new(Combined).nothing) == ["[]", "UsageError"]


@both_ways(Combined)
async def test_nesting(run: Run) -> None:  # S22
    assert await run.result(run.new(Combined).nested) == ["['c', 'd'] at 03", "['a', 'd'] at 03", "d at 04"]


@both_ways(Combined)
async def test_losers_are_left_alone(run: Run) -> None:  # S21
    assert await run.result(run.new(Combined).losers) == ["fast", "ongoing", "slow"]


@both_ways(Combined)
async def test_parts_that_are_done_before(run: Run) -> None:  # S22
    assert await run.result(run.new(Combined).done_before) == [
        *("done at 01", "['done', 'done'] at 01", "done at 01", "failed failed at 01", "completed"),
    ]


@both_ways(Combined)
async def test_statuses_without_awaiting(run: Run) -> None:  # S22
    assert await run.result(run.new(Combined).statuses) == [
        *("ongoing, ongoing", "ongoing, ongoing", "completed, ongoing", "completed, ongoing"),
    ]


@both_ways(Combined)
async def test_awaiting_a_combination_twice(run: Run) -> None:  # S22
    assert await run.result(run.new(Combined).again) == ["a", "a", "a"]


@both_ways(Combined)
async def test_cancelling_a_combination_cancels_its_parts(run: Run) -> None:  # S25
    handle = await run.start(run.new(Combined).cancelled)
    assert await handle.result() == ["True", "canceled", *["TaskCanceledError"] * 4]
    assert (await run.client.describe(handle)).open_tasks == 0


@both_ways(Combined)
async def test_cancelling_an_await_of_a_combination_cancels_its_parts(run: Run) -> None:  # S25
    assert await run.result(run.new(Combined).await_cancelled) == ["canceled", "canceled", "03"]


@both_ways(Combined)
async def test_a_part_that_is_cancelled(run: Run) -> None:  # S21, S25
    assert await run.result(run.new(Combined).part_cancelled) == ["a", "b is cancelled"]


@both_ways(Combined)
async def test_combinations_are_futures(run: Run) -> None:  # S15
    assert await run.result(run.new(Combined).with_asyncio) == ["b", "['c', 'd']", "b", "b"]


@both_ways(Combined)
async def test_lists_of_a_thousand(run: Run) -> None:  # S22
    assert await run.result(run.new(Combined).many) == ["0", "True"]
