"""`TaskGroup`, `asyncio.timeout`, `create_task` and nestings of them in workflows (S15, S25)."""

from __future__ import annotations

import asyncio
from typing import cast

from infinitic import TaskFailedError, Workflow
from tests.replay.harness import Desk, Run, both_ways


class Groups(Workflow):
    desk = Workflow.new_service(Desk)

    async def all_well(self) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.desk.say(word, after)) for word, after in (("a", 2), ("b", 1))]
        return [task.result() for task in tasks]

    async def failing(self) -> list[str]:
        """The failure of one cancels the others.

        What they clean up is seen, in the order of their creation.
        """
        log = list[str]()

        async def patient(word: str) -> None:
            try:
                await self.desk.say(word, 100)
            except asyncio.CancelledError:
                log.append(f"{word} gives up at {self.now():%S}")
                log.append(await self.desk.say(f"{word} cleans up", 1))
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for word in ("one", "two", "three", "four", "five"):
                    group.create_task(patient(word))
                group.create_task(self.desk.fail("the reason", 5))
        except* TaskFailedError as failures:
            log += [error.last_failure.exception.message for error in _members(failures)]
        return log

    async def body_fails(self) -> list[str]:
        log, tasks = list[str](), list[asyncio.Task[str]]()
        try:
            async with asyncio.TaskGroup() as group:
                tasks.append(group.create_task(self.desk.say("never", 100)))
                await self.desk.say("first", 1)
                raise LookupError("in the body")
        except* LookupError as failures:
            log += [str(each) for each in failures.exceptions]
        return [*log, f"cancelled: {tasks[0].cancelled()}"]

    async def grows(self) -> list[str]:
        """Tasks that start more tasks of the group."""
        log = list[str]()

        async def spread(word: str) -> None:
            log.append(await self.desk.say(word, len(word)))
            if len(word) < 4:
                group.create_task(spread(word + "l"))
                group.create_task(spread(word + "r"))

        async with asyncio.TaskGroup() as group:
            group.create_task(spread("t"))
        return log

    async def cancelled_from_outside(self) -> list[str]:
        log = list[str]()

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.desk.say("a", 100))
                group.create_task(self.desk.say("b", 100))

        task = asyncio.create_task(work())
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        log.append(f"cancelled: {task.cancelled()} at {self.now():%S}")
        return log


def _members(failures: BaseException) -> list[TaskFailedError]:
    members = cast("BaseExceptionGroup[BaseException]", failures).exceptions
    return [error for error in members if isinstance(error, TaskFailedError)]


@both_ways(Groups)
async def test_a_group_waits_for_all(run: Run) -> None:  # S15
    assert await run.result(run.new(Groups).all_well) == ["a", "b"]


@both_ways(Groups)
async def test_a_failure_in_a_group_cancels_the_others_which_may_clean_up(run: Run) -> None:  # S15, S25
    names = ["one", "two", "three", "four", "five"]
    log = await run.result(run.new(Groups).failing)
    assert sorted(log[:5]) == sorted(f"{name} gives up at 05" for name in names)
    assert log[5:] == [f"{line.split()[0]} cleans up" for line in log[:5]] + ["the reason"]


@both_ways(Groups)
async def test_a_failure_in_the_body_of_a_group(run: Run) -> None:  # S15
    handle = await run.start(run.new(Groups).body_fails)
    assert await handle.result() == ["in the body", "cancelled: True"]
    assert (await run.client.describe(handle)).open_tasks == 0


@both_ways(Groups)
async def test_a_group_that_grows(run: Run) -> None:  # S15
    log = await run.result(run.new(Groups).grows)
    assert log[:3] == ["t", "tl", "tr"]
    assert sorted(log) == sorted({"t", "tl", "tr"} | {f"t{x}{y}" for x in "lr" for y in "lr"} | _third())


def _third() -> set[str]:
    return {f"t{x}{y}{z}" for x in "lr" for y in "lr" for z in "lr"}


@both_ways(Groups)
async def test_a_group_that_is_cancelled_from_outside(run: Run) -> None:  # S15, S25
    handle = await run.start(run.new(Groups).cancelled_from_outside)
    assert await handle.result() == ["cancelled: True at 02"]
    assert (await run.client.describe(handle)).open_tasks == 0


class Timeouts(Workflow):
    desk = Workflow.new_service(Desk)

    async def hit(self) -> list[str]:
        log = list[str]()
        deferred = self.dispatch(self.desk.say, "late", 100)
        try:
            async with asyncio.timeout(5):
                log.append(await self.desk.say("in time", 3))
                await deferred
        except TimeoutError:
            log.append(f"timeout at {self.now():%S}, {deferred.status()}")
        return log

    async def missed(self) -> str:
        async with asyncio.timeout(5) as deadline:
            word = await self.desk.say("in time", 3)
        return f"{word}, expired: {deadline.expired()}"

    async def around_timers(self) -> list[str]:
        log = list[str]()
        timer = self.timer(100)
        try:
            async with asyncio.timeout(5):
                await timer
        except TimeoutError:
            log.append(f"timeout at {self.now():%S}, {timer.status()}")
        async with asyncio.timeout(5):
            await self.timer(2)
            await asyncio.sleep(2)
        return [*log, f"in time at {self.now():%S}"]

    async def rescheduled(self) -> str:
        async with asyncio.timeout(1) as deadline:
            deadline.reschedule(asyncio.get_running_loop().time() + 10)
            word = await self.desk.say("in the end", 5)
            deadline.reschedule(None)
            await asyncio.sleep(100)
        return word

    async def nested(self) -> list[str]:
        log = list[str]()
        try:
            async with asyncio.timeout(10):
                for attempt in range(5):
                    try:
                        async with asyncio.timeout(4):
                            await self.desk.say("never", 100)
                    except TimeoutError:
                        log.append(f"inner {attempt} at {self.now():%S}")
        except TimeoutError:
            log.append(f"outer at {self.now():%S}")
        return log

    async def at_once(self) -> list[str]:
        log = list[str]()
        for seconds in (0, -5):
            try:
                async with asyncio.timeout(seconds):
                    await self.desk.say("never", 1)
            except TimeoutError:
                log.append("timeout")
        return log

    async def many(self) -> int:
        for _ in range(200):
            async with asyncio.timeout(3600):
                await self.desk.say("quick")
        return 200


@both_ways(Timeouts)
async def test_a_deadline_that_is_hit_cancels_the_task(run: Run) -> None:  # S15, S25
    handle = await run.start(run.new(Timeouts).hit)
    assert await handle.result() == ["in time", "timeout at 05, canceled"]
    assert (await run.client.describe(handle)).open_tasks == 0


@both_ways(Timeouts)
async def test_a_deadline_that_is_not_hit_leaves_no_timer(run: Run) -> None:  # S15, S24
    handle = await run.start(run.new(Timeouts).missed)
    assert await handle.result() == "in time, expired: False"
    assert (await run.client.describe(handle)).open_timers == 0


@both_ways(Timeouts)
async def test_a_deadline_around_timers(run: Run) -> None:  # S15
    assert await run.result(run.new(Timeouts).around_timers) == ["timeout at 05, canceled", "in time at 09"]


@both_ways(Timeouts)
async def test_a_deadline_that_is_moved(run: Run) -> None:  # S15
    assert await run.result(run.new(Timeouts).rescheduled) == "in the end"


@both_ways(Timeouts)
async def test_a_deadline_within_a_deadline(run: Run) -> None:  # S15
    assert await run.result(run.new(Timeouts).nested) == ["inner 0 at 04", "inner 1 at 08", "outer at 10"]


@both_ways(Timeouts)
async def test_a_deadline_that_is_past(run: Run) -> None:  # S15
    assert await run.result(run.new(Timeouts).at_once) == ["timeout", "timeout"]


@both_ways(Timeouts)
async def test_a_deadline_around_each_of_many_steps_leaves_one_wake(run: Run) -> None:  # S15, S24
    handle = await run.start(run.new(Timeouts).many)
    assert await handle.result() == 200
    stats = (await run.sim.transport.stats(run.topic(handle))).subscriptions["state-engine"]
    assert stats.delayed <= 5, "one, and the copies of it that successors may have republished"
