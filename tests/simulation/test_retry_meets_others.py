"""S34: failed tasks run again while other things happen to the same instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from infinitic import Channel, Client, Workflow, WorkflowFailedError, query
from infinitic.engines import state
from infinitic.messages.events import Partial, Reopened
from infinitic.storage import StateKey
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.scenarios.repairs import Garage
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario

KB = 1000
FUSED = (host_all,)
SPLIT = (host_engines, host_executors)

roles = pytest.mark.parametrize("hostings", [FUSED, SPLIT], ids=["fused", "split"])
caches = pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])


class Scales:
    async def weigh(self, value: str) -> int:
        return len(value)


class Desk(Workflow):
    """One method reads signals, another one fails and is asked for again."""

    garage = Workflow.new_service(Garage)
    scales = Workflow.new_service(Scales)
    go = Channel[int]()

    def __init__(self) -> None:
        self.read = 0

    async def serve(self, count: int) -> int:
        weighed: list[asyncio.Future[int]] = []
        receiver = self.go.receive()
        for _ in range(count):
            size = await receiver
            self.read += 1
            weighed.append(self.dispatch(self.scales.weigh, "x" * size))
        return sum([await each for each in weighed])

    async def mend(self, times: int) -> int:
        return await self.garage.mend(1, times)

    @query
    def count(self) -> int:
        return self.read


async def begin_nothing(client: Client) -> None:
    """The tests start what they need."""


CASE = Case("desk", (Desk,), begin_nothing, (Garage, Scales))


def read_history(world: World, workflow_id: str) -> list[object]:
    _, segments = read_instances(world.database)[StateKey("Desk", workflow_id)]
    return list(decode_history(segments))


def read_head(world: World, workflow_id: str) -> state.WorkflowHead:
    return state.decode(read_instances(world.database)[StateKey("Desk", workflow_id)][0])


@roles
@caches
def test_signals_that_the_code_has_not_seen_yet_are_kept(
    hostings: tuple[Callable[..., None], ...], cache_size: int
) -> None:
    """They do not fit into one activation, and the request comes before the next one."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Desk).serve, 30)
        desk = world.client.get_workflow_by_id(Desk, handle.workflow_id)
        failing = await world.client.dispatch(desk.mend, 1)
        with pytest.raises(WorkflowFailedError):
            await failing.result()
        await world.stop()
        for _ in range(30):
            await desk.go.send(60 * KB)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(desk))
        await world.run_until_idle()
        world.host(CASE, *hostings, cache_size=cache_size)
        await asked
        assert await handle.result() == 30 * 60 * KB
        history = read_history(world, handle.workflow_id)
        assert any(isinstance(event, Partial) for event in history)
        assert sum(isinstance(event, Reopened) for event in history) == 1

    async def main() -> None:
        world = World(ObservedBroker(max_payload=192 * 1024), ObservedDatabase(max_value=1_000_000))
        async with world.open():
            world.host(CASE, *hostings, cache_size=cache_size)
            await world.run_until_idle()
            await scenario(world)

    run(main())


def host_nothing(worker: object, case: Case) -> None:
    """Host nothing: the workers come later."""


def test_a_query_keeps_nobody_from_the_findings_of_a_probe() -> None:
    """Another worker runs the probe, and then a worker with the code takes the instance over."""

    async def scenario(world: World) -> None:
        world.host(CASE, *SPLIT)
        await world.run_until_idle()
        handle = await world.client.dispatch(world.client.new_workflow(Desk).serve, 2)
        desk = world.client.get_workflow_by_id(Desk, handle.workflow_id)
        failing = await world.client.dispatch(desk.mend, 1)
        with pytest.raises(WorkflowFailedError):
            await failing.result()
        await world.stop()
        world.host(CASE, host_engines)
        asked = asyncio.get_running_loop().create_task(world.client.retry_tasks(desk))
        await world.run_until_idle()
        assert read_head(world, handle.workflow_id).probe is not None
        await desk.go.send(1)
        await world.run_until_idle()
        assert read_head(world, handle.workflow_id).pending
        await world.stop()
        world.host(CASE, host_all)
        counted = asyncio.get_running_loop().create_task(world.client.query(desk.count))
        await asyncio.sleep(5.0)
        world.host(CASE, host_executors)
        assert await counted == 1
        await asked
        await desk.go.send(1)
        assert await handle.result() == 2

    run_scenario(scenario, CASE, host_nothing)
