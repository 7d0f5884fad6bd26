"""Children with a custom id that start late: the tag engine is away, or the one before lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from infinitic import Client, Worker, WorkflowFailedError, ids
from tests.simulation.cases import Case
from tests.simulation.scenarios.fleets import Shop, Stock
from tests.simulation.scenarios.repairs import Garage
from tests.simulation.world import World, host_engines, host_executors, run_scenario


async def begin_nothing(client: Client) -> None:
    """The tests start what they need."""


CASE = Case("shop", (Shop, Stock), begin_nothing, (Garage,))


def host_nothing(worker: object, case: Case) -> None:
    """Host nothing: the workers come later."""


def host_without_tags(worker: Worker, case: Case) -> None:
    worker.add_service(Garage())
    for each in case.workflows:
        worker.add_workflow_state_engine(each, retention=1_000_000.0)
        worker.add_workflow_executor(each, retention=1_000_000.0)


def host_tags(worker: Worker, case: Case) -> None:
    for each in case.workflows:
        worker.add_workflow_tag_engine(each)


@pytest.mark.parametrize("away", [0.0, 60.0, 500.0])
def test_S32_a_parent_tells_and_calls_a_child_whose_tag_engine_is_away(away: float) -> None:
    async def scenario(world: World) -> None:
        world.host(CASE, host_without_tags)
        await world.run_until_idle()
        shop = await world.client.dispatch(world.client.new_workflow(Shop).open)
        await asyncio.sleep(away)
        world.host(CASE, host_tags)
        assert await shop.result() == (["a", "b"], 2)

    run_scenario(scenario, CASE, host_nothing)


@pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])
@pytest.mark.parametrize(
    "hostings",
    [(host_without_tags, host_tags), (host_engines, host_executors)],
    ids=["fused", "split"],
)
@pytest.mark.parametrize("cleanup", [0.0, 100.0])
def test_S34_a_child_that_is_asked_for_again_is_a_new_one(
    hostings: tuple[Callable[[Worker, Case], None], ...], cache_size: int, cleanup: float
) -> None:
    """Also if the one before still has the custom id, since it has not ended its clean-up."""

    async def scenario(world: World) -> None:
        world.host(CASE, *hostings, cache_size=cache_size)
        await world.run_until_idle()
        shop = await world.client.dispatch(world.client.new_workflow(Shop).mend, cleanup)
        with pytest.raises(WorkflowFailedError):
            await shop.result()
        await world.client.retry_tasks(shop)
        children = [ids.remote_id(shop.workflow_id, 0, 0, sequence) for sequence in (0, 1)]
        assert await shop.result() == [*children, "go on"]
        run = await world.client.read_run(shop)
        assert [step.id for step in run.steps if step.kind == "child"] == children[1:], "as people see it"

    run_scenario(scenario, CASE, host_nothing)
