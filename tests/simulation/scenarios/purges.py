"""Instances whose retention ends while the run goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec import Raw

from infinitic import RequestRefusedError, Workflow, WorkflowHandle, WorkflowUnknownError, topics
from infinitic.messages import engine
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Ledger, Office, wait_for


class Brief(Workflow):
    ledger = Workflow.new_service(Ledger)

    async def run(self, name: str) -> str:
        return await self.ledger.book(name)


class Lasting(Workflow):
    """Runs for hours, while others are purged."""

    office = Workflow.new_service(Office)

    async def run(self, hours: int) -> int:
        done = 0
        for _ in range(hours):
            await asyncio.sleep(3600.0)
            done = await self.office.add(done, 1)
        return done


async def simulate_purges(sim: Simulation) -> object:
    """Closed instances vanish after a second. What runs stays, and an old start starts nothing."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Brief, retention=1.0)
    sim.add_workflow(Lasting, retention=1.0)
    topic, now = topics.workflow_engine("Brief"), sim.clock.now()
    names = [f"brief-{number}" for number in range(5)]
    starts = [
        Message(
            name, name, engine.encode(engine.Start(made_at=now, method="run", arguments=Raw(b'["%b"]' % name.encode())))
        )
        for name in names
    ]
    await sim.transport.declare([topic])
    await sim.transport.publish(topic, starts)
    lasting = asyncio.ensure_future(sim.client.new_workflow(Lasting).run(5))
    await wait_for(lambda: len(ledger.tasks) == len(names))
    for _ in range(3):
        await sim.sleep(4000.0)
        await sim.transport.publish(topic, starts)
    hours = await lasting
    if sim.choices.happens("workload/old starts", 0.3):
        # So late that nobody knows any more whether they were taken.
        await sim.sleep(sim.storage.capabilities.deduplication_window + 8000.0)
        await sim.transport.publish(topic, starts)
        await sim.sleep(60.0)
    with suppress(WorkflowUnknownError):
        await sim.client.get_handle(Brief.run, names[0]).result()
    return [hours, [ledger.count(name) for name in names]]


async def simulate_deletes(sim: Simulation) -> object:
    """Somebody deletes closed instances, also ones that still run. The others stay."""
    ledger = Ledger()
    sim.add_service(ledger)
    sim.add_workflow(Brief, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Brief).run, f"note-{each}") for each in range(6)]
    await asyncio.gather(*(_delete(sim, handle) for handle in handles[::2]))
    # A purge that fails is done within the hour.
    await sim.sleep(4000.0)
    found: list[bool] = []
    for handle in handles:
        try:
            await sim.client.describe(handle)
            found.append(True)
        except WorkflowUnknownError:
            found.append(False)
    outcomes = [await handle.result() for handle in handles[1::2]]
    return [found, outcomes, [ledger.count(f"note-{each}") for each in range(6)]]


async def _delete(sim: Simulation, handle: WorkflowHandle[str]) -> None:
    """Delete an instance as soon as it has closed."""
    while True:
        try:
            await sim.client.delete(handle)
            return
        except RequestRefusedError:
            await sim.sleep(0.5)
        except WorkflowUnknownError:
            # The answer to an earlier request was lost.
            return
