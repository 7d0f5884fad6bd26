"""S39: broker or storage cannot be reached. Workers wait and recover. Nothing is lost or parked.

Also the short form: a single operation fails, and nobody knows whether it took effect.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic import Client
from infinitic.definitions.workflow_spec import spec_of
from infinitic_testing.fences import Fence, FencedTransport
from infinitic_testing.loop import run
from tests.simulation.cases import CASES, CROWD, Case, by_name
from tests.simulation.constellations import cut_points
from tests.simulation.faulty import Hiccup, Outage
from tests.simulation.invariants import check_ended, check_nothing_changed, read_instances
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors, run_scenario

MINUTE = 70.0
"""Seconds: longer than a message may fail before its key is parked."""


async def play(case: Case, fence: Fence, hostings: tuple[Hosting, ...] = (host_all,)) -> object:
    """Run a case with workers behind one fence, and check all invariants."""
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}
    world = World()
    async with world.open():
        hosts = world.host(case, *hostings, fence=fence)
        outcome = await case.scenario(world.client)
        await world.settle()
        await check_ended(world, specs)
        before = read_instances(world.database)
        await world.settle()
        check_nothing_changed(before, read_instances(world.database))
        assert not world.backlog(), f"something is left: {world.backlog()}"
        assert all(not host.done() for host in hosts), "a worker has ended"
    return outcome


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done, reply lost"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_single_operation_may_fail(case: Case, late: bool) -> None:
    uncut = Fence()
    expected = run(play(case, uncut))
    for at in cut_points(uncut):
        if uncut.operations[at - 1] == "prepare":
            continue  # below
        hiccup = Hiccup(at, after=late)
        try:
            assert run(play(case, hiccup)) == expected
        except BaseException as error:
            error.add_note(f"Operation {at} of {len(uncut.operations)} failed: {hiccup.operations[at - 1 : at]}")
            raise


@pytest.mark.parametrize("hostings", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])
@pytest.mark.parametrize("what", [("broker",), ("storage",), ("broker", "storage"), ("replies",)], ids="+".join)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_minute_without(
    case: Case, what: tuple[str, ...], hostings: tuple[Hosting, ...], caplog: pytest.LogCaptureFixture
) -> None:
    expected = run(play(case, Fence(), hostings))

    async def struck(at: float) -> object:
        outage = Outage()
        striking = asyncio.create_task(outage.strike(set(what), at=at, seconds=MINUTE))
        outcome = await play(case, outage, hostings)
        await striking
        return outcome

    for at in (0.0, 0.5, 1.5) if case.name != "cleanup" else (0.5, 12.0):  # not so that the cancel comes with the start
        assert run(struck(at)) == expected, f"struck at {at} s"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("what", ["broker", "storage"])
def test_an_outage_and_its_end_are_said_once(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """S39: once by each consumer, however many keys it has in hand."""

    async def main() -> None:
        world, outage = World(), Outage()
        async with world.open():
            worker = world.fenced(outage)
            host_all(worker, CROWD)
            world.start(worker)
            await world.run_until_idle()
            outage.down.add(what)
            asyncio.get_running_loop().call_later(MINUTE, outage.down.clear)
            await asyncio.gather(*(CROWD.scenario(world.client) for _ in range(10)))

    run(main())
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2, said
    assert "work" in said[1]
    assert "again" in said[1]


def test_a_worker_may_be_started_while_everything_is_down() -> None:
    case = CASES[0]

    async def main() -> object:
        outage = Outage()
        outage.down = {"broker", "storage"}
        asyncio.get_running_loop().call_later(MINUTE, outage.down.clear)
        return await play(case, outage)

    assert run(main()) == run(play(case, Fence()))


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done, reply lost"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_single_operation_of_a_client_may_fail(case: Case, late: bool) -> None:
    """A client waits for the broker, as workers do. A message published twice counts once."""

    async def main(fence: Fence) -> object:
        world = World()
        async with world.open():
            world.host(case, host_all)
            async with Client(FencedTransport(world.connect(), fence), name="shaken", clock=world.clock) as client:
                outcome = await case.scenario(client)
            await world.settle()
            await check_ended(world, {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows})
        return outcome

    uncut = Fence()
    expected = run(main(uncut))
    for at, operation in enumerate(uncut.operations, 1):
        if operation.startswith("ack") or (late and operation.startswith("subscribe")):
            continue  # the first is below; the second would leave a subscription that nobody has
        try:
            assert run(main(Hiccup(at, after=late))) == expected
        except BaseException as error:
            error.add_note(f"Operation {at} of {len(uncut.operations)} failed: {operation}")
            raise


def test_a_client_whose_acknowledgement_fails_hears_what_comes_next() -> None:
    """S39: it goes on receiving."""

    async def scenario(world: World) -> None:
        outage = Outage()
        shaken = Client(FencedTransport(world.connect(), outage), name="shaken", clock=world.clock)
        async with shaken as client:
            outage.fail_next("ack")
            first = await CASES[0].scenario(client)
            async with asyncio.timeout(MINUTE):
                assert await CASES[0].scenario(client) == first

    run_scenario(scenario, CASES[0])


@pytest.mark.parametrize("hostings", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])
def test_a_cancel_that_comes_with_the_start_ends_the_workflow(hostings: tuple[Hosting, ...]) -> None:
    """S35: start and cancellation wait in one batch, so not one line of the method runs."""
    case = by_name("cleanup")

    async def main() -> object:
        outage = Outage()
        outage.down.add("broker")
        asyncio.get_running_loop().call_later(MINUTE, outage.down.clear)
        return await play(case, outage, hostings)

    assert run(main()) == "cancelled"
