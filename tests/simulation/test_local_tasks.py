"""Local tasks: run by the worker of the workflow, inside its step, without messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from infinitic import Worker, WorkflowCanceledError
from infinitic.definitions.service_contract import implementation_of
from infinitic.engines import effects, state
from infinitic.messages import events
from infinitic.messages.commands import ScheduleTask
from infinitic.storage import Change, Outcome, Published, StateKey, StorageOutcomeUnknown, StorageUnavailable
from infinitic_testing.fences import Fence
from tests.simulation.cases import Case
from tests.simulation.local_cases import CHAIN, Chain, Prices, count_reports, count_tasks, read_events, reset
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario


@pytest.fixture(autouse=True)
def _fresh() -> None:
    reset()


def host_ordinary(worker: Worker, case: Case) -> None:
    """Host everything, with all tasks by message."""
    worker.add_service(Prices(), local=False)
    for workflow in case.workflows:
        worker.add_workflow(workflow)


def run(scenario: Callable[[World], Awaitable[None]], *hostings: Any, database: Any = None) -> None:
    """Run a scenario; one worker hosts everything, if nothing else is said."""
    run_scenario(scenario, CHAIN, *hostings, database=database, workers_must_live=True)


async def marked(world: World, workflow_id: str) -> list[int]:
    """Positions of the tasks that ran as local ones."""
    happened = [event for segment in await read_events(world, workflow_id) for event in segment]
    return [event.position for event in happened if isinstance(event, events.TaskResult) and event.local]


def test_a_chain_of_local_tasks_is_one_step_and_no_message() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).run, 5)
        assert await handle.result() == 5
        assert (count_tasks(world), count_reports(world)) == (0, 2), "the start, and who waits for it"
        segments = await read_events(world, handle.workflow_id)
        assert len(segments) == 1
        assert sum(isinstance(each, events.Activated) for each in segments[0]) == 6
        assert await marked(world, handle.workflow_id) == [0, 1, 2, 3, 4]
        assert Prices.ran == {"add": 5}

    run(scenario)


def test_where_the_code_runs_elsewhere_all_tasks_go_by_message() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.new_workflow(Chain).run(3) == 3
        assert count_tasks(world) == 3

    run(scenario, host_engines, host_executors)


def test_what_add_service_says_wins() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.new_workflow(Chain).run(3) == 3
        assert count_tasks(world) == 3

    run(scenario, host_ordinary)


def test_tasks_that_are_asked_for_together_run_at_once() -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        assert await world.client.new_workflow(Chain).wait(2.0, 1.0, 2.0) == [0, 1, 2]
        assert world.clock.now() - began < 2.5
        assert (count_tasks(world), Prices.ran) == (0, {"wait": 3})

    run(scenario)


def test_a_task_that_waits_holds_up_its_own_instance_only() -> None:
    async def scenario(world: World) -> None:
        slow = await world.client.dispatch(world.client.new_workflow(Chain).wait, 3.0)
        await world.run_until_idle()
        began = world.clock.now()
        assert await world.client.new_workflow(Chain).run(2) == 2
        assert world.clock.now() - began < 1.0
        assert await slow.result() == [0]

    run(scenario)


def test_local_and_ordinary_tasks_and_plain_functions_go_together() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).mixed)
        assert await handle.result() == 3
        assert count_tasks(world) == 1
        assert await marked(world, handle.workflow_id) == [0, 2, 3]

    run(scenario)


def test_after_64_tasks_the_rest_of_a_step_goes_by_message() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).run, 70)
        assert await handle.result() == 70
        assert count_tasks(world) == 1
        # The report of task 64 begins the next step.
        assert await marked(world, handle.workflow_id) == [each for each in range(70) if each != 64]

    run(scenario)


@pytest.mark.parametrize("seconds", [20.0, 7.0])
def test_a_task_that_takes_long_goes_on_as_one_by_message_and_runs_once(seconds: float) -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).wait, seconds, 0.0)
        await asyncio.sleep(4.9)
        assert count_tasks(world) == 0
        await asyncio.sleep(0.2)
        assert count_tasks(world) == 1, "it goes on, and a message stands for it"
        began = world.clock.now()
        assert await handle.result(timeout=60.0) == [0, 1]
        assert world.clock.now() - began < seconds
        assert Prices.ran == {"wait": 2}
        await world.settle()
        assert not world.backlog()
        assert Prices.ran == {"wait": 2}

    run(scenario)


def test_the_step_ends_when_the_next_timer_is_due() -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        assert await world.client.new_workflow(Chain).limit(4.0, 1.0) == "late"
        assert world.clock.now() - began < 1.5
        await world.run_until_idle()
        assert Prices.stopped == {"wait": 1}

    run(scenario)


def test_a_cancel_does_not_wait_for_a_local_task() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).wait, 4.0)
        await world.run_until_idle()
        began = world.clock.now()
        await world.client.cancel(handle)
        with pytest.raises(WorkflowCanceledError):
            await handle.result()
        assert world.clock.now() - began < 0.5
        await world.run_until_idle()
        assert Prices.stopped == {"wait": 1}
        assert Prices.ran == {"wait": 1}

    run(scenario)


def test_what_the_code_cancels_is_stopped_without_a_message() -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        assert await world.client.new_workflow(Chain).first() == 2
        assert world.clock.now() - began < 0.5
        await world.run_until_idle()
        assert (Prices.stopped, count_tasks(world)) == ({"wait": 1}, 0)

    run(scenario)


def test_who_waits_for_a_method_does_not_wait_for_what_runs_beside() -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        assert await world.client.new_workflow(Chain).beside(4.0) == 2
        assert world.clock.now() - began < 0.5

    run(scenario)


def test_a_short_delay_between_attempts_is_waited_for_in_place() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).stumble, 2)
        await asyncio.sleep(1.0)
        assert await handle.result() == 7
        assert (count_tasks(world), count_reports(world), Prices.ran["stumble"]) == (0, 2, 3)
        (segment,) = await read_events(world, handle.workflow_id)
        failed = [each for each in segment if isinstance(each, events.AttemptError)]
        assert [each.failure.retry_index for each in failed] == [0, 1]
        assert all(each.local for each in failed)
        assert failed[1].failure.previous is not None

    run(scenario)


def test_a_long_delay_between_attempts_goes_the_normal_way() -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        handle = await world.client.dispatch(world.client.new_workflow(Chain).fall, 2)
        assert await handle.result(timeout=60.0) == 7
        assert (count_tasks(world), Prices.ran["fall"]) == (2, 3)
        assert 20.0 <= world.clock.now() - began < 21.0

    run(scenario)


def test_tasks_with_tags_go_by_message() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.new_workflow(Chain).tagged() == 2
        assert count_tasks(world) == 1

    run(scenario)


def test_results_that_are_large_together_go_by_message_and_run_once() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.new_workflow(Chain).grow(100_000, 6) == 600_000
        assert Prices.ran == {"grow": 6}
        assert 0 < count_tasks(world) < 6

    run(scenario)


def test_a_new_run_goes_on_with_local_tasks() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).again, 4)
        assert await handle.result() == 0
        assert (count_tasks(world), Prices.ran) == (0, {"add": 4})

    run(scenario)


class Refusing(ObservedDatabase):
    """Takes no change while there is a refusal. It may have written it all the same."""

    refusal: Exception | None = None
    writes = False

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        if self.refusal is not None:
            if self.writes:
                super().commit(changes)
            raise self.refusal
        return super().commit(changes)


@pytest.mark.parametrize(
    ("error", "writes"),
    [
        (StorageUnavailable("away"), False),
        (StorageOutcomeUnknown("lost"), False),
        (StorageOutcomeUnknown("lost"), True),
    ],
)
def test_an_outage_of_the_storage_runs_nothing_again(error: Exception, writes: bool) -> None:
    database = Refusing()

    async def scenario(world: World) -> None:
        database.refusal, database.writes = error, writes
        handle = await world.client.dispatch(world.client.new_workflow(Chain).mixed)
        again = await world.client.dispatch(world.client.new_workflow(Chain).stumble, 2)
        await asyncio.sleep(120.0)
        database.refusal = None
        assert await handle.result(timeout=60.0) == 3
        assert await again.result(timeout=60.0) == 7
        assert Prices.ran == {"add": 1, "ordinary": 1, "wait": 1, "block": 1, "stumble": 3}

    run(scenario, database=database)


def test_after_a_crash_the_whole_step_runs_again_by_message() -> None:
    """Who gets the inputs again cannot know with which task the process has died."""

    async def scenario(world: World) -> None:
        fence = Fence()
        world.host(CHAIN, host_all, fence=fence)
        await world.run_until_idle()
        handle = await world.client.dispatch(world.client.new_workflow(Chain).wait, 2.0, 3.0)
        await world.run_until_idle()
        fence.cut()
        world.host(CHAIN, host_all)
        assert await handle.result(timeout=60.0) == [0, 1]
        key = StateKey("Chain", handle.workflow_id)
        stored = await world.storage.states.load([key])
        assert state.decode(stored[key].head).by_message == 64
        segments = await world.storage.states.history(key, sequences=[1], outbox=True)
        sent = effects.decode(segments[0].outbox or b"").effects
        assert [each.doubt for each in sent if isinstance(each, effects.SendTask)] == [effects.DIED] * 2

    run_scenario(scenario, CHAIN, lambda worker, case: worker.add_service_tag_engine("Prices"), is_watched=False)


@pytest.mark.parametrize("first", [host_all, host_ordinary])
def test_the_option_may_change_while_an_instance_runs(first: Any) -> None:
    """The history of either is that of the other: it replays, and goes on."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Chain).fall, 1)
        await world.run_until_idle()
        await world.stop()
        world.host(CHAIN, host_ordinary if first is host_all else host_all, cache_size=0)
        assert await handle.result(timeout=60.0) == 7
        asked = [each for segment in await read_events(world, handle.workflow_id) for each in segment]
        assert sum(isinstance(each, ScheduleTask) for each in asked) == 1

    run_scenario(scenario, CHAIN, first)


def test_a_worker_that_stops_lets_local_tasks_end_and_loses_nothing() -> None:
    async def scenario(world: World) -> None:
        worker = world.worker(shutdown_grace_period=30.0)
        host_all(worker, CHAIN)
        async with worker.running():
            handle = await world.client.dispatch(world.client.new_workflow(Chain).wait, 2.0, 3.0)
            await world.run_until_idle()
            began = world.clock.now()
        assert world.clock.now() - began < 4.0
        world.host(CHAIN, host_all)
        assert await handle.result(timeout=60.0) == [0, 1]
        assert Prices.ran == {"wait": 2}
        assert not any(worker.count_held().values())

    run_scenario(scenario, CHAIN, lambda worker, case: worker.add_service_tag_engine("Prices"))


def test_implementations_know_which_tasks_are_local() -> None:
    tasks = implementation_of(Prices()).tasks
    assert {name for name, task in tasks.items() if not task.local} == {"ordinary"}
