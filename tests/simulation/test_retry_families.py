"""S34: parents that have failed by a child go on when the failed tasks of that child run again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import Workflow, WorkflowFailedError, WorkflowHandle, ids
from infinitic.engines.effects import Postpone
from infinitic.engines.workflow.reopening import AGAIN, AGAIN_SECONDS
from infinitic.messages import engine as inputs
from infinitic.messages.events import Reopened
from infinitic.messages.outcomes import RemoteStatus, WorkflowStatus
from infinitic.storage import StateKey
from infinitic_testing.simulation import Simulation
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.scenarios.repairs import Car, Engine, Garage, Part
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario
from tests.unit.engine_samples import CLOSED, NOW, RUNNING, taken


def host(sim: Simulation) -> None:
    sim.add_service(Garage)
    for each in (Part, Engine, Car):
        sim.add_workflow(each)


async def fail(handle: WorkflowHandle[int]) -> None:
    with pytest.raises(WorkflowFailedError):
        await handle.result()


class Careful(Workflow):
    part = Workflow.new_workflow(Part)

    async def build(self) -> int:
        try:
            return await self.part.fit(5, 1)
        except WorkflowFailedError:
            return 0


class TestParents:
    async def test_parents_go_on_in_turn(self, sim: Simulation) -> None:
        host(sim)
        handle = await sim.client.dispatch(sim.client.new_workflow(Car).build, 5, 1)
        await fail(handle)
        await sim.sleep(3600)
        child = ids.remote_id(handle.workflow_id, 0, 0)
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(child, 0, 0))
        await sim.client.retry_tasks(part)
        assert await handle.result() == 6
        for each in (part, sim.client.get_workflow_by_id(Engine, child), handle):
            assert (await sim.client.describe(each)).status is WorkflowStatus.COMPLETED

    @pytest.mark.infinitic(cache_size=0)
    async def test_they_may_fail_once_more_and_go_on_again(self, sim: Simulation) -> None:
        host(sim)
        handle = await sim.client.dispatch(sim.client.new_workflow(Car).build, 5, 2)
        child = ids.remote_id(handle.workflow_id, 0, 0)
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(child, 0, 0))
        for _ in range(2):
            await fail(handle)
            await sim.sleep(60)
            await sim.client.retry_tasks(part)
            await sim.sleep(60)
        assert await handle.result() == 6

    async def test_a_parent_that_has_dealt_with_it_stays_as_it_is(self, sim: Simulation) -> None:
        host(sim)
        sim.add_workflow(Careful)
        handle = await sim.client.dispatch(sim.client.new_workflow(Careful).build)
        assert await handle.result() == 0
        part = sim.client.get_workflow_by_id(Part, ids.remote_id(handle.workflow_id, 0, 0))
        await sim.client.retry_tasks(part)
        await sim.sleep(60)
        assert (await sim.client.describe(part)).status is WorkflowStatus.COMPLETED
        assert (await sim.client.describe(handle)).status is WorkflowStatus.COMPLETED
        assert await handle.result() == 0


CASE = Case("cars", (Part, Engine, Car), lambda client: asyncio.sleep(0), (Garage,))


def count_reopenings(world: World, name: str, workflow_id: str) -> int:
    _, segments = read_instances(world.database)[StateKey(name, workflow_id)]
    return sum(isinstance(event, Reopened) for event in decode_history(segments))


@pytest.mark.parametrize("hostings", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])
def test_repeats_of_every_message_re_open_nothing_again(hostings: tuple[Callable[..., None], ...]) -> None:
    """S13, S34: also the answers of before the re-opening, which are of an older epoch."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Car).build, 5, 1)
        await fail(handle)
        child = ids.remote_id(handle.workflow_id, 0, 0)
        part = ids.remote_id(child, 0, 0)
        await world.client.retry_tasks(world.client.get_workflow_by_id(Part, part))
        await asyncio.sleep(1.0)
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert await handle.result() == 6
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        found = [("Part", part), ("Engine", child), ("Car", handle.workflow_id)]
        assert [count_reopenings(world, *each) for each in found] == [1, 1, 1]
        assert (await world.client.describe(handle)).status is WorkflowStatus.COMPLETED

    run_scenario(scenario, CASE, *hostings)


def test_an_answer_that_overtakes_the_message_which_re_opens_waits_for_it() -> None:
    """If it were dropped, the parent would be re-opened, and wait for ever."""
    answer = inputs.RemoteSettled(made_at=NOW, position=1, epoch=1, value=Raw(b"2"))
    failed = replace(CLOSED, status=WorkflowStatus.FAILED)
    headers: dict[str, str] = {}
    for count in range(1, 8):
        handling = taken(failed, answer, headers=headers).handling
        assert isinstance(handling, Postpone)
        assert handling.value == str(count)
        headers = {handling.header: handling.value}
    assert taken(failed, answer, headers=headers).handling is None
    assert taken(failed, replace(answer, epoch=0)).handling is None, "nothing was re-opened"


def test_it_waits_for_longer_while_the_custom_id_of_the_parent_is_claimed_again() -> None:
    """The tag engine may be away. When it is back, the parent is re-opened and needs the answer."""
    answer = inputs.RemoteSettled(made_at=NOW, position=1, epoch=1, value=Raw(b"2"))
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, unique=True)
    headers: dict[str, str] = {}
    waited = NOW
    while handling := taken(failed, answer, waited, headers).handling:
        assert isinstance(handling, Postpone)
        waited, headers = handling.at, {handling.header: handling.value}
    assert waited - NOW > 600.0
    completed = replace(failed, status=WorkflowStatus.COMPLETED)
    assert taken(completed, answer, headers={AGAIN: str(len(AGAIN_SECONDS))}).handling is None, "it needs no answer"


def test_a_message_of_an_older_epoch_changes_nothing_if_a_newer_one_has_overtaken_it() -> None:
    """The child has failed twice. A parent must not take its second failure for the last one."""
    newest = inputs.ChildReopened(made_at=NOW, request_id="r4", position=1, epoch=4)
    told = taken(RUNNING, newest).head
    assert told is not None
    assert taken(told, replace(newest, request_id="r3", epoch=3)).head is told
    failure = inputs.RemoteSettled(made_at=NOW, position=1, epoch=3, status=RemoteStatus.FAILED)
    assert taken(told, failure).head is told
