"""What belongs to one instance is of no use to another one (S26)."""

from __future__ import annotations

import asyncio
from typing import Any

from infinitic import UsageError, Workflow
from tests.replay.harness import Desk, Run, both_ways

LEAKED: dict[str, Any] = {}


class Leaky(Workflow):
    desk = Workflow.new_service(Desk)

    async def leak(self) -> str:
        LEAKED.setdefault("desk", self.desk)
        LEAKED.setdefault("workflow", self)
        return await self.desk.say("leaked", 10)

    async def use(self) -> list[str]:
        log = list[str]()
        for use in (
            lambda: self.dispatch(LEAKED["desk"].say, "x"),
            lambda: LEAKED["workflow"].dispatch(LEAKED["desk"].say, "x"),
            lambda: LEAKED["workflow"].timer(5),
            lambda: LEAKED["workflow"].inline(str, "x"),
        ):
            try:
                use()
            except UsageError:
                log.append("refused")
        try:
            await LEAKED["desk"].say("x")
        except UsageError:
            log.append("refused")
        return [*log, await self.desk.say("on")]


@both_ways(Leaky)
async def test_stubs_of_another_instance_are_refused(run: Run) -> None:  # S26
    LEAKED.clear()
    owner = await run.start(run.new(Leaky).leak)
    await run.sim.sleep(1)
    assert await run.result(run.new(Leaky).use) == ["refused"] * 5 + ["on"]
    assert await owner.result() == "leaked"
    assert (await run.client.describe(owner)).steps == 1, "what was refused has used up no position"


class Counter(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self) -> None:
        self.count = 0

    async def run(self, times: int, after: float) -> list[int]:
        seen = list[int]()
        for _ in range(times):
            await self.desk.say("x", after)
            self.count += 1
            seen.append(self.count)
        return seen


@both_ways(Counter)
async def test_instances_that_run_at_the_same_time(run: Run) -> None:  # S26
    handles = [await run.start(run.new(Counter).run, 5, index % 3) for index in range(20)]
    results = await asyncio.gather(*(handle.result() for handle in handles))
    assert list(results) == [[1, 2, 3, 4, 5]] * 20
