"""What workflow code uses in place of the clock, chance and loggers (S16).

That is now, random, uuid4, logger and context.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic import Workflow, method, workflow
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


@workflow(name="Tools", version=3)
class ToolUser(Workflow):
    desk = Workflow.new_service(Desk)

    async def times(self) -> list[str]:
        seen = [self.now()]
        for seconds in (0, 1, 0.5):
            await self.desk.say("x", seconds)
            assert asyncio.get_running_loop().time() == self.now().timestamp()
            seen += [self.now(), self.now()]
        assert seen == sorted(seen), "it never goes back"
        return [f"{(each - seen[0]).total_seconds()}" for each in seen]

    async def chances(self) -> list[str]:
        log = [str(self.random.random()), str(self.uuid4())]
        await self.desk.say("x")
        log += [str(self.random.randint(1, 1000)), str(self.uuid4()), str(self.uuid4().version)]
        await self.desk.say("x")
        return [*log, *self.random.sample(["a", "b", "c"], 3)]

    async def draw(self) -> str:
        await self.desk.say("x")
        return str(self.uuid4())

    async def talk(self) -> str:
        self.logger.info("begins")
        for index in range(3):
            await self.desk.say("x")
            self.logger.info("step %d", index)
        return "done"

    @method(name="told")
    async def tell(self) -> list[str]:
        await self.desk.say("x")
        context = self.context
        return [
            *(context.workflow_id, context.workflow_name, str(context.version)),
            *(context.method_id, context.method_name, str(context.meta)),
        ]

    async def tell_in_tasks(self) -> list[str]:
        async def ask() -> str:
            await self.desk.say("x")
            return f"{self.context.method_name} {self.context.method_id == self.context.workflow_id}"

        return [await asyncio.create_task(ask()), *await asyncio.gather(ask(), ask())]


class MetaReader(Workflow):
    desk = Workflow.new_service(Desk)

    async def read(self) -> str:
        return await self.desk.say(self.context.meta["tenant"].decode())


@both_ways(ToolUser)
async def test_now_is_the_time_of_the_activation_and_never_goes_back(run: Run) -> None:  # S16
    assert await run.result(run.new(ToolUser).times) == ["0.0", "0.0", "0.0", "1.0", "1.0", "1.5", "1.5"]


@both_ways(ToolUser)
async def test_chance_is_the_same_in_every_replay(run: Run) -> list[str]:  # S16
    drawn = await run.result(run.new(ToolUser).chances)
    assert drawn[1] != drawn[3]
    assert drawn[4] == "4"
    return drawn


@both_ways(ToolUser)
async def test_chance_differs_from_instance_to_instance(run: Run) -> None:  # S16
    handles = [await run.start(run.new(ToolUser).draw) for _ in range(20)]
    assert len({await handle.result() for handle in handles}) == 20


@both_ways(ToolUser)
async def test_the_context(run: Run) -> None:  # S26
    handle = await run.start(run.new(ToolUser).tell)
    assert await handle.result() == ["w1", "Tools", "3", "w1", "told", "{}"]


@both_ways(ToolUser)
async def test_the_context_in_tasks_is_that_of_their_method(run: Run) -> None:  # S26
    assert await run.result(run.new(ToolUser).tell_in_tasks) == ["tell_in_tasks True"] * 3


async def test_meta_is_the_same_in_replay_also_after_the_end(sim: Simulation) -> None:  # S16
    sim.add_service(Desk)
    sim.add_workflow(MetaReader)
    assert await sim.client.new_workflow(MetaReader, meta={"tenant": b"acme"}).read() == "acme"
    await sim.check_replay()


@both_ways(ToolUser)
async def test_the_logger_works(run: Run) -> None:  # S16
    assert await run.result(run.new(ToolUser).talk) == "done"


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_the_logger_is_silent_in_replay(cache_size: int, caplog: pytest.LogCaptureFixture) -> None:  # S16
    async def main() -> None:
        async with Simulation(cache_size=cache_size) as sim:
            sim.add_service(Desk)
            sim.add_workflow(ToolUser)
            await sim.client.new_workflow(ToolUser).talk()
            await sim.check_replay()

    with caplog.at_level(logging.INFO):
        Simulation.run(main())
    ours = [record for record in caplog.records if record.name.endswith(".ToolUser")]
    assert [record.getMessage() for record in ours] == ["begins", "step 0", "step 1", "step 2"]
