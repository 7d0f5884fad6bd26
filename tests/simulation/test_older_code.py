"""Old code meets a history that newer code has written (S18, S41): it leaves that to newer code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from infinitic import Channel, Client, Worker, Workflow, workflow
from tests.simulation.cases import Case
from tests.simulation.scenarios.services import Ledger
from tests.simulation.test_late_children import host_nothing
from tests.simulation.world import RETENTION, World, run_scenario, stop


@workflow(name="Trip")
class OldTrip(Workflow):
    ledger = Workflow.new_service(Ledger)
    words = Channel[str]()

    async def run(self) -> list[str]:
        words = [await self.words.receive()]
        await self.ledger.book("hotel")
        words.append(await self.words.receive())
        return words


@workflow(name="Trip")
class NewTrip(Workflow):
    ledger = Workflow.new_service(Ledger)
    words = Channel[str]()

    async def run(self) -> list[str]:
        words = [await self.words.receive()]
        if self.patched("insurance"):
            await self.timer(1)
        await self.ledger.book("hotel")
        words.append(await self.words.receive())
        return words


async def begin_nothing(client: Client) -> None:
    """The tests start what they need."""


CASE = Case("trip", (), begin_nothing, (Ledger,))
Hosting = Callable[[Worker, Case], None]


def host(code: type[Workflow], *roles: str) -> Hosting:
    def host_roles(worker: Worker, case: Case) -> None:
        if "services" in roles:
            worker.add_service(Ledger())
        if "all" in roles:
            worker.add_workflow(code, retention=RETENTION)
        if "engine" in roles:
            worker.add_workflow_state_engine("Trip", retention=RETENTION)
        if "executor" in roles:
            worker.add_workflow_executor(code, retention=RETENTION)

    return host_roles


FUSED = ("all",)
SPLIT = ("engine", "executor")
roles = pytest.mark.parametrize("roles", [FUSED, SPLIT], ids=["fused", "split"])


async def begin_with_new_code(world: World, roles: tuple[str, ...]) -> tuple[str, OldTrip]:
    """Have new code take the change, and then leave."""
    world.host(CASE, host(NewTrip, "services", *roles))
    await world.run_until_idle()
    trip = await world.client.dispatch(world.client.new_workflow(OldTrip).run)
    stub = world.client.get_workflow_by_id(OldTrip, trip.workflow_id)
    await stub.words.send("a", confirm=True)
    await asyncio.sleep(10.0)
    await world.stop()
    return trip.workflow_id, stub


@roles
def test_S18_old_code_leaves_an_instance_to_newer_code(
    roles: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A worker with newer code comes some minutes later, and that with old code goes."""

    async def scenario(world: World) -> None:
        workflow_id, stub = await begin_with_new_code(world, roles)
        world.host(CASE, host(OldTrip, "services", *roles))
        await stub.words.send("b", confirm=True)
        await asyncio.sleep(300.0)
        info = await world.client.describe(stub)
        assert (info.status, info.stalled) == ("running", None)
        await world.stop()
        world.host(CASE, host(NewTrip, "services", *roles))
        assert await world.client.get_handle(OldTrip.run, workflow_id).result() == ["a", "b"]

    with caplog.at_level(logging.WARNING):
        run_scenario(scenario, CASE, host_nothing)
    told = [each for each in caplog.messages if "'insurance'" in each]
    assert "wait 10 minutes for a worker with newer code" in told[0]


@roles
def test_S18_old_code_alone_stalls_in_the_end(roles: tuple[str, ...]) -> None:
    """Or nobody would ever see that it does not fit."""

    async def scenario(world: World) -> None:
        workflow_id, stub = await begin_with_new_code(world, roles)
        world.host(CASE, host(OldTrip, "services", *roles))
        await stub.words.send("b", confirm=True)
        await asyncio.sleep(900.0)
        stalled = (await world.client.describe(stub)).stalled
        assert stalled is not None
        assert "asks for" in stalled
        await world.stop()
        world.host(CASE, host(NewTrip, "services", *roles))
        await world.client.retry_workflow_task(stub, confirm=True)
        assert await world.client.get_handle(OldTrip.run, workflow_id).result() == ["a", "b"]

    run_scenario(scenario, CASE, host_nothing)


@roles
def test_S18_old_and_new_code_side_by_side_end_everything(roles: tuple[str, ...]) -> None:
    """As while a new release is deployed: in the end, workers with the old code are stopped."""

    async def scenario(world: World) -> None:
        begun = [await begin_with_new_code(world, roles) for _ in range(8)]
        old = world.host(CASE, host(OldTrip, "services", *roles))
        world.host(CASE, host(NewTrip, "services", *roles))
        await world.run_until_idle()
        for _, stub in begun:
            await stub.words.send("b")
        await asyncio.sleep(100.0)
        for _, stub in begun:
            assert (await world.client.describe(stub)).stalled is None
        await stop(old)
        for workflow_id, _ in begun:
            assert await world.client.get_handle(OldTrip.run, workflow_id).result() == ["a", "b"]

    run_scenario(scenario, CASE, host_nothing)
