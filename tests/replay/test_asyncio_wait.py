"""`asyncio.wait`, `wait_for`, `as_completed` and `shield` in workflows (S15, S25)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infinitic import Workflow
from tests.replay.harness import Desk, Run, both_ways


class Waiting(Workflow):
    desk = Workflow.new_service(Desk)

    def _tasks(self, *waits: float) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.desk.say(f"{wait}", wait)) for wait in waits]

    async def first_completed(self) -> list[str]:
        """Three results come together: the code sees one after the other (S19)."""
        pending, order = set(self._tasks(3, 1, 2, 1, 2, 3, 1)), list[str]()
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            order += [task.result() for task in done]
            order.append("|")
        return order

    async def all_completed(self) -> list[str]:
        """In the order in which the set is iterated: it must be the same in every process."""
        done, _ = await asyncio.wait(set(self._tasks(3, 1, 2, 1, 2, 3, 1)))
        return [await self.desk.say(f"again {task.result()}") for task in done]

    async def deferreds(self) -> list[str]:
        pending: set[asyncio.Future[str]] = {self.dispatch(self.desk.say, f"{wait}", wait) for wait in (2, 1, 2, 1)}
        order = list[str]()
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            order += [deferred.result() for deferred in done]
        return order

    async def futures(self) -> list[int]:
        """Plain futures in a set iterate alike, whatever their addresses are."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(20)]
        for index, future in enumerate(futures):
            future.set_result(index)
        done, _ = await asyncio.wait(futures)
        results = [future.result() for future in done]
        await asyncio.gather(*(self.desk.say(str(result)) for result in results))
        return sorted(results)

    async def first_exception(self) -> list[str]:
        tasks = [*self._tasks(1, 5), asyncio.create_task(self.desk.fail("no", 3))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        described = [f"{type(task.exception()).__name__}" for task in tasks if task in done]
        return [*described, f"{len(pending)} pending at {self.now():%S}"]

    async def timeout(self) -> list[str]:
        done, pending = await asyncio.wait(self._tasks(1, 9), timeout=5)
        early = [*(task.result() for task in done), f"{self.now():%S}"]
        return early + [await task for task in pending]

    async def wait_for_in_time(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "deferred", 1)
        return [await asyncio.wait_for(self.desk.say("stub", 1), 5), await asyncio.wait_for(deferred, 5)]

    async def wait_for_too_long(self) -> list[str]:
        log = list[str]()
        for waited in (self.desk.say("stub", 100), self.dispatch(self.desk.say, "deferred", 100)):
            try:
                await asyncio.wait_for(waited, 5)
            except TimeoutError:
                log.append(f"timeout at {self.now():%S}")
        return log

    async def wait_for_nothing(self) -> list[str]:
        log = list[str]()
        for seconds in (0, -1):
            for waited in (self.desk.say("never", 1), self.dispatch(self.desk.say, "never", 1), self.timer(1)):
                try:
                    await asyncio.wait_for(waited, seconds)
                except TimeoutError:
                    log.append("timeout")
        return log

    async def completed(self) -> list[str]:
        deferreds = [self.dispatch(self.desk.say, f"{wait}", wait) for wait in (3, 1, 2, 1)]
        return [await each for each in asyncio.as_completed(deferreds)]

    async def completed_stubs(self) -> list[str]:
        """`as_completed` puts coroutines into a set, which goes by address.

        They must start in order nevertheless.
        """
        stubs = [self.desk.say(f"{index}", index % 3) for index in range(20)]
        return [await each for each in asyncio.as_completed(stubs)]

    async def completed_in_time(self) -> list[str]:
        log = list[str]()
        try:
            for each in asyncio.as_completed([self.desk.say("soon", 1), self.desk.say("late", 100)], timeout=5):
                log.append(await each)
        except TimeoutError:
            log.append("timeout")
        return log

    async def shielded(self) -> list[str]:
        deferred = self.dispatch(self.desk.say, "kept", 10)
        log = list[str]()
        try:
            async with asyncio.timeout(5):
                await asyncio.shield(deferred)
        except TimeoutError:
            log.append(str(deferred.status()))
        return [*log, await deferred]


@both_ways(Waiting)
async def test_wait_for_the_first_completed(run: Run) -> list[str]:  # S15
    order = await run.result(run.new(Waiting).first_completed)
    assert "".join(order) == "1|1|1|2|2|3|3|"
    return order


@both_ways(Waiting)
async def test_wait_for_all_in_a_set(run: Run) -> list[str]:  # S15
    order = await run.result(run.new(Waiting).all_completed)
    assert sorted(order) == [f"again {wait}" for wait in (1, 1, 1, 2, 2, 3, 3)]
    return order


@both_ways(Waiting)
async def test_wait_for_deferreds_in_a_set(run: Run) -> list[str]:  # S15
    order = await run.result(run.new(Waiting).deferreds)
    assert order == ["1", "1", "2", "2"]
    return order


@both_ways(Waiting)
async def test_wait_for_plain_futures_in_a_set(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).futures) == list(range(20))


@both_ways(Waiting)
async def test_wait_for_the_first_exception(run: Run) -> None:  # S15
    got = await run.result(run.new(Waiting).first_exception)
    assert got == ["NoneType", "TaskFailedError", "1 pending at 03"]


@both_ways(Waiting)
async def test_wait_with_a_timeout(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).timeout) == ["1", "05", "9"]


@both_ways(Waiting)
async def test_wait_for_in_time(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).wait_for_in_time) == ["stub", "deferred"]


@both_ways(Waiting)
async def test_wait_for_too_long_cancels_what_it_waited_for(run: Run) -> None:  # S15, S25
    handle = await run.start(run.new(Waiting).wait_for_too_long)
    assert await handle.result() == ["timeout at 05", "timeout at 10"]
    assert (await run.client.describe(handle)).open_tasks == 0


@both_ways(Waiting)
async def test_wait_for_no_time_at_all(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).wait_for_nothing) == ["timeout"] * 6


@both_ways(Waiting)
async def test_as_completed_of_deferreds(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).completed) == ["1", "1", "2", "3"]


@both_ways(Waiting)
async def test_as_completed_of_stub_coroutines(run: Run) -> None:  # S15
    order = await run.result(run.new(Waiting).completed_stubs)
    assert [int(each) % 3 for each in order] == [0] * 7 + [1] * 7 + [2] * 6
    assert order[:7] == [str(index) for index in range(0, 20, 3)], "they start in the order of the list"


@both_ways(Waiting)
async def test_as_completed_with_a_timeout(run: Run) -> None:  # S15
    assert await run.result(run.new(Waiting).completed_in_time) == ["soon", "timeout"]


@both_ways(Waiting)
async def test_shield_keeps_a_task_when_its_await_is_cancelled(run: Run) -> timedelta:  # S25
    began = run.sim.now
    assert await run.result(run.new(Waiting).shielded) == ["ongoing", "kept"]
    return run.sim.now - began
