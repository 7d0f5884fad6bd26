"""The workflows of the simulations, on real servers: they end as in virtual time.

They run on one worker and on three. Those that sleep for days, or wait for a slow task that nobody
wants now, are left to the simulations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench import servers
from infinitic import Client, Worker, ids
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.integration.stack import DATABASES, need
from tests.simulation.cases import CASES, CROWD, Case
from tests.simulation.constellations import REPLACED, play as simulated
from tests.simulation.world import Hosting, host_all, host_executors, host_services

LONG = {"timers", "approval", "cleanup"}
SHORT = [case for case in (*CASES, CROWD) if case.name not in LONG]

WHOLE = Case(
    "all of them",
    tuple({workflow: None for case in SHORT for workflow in case.workflows}),
    CROWD.scenario,
    CROWD.services,
)


def engines_alone(worker: Worker, case: Case) -> None:
    """The state engines and tag engines of a case, and nothing else."""
    for workflow in case.workflows:
        worker.add_workflow_state_engine(workflow)
        worker.add_workflow_tag_engine(workflow)


ROLES: dict[str, Sequence[Hosting]] = {
    "one worker": [host_all],
    "two workers": [host_all, host_all],
    "three roles, two of each": [host_services, engines_alone, host_executors] * 2,
}


@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize("database", DATABASES)
def test_they_have_their_outcomes(database: str, roles: str, tmp_path: Path) -> None:
    need(database)
    label = f"test_{ids.new_id()[:8]}"

    async def play() -> dict[str, object]:
        async with AsyncExitStack() as stack:
            for host in ROLES[roles]:
                transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
                storage = await stack.enter_async_context(servers.storage(database, label, tmp_path))
                worker = Worker(transport, storage)
                host(worker, WHOLE)
                await stack.enter_async_context(worker.running())
            transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
            client = await stack.enter_async_context(Client(transport))
            async with asyncio.timeout(60):
                outcomes = await asyncio.gather(*(case.scenario(client) for case in SHORT))
        return {case.name: outcome for case, outcome in zip(SHORT, outcomes, strict=True)}

    assert asyncio.run(play()) == {case.name: run(simulated(case, REPLACED, Fence())) for case in SHORT}
