"""anyio in workflow code (S15).

Its task groups, scopes and primitives replay as those of asyncio do.
"""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus

from infinitic import Workflow
from tests.replay.harness import Desk, Refused, Run, both_ways


class Structured(Workflow):
    desk = Workflow.new_service(Desk)

    async def group(self) -> list[str]:
        said: list[str] = []

        async def say(word: str, after: float) -> None:
            await anyio.sleep(after)
            said.append(await self.desk.say(word))

        async with anyio.create_task_group() as tasks:
            for index, word in enumerate("abc"):
                tasks.start_soon(say, word, 3 - index)
        return said

    async def failing_group(self) -> list[str]:
        async def fail() -> None:
            await self.desk.fail("no", 1)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)
                await anyio.sleep(100)
        except ExceptionGroup as group:
            return [str(error) for error in group.exceptions]
        return []

    async def started(self) -> str:
        async def serve(*, task_status: TaskStatus[str]) -> None:
            task_status.started(await self.desk.say("up", 1))
            await anyio.sleep_forever()

        value = ""
        async with anyio.create_task_group() as tasks:
            value = await tasks.start(serve)
            tasks.cancel_scope.cancel()
        return value

    async def scopes(self) -> list[object]:
        with anyio.move_on_after(5) as scope:
            await anyio.sleep(100)
        seen: list[object] = [scope.cancelled_caught]
        try:
            with anyio.fail_after(5):
                await self.desk.say("late", 100)
        except TimeoutError:
            seen.append("late")
        with anyio.move_on_after(5), anyio.CancelScope(shield=True):
            seen.append(await self.desk.say("shielded", 10))
        return seen

    async def primitives(self) -> str:
        done, lock, limiter = anyio.Event(), anyio.Lock(), anyio.CapacityLimiter(1)
        send, receive = anyio.create_memory_object_stream[str](1)
        got: list[str] = []

        async def produce() -> None:
            async with send:
                for word in "xyz":
                    async with lock, limiter:
                        await send.send(await self.desk.say(word, 1))
            done.set()

        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(produce)
            async for word in receive:
                got.append(word)
            await done.wait()
        return "".join(got)


@both_ways(Structured)
async def test_a_task_group(run: Run) -> object:  # S15
    said = await run.result(run.new(Structured).group)
    assert said == ["c", "b", "a"]
    return said


@both_ways(Structured)
async def test_a_task_group_that_fails(run: Run) -> object:  # S15
    errors = await run.result(run.new(Structured).failing_group)
    assert len(errors) == 1
    assert Refused.__name__ in errors[0]
    return errors


@both_ways(Structured)
async def test_a_task_that_is_waited_for_to_start(run: Run) -> object:  # S15
    assert await run.result(run.new(Structured).started) == "up"
    return "up"


@both_ways(Structured)
async def test_scopes(run: Run) -> object:  # S15
    seen = await run.result(run.new(Structured).scopes)
    assert seen == [True, "late", "shielded"]
    return seen


@both_ways(Structured)
async def test_primitives(run: Run) -> object:  # S15
    assert await run.result(run.new(Structured).primitives) == "xyz"
    return "xyz"
