"""S39: broker or storage cannot be reached. Workers wait and recover by themselves; nothing is lost, nothing parked.

Also the short form: a single operation fails, and nobody knows whether it took effect.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic.replay.spec import spec_of
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from tests.simulation.cases import CASES, Case
from tests.simulation.faulty import Hiccup, Outage
from tests.simulation.invariants import check_ended, check_nothing_changed, kept
from tests.simulation.test_power_cuts import cut_points
from tests.simulation.world import Hosting, World, engines, executors, fused, run, stop

MINUTE = 60.0


async def play(case: Case, fence: Fence, hostings: tuple[Hosting, ...] = (fused,)) -> object:
    """Run a scenario with workers whose ports are all behind this fence."""
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}
    world = World()
    async with world.open():
        hosts = list[asyncio.Task[None]]()
        for hosting in hostings:
            worker = world.fenced(fence)
            hosting(worker, case)
            hosts.append(world.start(worker))
        outcome = await case.scenario(world.client)
        await world.settle()
        await check_ended(world, specs)
        before = kept(world.database)
        await world.settle()
        check_nothing_changed(before, kept(world.database))
        assert not world.backlog(), f"something is left: {world.backlog()}"
        assert all(not host.done() for host in hosts), "a worker has ended"
        await stop(hosts)
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


@pytest.mark.parametrize("hostings", [(fused,), (engines, executors)], ids=["fused", "split"])
@pytest.mark.parametrize("what", [("broker",), ("storage",), ("broker", "storage")], ids="+".join)
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

    for at in (0.0, 0.5, 1.5):
        assert run(struck(at)) == expected, f"struck at {at} s"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_worker_may_be_started_while_everything_is_down() -> None:
    case = CASES[0]

    async def main() -> object:
        outage = Outage()
        outage.down = {"broker", "storage"}
        striking = asyncio.create_task(outage.strike(set(), at=0.0, seconds=0.0))
        bringing_back = asyncio.get_running_loop().call_later(MINUTE, outage.down.clear)
        outcome = await play(case, outage)
        await striking
        bringing_back.cancel()
        return outcome

    assert run(main()) == run(play(case, Fence()))
