"""An exception in an asyncio task that nobody awaits does not vanish.

It is logged once, and shown to people.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic import Channel, Workflow, WorkflowInfo
from infinitic_testing.loop import DeadlockError
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk
from tests.replay.restart import Site, line_of, on_virtual_time


class Careless(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def run(self) -> str:
        self.listening = asyncio.create_task(self._listen(), name="listening")
        word = ""
        while word != "end":
            word = await self.go.receive()
        return word

    async def forgotten(self) -> str:
        asyncio.create_task(self._listen())  # noqa: RUF006 (that is the point)
        asyncio.get_running_loop().call_soon(self._raise)
        await asyncio.sleep(1)
        return await self.desk.say("done")

    async def awaited(self) -> str:
        tasks = [asyncio.create_task(self._fail_at_once()) for _ in range(2)]
        await asyncio.wait(tasks)
        gathered = await asyncio.gather(*tasks, self._listen(), return_exceptions=True)
        return ",".join(type(each).__name__ for each in gathered)

    async def later(self) -> str:
        task = asyncio.create_task(self._listen())
        await asyncio.sleep(60)
        try:
            await task
        except LookupError as error:
            return type(error).__name__
        return ""

    async def _fail_at_once(self) -> None:
        raise LookupError

    async def many(self) -> None:
        for number in range(20):
            asyncio.create_task(self._listen(number))  # noqa: RUF006 (that is the point)
            await self.desk.say("x", 1)

    async def _listen(self, number: int = 0) -> None:
        await self.desk.say("listening")
        raise LookupError(f"nothing {number}\nto hear")  # HERE

    def _raise(self) -> None:
        raise ArithmeticError("called back")


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == f"{__name__}.Careless"]


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_it_is_logged_once_and_described(cache_size: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> WorkflowInfo:
        async with Simulation(cache_size=cache_size) as sim:
            sim.add_service(Desk)
            sim.add_workflow(Careless)
            handle = await sim.client.dispatch(sim.client.new_workflow(Careless).run)
            await sim.sleep(1)
            info = await sim.client.describe(handle)
            for word in ("on", "end"):
                await sim.client.get_workflow_by_id(Careless, handle.workflow_id).go.send(word)
                await sim.sleep(1)
            assert await handle.result() == "end"
            return info

    info = Simulation.run(main())
    assert info.background_failures == (f"LookupError: nothing 0 to hear, at {line_of(Careless)} in Careless._listen",)
    (record,) = records(caplog)
    assert "The background task listening failed, and nobody has awaited it so far" in record.getMessage()
    assert record.exc_info is not None


async def test_one_that_nobody_holds(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Careless)
    handle = await sim.client.dispatch(sim.client.new_workflow(Careless).forgotten)
    assert await handle.result() == "done"
    info = await sim.client.describe(handle)
    assert [text.partition(":")[0] for text in info.background_failures] == ["ArithmeticError", "LookupError"]
    assert len(records(caplog)) == 2
    assert any("background task Careless._" in each.getMessage() for each in records(caplog))  # it was given no name


async def test_what_the_code_deals_with_is_no_news(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Careless)
    handle = await sim.client.dispatch(sim.client.new_workflow(Careless).awaited)
    assert await handle.result() == "LookupError,LookupError,LookupError"
    assert records(caplog) == []
    assert (await sim.client.describe(handle)).background_failures == ()


async def test_what_is_awaited_later_is_shown_until_then(sim: Simulation) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Careless)
    handle = await sim.client.dispatch(sim.client.new_workflow(Careless).later)
    await sim.sleep(1)
    assert len((await sim.client.describe(handle)).background_failures) == 1
    assert await handle.result() == "LookupError"
    assert (await sim.client.describe(handle)).background_failures == ()


async def test_the_last_ones_are_kept(sim: Simulation) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Careless)
    handle = await sim.client.dispatch(sim.client.new_workflow(Careless).many)
    await handle.result()
    info = await sim.client.describe(handle)
    assert [text.split()[2] for text in info.background_failures] == ["15", "16", "17", "18", "19"]


def test_it_is_told_from_another_worker() -> None:
    async def main() -> None:
        site = Site()
        async with site.worker("Careless") as worker, site.executor(Careless):
            handle = await worker.client.dispatch(worker.client.new_workflow(Careless).run)
            await asyncio.sleep(10)
            assert len((await worker.client.describe(handle)).background_failures) == 1

    on_virtual_time(main())


def test_a_deadlock_shows_it() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            sim.add_service(Desk)
            sim.add_workflow(Careless)
            await sim.client.new_workflow(Careless).run()

    with pytest.raises(DeadlockError) as caught:
        Simulation.run(main())
    assert "a background task failed: LookupError: nothing 0 to hear" in str(caught.value)
    assert "run waits for a signal of channel 'go'" in str(caught.value)
