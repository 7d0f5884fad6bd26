"""Local tasks whose step is tried again, undone or given up, and those of a run that is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import pytest

from infinitic import Workflow, service, task
from infinitic.runtime.state_engine import local_tasks
from infinitic.storage import Change, Outcome, Published, Refused, StorageOutcomeUnknown, StorageUnavailable
from tests.simulation.cases import Case
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, run_scenario


@service(local=True)
class Desk:
    """Local tasks, but for two. It counts each run of each of them."""

    ran: ClassVar[Counter[str]] = Counter()
    stopped: ClassVar[Counter[str]] = Counter()

    async def add(self, x: int, y: int) -> int:
        self.ran[f"add {x} {y}"] += 1
        return x + y

    async def wait(self, x: int, seconds: float) -> int:
        self.ran[f"wait {x}"] += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.stopped[f"wait {x}"] += 1
            raise
        return x

    @task(local=False)
    async def ordinary(self, x: int) -> int:
        self.ran[f"ordinary {x}"] += 1
        await asyncio.sleep(0.01)
        return x

    @task(local=False)
    async def measure(self, text: str) -> int:
        self.ran["measure"] += 1
        return len(text)


class Office(Workflow):
    desk = Workflow.new_service(Desk)

    async def turn(self, left: int) -> int:
        if not left:
            return await self.desk.ordinary(99)
        slow = self.dispatch(self.desk.ordinary, 1)
        await self.desk.add(1, 1)
        slow.cancel()
        self.continue_as_new(self.turn, 0)
        return 0

    async def turn_early(self, left: int) -> int:
        if not left:
            return await self.desk.ordinary(99)
        slow = self.dispatch(self.desk.wait, 1, 8.0)
        await self.desk.add(1, 1)
        slow.cancel()
        self.continue_as_new(self.turn_early, 0)
        return 0

    async def wait(self, seconds: float) -> int:
        return await self.desk.wait(1, seconds)

    async def count(self, length: int) -> int:
        total = 0
        for _ in range(length):
            total = await self.desk.add(total, 1)
        return total

    async def by_turns(self) -> list[int]:
        async def go(x: int, seconds: float) -> int:
            return await self.desk.add(await self.desk.wait(x, seconds), 1000)

        return list(await asyncio.gather(go(1, 0.2), go(2, 0.1)))

    async def together(self) -> list[int]:
        async def go(x: int) -> int:
            return await self.desk.add(await self.desk.ordinary(x), 1000)

        return await asyncio.gather(*(go(x) for x in range(4)))

    async def large(self, text: str, size: int) -> int:
        beside = self.dispatch(self.desk.add, 1, 1)
        return await self.desk.measure("x" * size) + await beside


CASE = Case("office", (Office,), lambda client: asyncio.sleep(0), (Desk,))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Desk.ran, Desk.stopped = Counter(), Counter()


def run(
    scenario: Callable[[World], Awaitable[None]], database: ObservedDatabase | None = None, *, is_watched: bool = True
) -> None:
    """Run a scenario; one worker hosts everything. In the end it must have nothing in hand."""

    async def main(world: World) -> None:
        await scenario(world)
        await world.settle()
        assert not any(world.workers[0].count_held().values()), world.workers[0].count_held()

    run_scenario(main, CASE, database=database, workers_must_live=True, is_watched=is_watched)


class Refusing(ObservedDatabase):
    """Takes no change while there is a refusal. It may have written it all the same."""

    refusal: Exception | None = None
    writes = False
    refuses_each = False

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        if self.refuses_each:
            return [Refused("no") for _ in changes]
        if self.refusal is not None:
            if self.writes:
                super().commit(changes)
            raise self.refusal
        return super().commit(changes)


@pytest.mark.parametrize("method", ["turn", "turn_early"])
def test_no_task_of_a_run_is_sent_once_the_next_one_has_begun(method: str) -> None:
    """Positions count from 0 again: it would be taken for the task of the next run."""

    async def scenario(world: World) -> None:
        began = world.clock.now()
        stub = world.client.new_workflow(Office)
        handle = await world.client.dispatch(stub.turn if method == "turn" else stub.turn_early, 1)
        assert await handle.result(timeout=60.0) == 99
        assert world.clock.now() - began < 1.0
        assert Desk.ran["ordinary 99"] == 1
        assert "ordinary 1" not in Desk.ran
        assert Desk.stopped["wait 1"] == Desk.ran["wait 1"]

    run(scenario)


@pytest.mark.parametrize(("start", "asked"), [(600_000, 470_000), (900_000, 400_000)])
def test_a_step_that_is_too_large_without_its_local_tasks_is_not_tried_for_ever(start: int, asked: int) -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Office).large, "x" * start, asked)
        assert await handle.result(timeout=10.0) == asked + 2
        assert Desk.ran["measure"] == 1
        assert Desk.ran["add 1 1"] <= 2

    run(scenario, ObservedDatabase(max_value=1_000_000))


@pytest.mark.parametrize("writes", [False, True])
def test_reports_are_taken_again_in_the_order_of_the_first_try(writes: bool) -> None:
    database = Refusing()

    async def scenario(world: World) -> None:
        database.refusal = StorageOutcomeUnknown("lost") if writes else StorageUnavailable("away")
        database.writes = writes
        handle = await world.client.dispatch(world.client.new_workflow(Office).by_turns)
        await asyncio.sleep(60.0)
        database.refusal = None
        assert await handle.result(timeout=60.0) == [1001, 1002]
        assert set(Desk.ran.values()) == {1}

    run(scenario, database)


def test_what_ran_for_the_later_messages_of_a_lane_is_kept_for_them() -> None:
    """After a failure the messages are handled one by one."""
    database = Refusing()

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Office).together)
        await asyncio.sleep(0.005)
        database.refusal = StorageUnavailable("away")
        await asyncio.sleep(60.0)
        assert {name for name in Desk.ran if name.startswith("add")} == {f"add {x} 1000" for x in range(4)}
        database.refusal = None
        assert await handle.result(timeout=60.0) == [1000, 1001, 1002, 1003]
        assert set(Desk.ran.values()) == {1}

    run(scenario, database)


@pytest.mark.parametrize("writes", [False, True])
def test_a_task_goes_on_if_its_step_was_written_though_nobody_could_tell(writes: bool) -> None:
    database = Refusing()

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Office).wait, 20.0)
        await asyncio.sleep(4.5)
        database.refusal, database.writes = StorageOutcomeUnknown("lost"), writes
        await asyncio.sleep(2.0)
        database.refusal = None
        assert await handle.result(timeout=60.0) == 1
        assert (Desk.ran, Desk.stopped) == ({"wait 1": 1}, {})

    run(scenario, database)


def test_a_step_does_not_grow_while_it_cannot_be_written() -> None:
    database = Refusing()

    async def scenario(world: World) -> None:
        database.refusal = StorageUnavailable("away")
        handle = await world.client.dispatch(world.client.new_workflow(Office).count, 200)
        await asyncio.sleep(600.0)
        assert len(Desk.ran) == local_tasks.MOST_TASKS
        database.refusal = None
        assert await handle.result(timeout=60.0) == 200
        assert set(Desk.ran.values()) == {1}

    run(scenario, database)


def test_no_more_is_kept_in_memory_than_a_bound_while_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_tasks, "MOST_KEPT_BYTES", 100_000)
    database = Refusing()

    async def scenario(world: World) -> None:
        database.refusal = StorageUnavailable("away")
        handles = [await world.client.dispatch(world.client.new_workflow(Office).count, 30) for _ in range(50)]
        await asyncio.sleep(60.0)
        assert world.workers[0].count_held()["bytes of local tasks"] < 200_000
        database.refusal = None
        assert [await handle.result(timeout=60.0) for handle in handles] == [30] * 50

    run(scenario, database)


def test_what_runs_for_an_instance_that_is_parked_is_stopped() -> None:
    database = Refusing()

    async def scenario(world: World) -> None:
        database.refuses_each = True
        await world.client.dispatch(world.client.new_workflow(Office).wait, 36_000.0)
        await asyncio.sleep(300.0)
        assert (Desk.ran, Desk.stopped) == ({"wait 1": 1}, {"wait 1": 1})
        database.refuses_each = False

    # No database refuses what is well-formed.
    run(scenario, database, is_watched=False)
