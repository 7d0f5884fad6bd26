"""A broker that refuses all rights for a while: workers wait, and no instance stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from infinitic import Worker
from infinitic.errors import TransportError
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.cases import CASES, Case
from tests.simulation.world import RETENTION, Hosting, World, host_executors, host_services

T = TypeVar("T")


class Refusing(Fence):
    """Publishes are refused for a while. Waiting mends it, and the error does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(operation)
        if self.refuses and operation.startswith("publish"):
            raise TransportError("Publishing failed: AuthorizationError")
        return await call()

    async def strike(self, at: float) -> None:
        await asyncio.sleep(at)
        self.refuses = True
        await asyncio.sleep(90.0)
        self.refuses = False


def host_workflows(worker: Worker, case: Case) -> None:
    for workflow in case.workflows:
        worker.add_workflow(workflow, retention=RETENTION)


def host_state_engines(worker: Worker, case: Case) -> None:
    for workflow in case.workflows:
        worker.add_workflow_state_engine(workflow)


async def play(case: Case, fence: Fence, hostings: tuple[Hosting, ...]) -> object:
    """Run a case with workers behind one fence. Its services are not behind it."""
    world = World()
    async with world.open():
        hosts = world.host(case, *hostings, fence=fence)
        world.host(case, host_services)
        outcome = await case.scenario(world.client)
        await world.settle()
        assert not world.backlog(), f"something is left: {world.backlog()}"
        assert all(not host.done() for host in hosts), "a worker has ended"
    return outcome


@pytest.mark.parametrize("hostings", [(host_workflows,), (host_state_engines, host_executors)], ids=["fused", "split"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broker_that_refuses_all_for_a_while(case: Case, hostings: tuple[Hosting, ...]) -> None:
    expected = run(play(case, Fence(), hostings))

    async def struck(at: float) -> object:
        refusing = Refusing()
        striking = asyncio.create_task(refusing.strike(at))
        outcome = await play(case, refusing, hostings)
        await striking
        return outcome

    for at in (0.0, 0.5, 1.5) if case.name != "cleanup" else (0.5, 12.0):
        assert run(struck(at)) == expected, f"struck at {at} s"
