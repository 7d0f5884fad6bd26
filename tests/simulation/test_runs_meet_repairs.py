"""S20, S32, S34: new runs, children, custom ids and re-opening meet in one family."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from infinitic import Client, Worker, WorkflowFailedError, WorkflowUnknownError, ids
from infinitic.engines import state
from infinitic.messages.events import Reopened
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.scenarios.fleets import Fleet, Owner
from tests.simulation.scenarios.repairs import Garage, Part
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario

FUSED = (host_all,)
SPLIT = (host_engines, host_executors)

roles = pytest.mark.parametrize("hostings", [FUSED, SPLIT], ids=["fused", "split"])
caches = pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])


async def begin_nothing(client: Client) -> None:
    """The tests start what they need."""


CASE = Case("fleet", (Owner, Fleet, Part), begin_nothing, (Garage,))


def host_tags(worker: Worker, case: Case) -> None:
    """Host only the tag engines."""
    for workflow in case.workflows:
        worker.add_workflow_tag_engine(workflow)


def host_nothing(worker: object, case: Case) -> None:
    """Host nothing: the workers come later."""


def read_head(world: World, name: str, workflow_id: str) -> state.WorkflowHead:
    return state.decode(read_instances(world.database)[StateKey(name, workflow_id)][0])


def count_reopenings(world: World, name: str, workflow_id: str) -> int:
    _, segments = read_instances(world.database)[StateKey(name, workflow_id)]
    return sum(isinstance(event, Reopened) for event in decode_history(segments))


async def fail(world: World, left: int, failing: int) -> tuple[str, str, str]:
    """Start a family whose child fails in some run. Returns the ids of owner, fleet and child."""
    owner = await world.client.dispatch(world.client.new_workflow(Owner, custom_id="owner-1").run, left, failing)
    with pytest.raises(WorkflowFailedError):
        await owner.result()
    await asyncio.sleep(30.0)
    fleet = ids.remote_id(owner.workflow_id, 0, 0)
    head = read_head(world, "Fleet", fleet)
    assert (head.run, head.status) == (left - failing, WorkflowStatus.FAILED)
    return owner.workflow_id, fleet, ids.remote_id(fleet, head.run, 0)


@roles
@caches
@pytest.mark.parametrize("failing", [3, 2, 0], ids=["first run", "second run", "last run"])
def test_a_family_goes_on_in_the_run_that_has_failed(
    hostings: tuple[Callable[..., None], ...], cache_size: int, failing: int
) -> None:
    async def scenario(world: World) -> None:
        world.host(CASE, *hostings, cache_size=cache_size)
        await world.run_until_idle()
        owner, fleet, child = await fail(world, 3, failing)
        client = world.client
        by_custom_id = client.get_workflow_by_custom_id(Fleet, "fleet-1")
        with pytest.raises(WorkflowUnknownError):
            await by_custom_id.words.send("nobody hears this", confirm=True)
        assert await client.query(client.get_workflow_by_id(Fleet, fleet).count) == 3 - failing
        await client.retry_tasks(client.get_workflow_by_id(Part, child))
        await asyncio.sleep(60.0)
        assert await client.query(by_custom_id.count) == 4
        assert await client.get_ids(client.get_workflow_by_tag(Fleet, "fleets")) == [fleet]
        assert await by_custom_id.twice(4) == 8
        # Repeats of all that was sent, of this run and of those before, change nothing.
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        await by_custom_id.words.send("a", confirm=True)
        await by_custom_id.words.send("b", confirm=True)
        assert await client.get_handle(Owner.run, owner).result() == [3, 2, 1, 0]
        assert await client.get_handle(Fleet.work, fleet).result() == ([3, 2, 1, 0], ["a", "b"])
        await asyncio.sleep(60.0)
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        head = read_head(world, "Fleet", fleet)
        assert (head.run, head.status, head.told) == (3, WorkflowStatus.COMPLETED, ())
        assert count_reopenings(world, "Owner", owner) == 1
        assert await client.get_ids(client.get_workflow_by_tag(Fleet, "fleets")) == []
        # Both custom ids are free again.
        again = await client.dispatch(client.new_workflow(Owner, custom_id="owner-1").run, 0, 9)
        assert again.workflow_id != owner
        other = ids.remote_id(again.workflow_id, 0, 0)
        for word in ("c", "d"):
            await client.get_workflow_by_id(Fleet, other).words.send(word)
        assert await again.result() == [0]

    run_scenario(scenario, CASE, host_nothing)


@roles
def test_a_parent_whose_custom_id_another_one_has_meanwhile_stays_failed(
    hostings: tuple[Callable[..., None], ...],
) -> None:
    async def scenario(world: World) -> None:
        world.host(CASE, *hostings)
        await world.run_until_idle()
        owner, fleet, child = await fail(world, 1, 0)
        client = world.client
        other = await client.dispatch(client.new_workflow(Fleet, custom_id="fleet-1").work, 0, 9, [])
        await client.retry_tasks(client.get_workflow_by_id(Part, child))
        await asyncio.sleep(3600.0)
        assert (await client.describe(client.get_workflow_by_id(Fleet, fleet))).status is WorkflowStatus.FAILED
        assert (await client.describe(client.get_workflow_by_id(Owner, owner))).status is WorkflowStatus.FAILED
        for word in ("a", "b"):
            await client.get_workflow_by_custom_id(Fleet, "fleet-1").words.send(word)
        assert await other.result() == ([0], ["a", "b"])

    run_scenario(scenario, CASE, host_nothing)


def test_a_claim_for_an_instance_that_is_gone_by_then_frees_the_custom_id_again() -> None:
    """Its retention has ended while the tag engine was away. Nobody else could ever have the id."""

    def host_without_tags(worker: Worker, case: Case) -> None:
        worker.add_service(Garage())
        for each in (Fleet, Part):
            worker.add_workflow_state_engine(each, retention=60.0)
            worker.add_workflow_executor(each)

    async def scenario(world: World) -> None:
        world.host(CASE, host_without_tags, host_tags)
        await world.run_until_idle()
        client = world.client
        new = client.new_workflow(Fleet, custom_id="fleet-1")
        failed = await client.dispatch(new.work, 0, 0, [])
        with pytest.raises(WorkflowFailedError):
            await failed.result()
        await world.stop()
        world.host(CASE, host_without_tags)
        child = client.get_workflow_by_id(Part, ids.remote_id(failed.workflow_id, 0, 0))
        await client.retry_tasks(child)
        await asyncio.sleep(2 * 3600.0)
        assert StateKey("Fleet", failed.workflow_id) not in read_instances(world.database)
        world.host(CASE, host_tags)
        await asyncio.sleep(60.0)
        again = await client.dispatch(new.work, 0, 9, [])
        assert again.workflow_id != failed.workflow_id
        for word in ("a", "b"):
            await client.get_workflow_by_id(Fleet, again.workflow_id).words.send(word)
        assert await again.result() == ([0], ["a", "b"])

    run_scenario(scenario, CASE, host_nothing)
