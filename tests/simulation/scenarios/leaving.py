"""What goes on when nobody waits: fire and forget, cancellation, clients that come and go."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec import Raw

from infinitic import (
    Channel,
    Client,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowStatus,
    WorkflowUnknownError,
    topics,
)
from infinitic.messages import engine
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, VERY_LONG, Ledger, Office, wait_for


class Postman(Workflow):
    ledger = Workflow.new_service(Ledger)

    async def run(self, number: int) -> str:
        for each in range(number):
            self.dispatch(self.ledger.book, f"letter {each}")
        return "sent"


async def simulate_fire_and_forget(sim: Simulation) -> object:
    """A method returns at once, and its tasks run all the same. Then the instance closes."""
    ledger = Ledger()
    sim.add_service(ledger)
    sim.add_workflow(Postman)
    handle = await sim.client.dispatch(sim.client.new_workflow(Postman).run, 6)
    result = await handle.result()
    await wait_for(lambda: len(ledger.tasks) == 6)
    return [result, sorted(ledger.tasks), [ledger.count(entry) for entry in ledger.tasks]]


class Rental(Workflow):
    office = Workflow.new_service(Office)
    ledger = Workflow.new_service(Ledger)

    async def rent(self, name: str) -> str:
        try:
            await self.ledger.book(f"{name} taken")
            await asyncio.sleep(3.0)
            await self.office.wait(1, 3.0)
            await self.ledger.book(f"{name} used")
        finally:
            await self.ledger.book(f"{name} returned")
        return name


async def simulate_cancel(sim: Simulation) -> object:
    """Instances are cancelled at any instant. Each one that has begun cleans up once."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Rental, retention=KEPT)
    instants = (0.0, 0.0, 0.001, 0.01, 0.05, 0.2, 1.0, 2.999, 3.0, 3.001, 4.0, 5.999, 6.0, 6.001, 7.0)
    ends = await asyncio.gather(
        *(_cancel(sim, ledger, f"car {number}", after) for number, after in enumerate(instants))
    )
    assert set(ends) <= {"cancelled", "completed"}
    return len(ends)


async def _cancel(sim: Simulation, ledger: Ledger, name: str, after: float) -> str:
    handle = await sim.client.dispatch(sim.client.new_workflow(Rental).rent, name)
    await sim.sleep(after)
    with suppress(WorkflowUnknownError):
        await sim.client.cancel(handle, confirm=after < 1.0)
    try:
        assert await handle.result() == name
    except WorkflowCanceledError:
        end = "cancelled"
    else:
        end = "completed"
        assert ledger.count(f"{name} used") == 1, f"{name} was not used, and completed"
    # If it was cancelled before its code began, there was nothing to clean up.
    assert ledger.count(f"{name} returned") == 1 or ledger.count(f"{name} taken") == 0, ledger.tasks
    assert max(map(len, ledger.tasks.values()), default=0) <= 1, f"booked by two tasks: {ledger.tasks}"
    return end


async def simulate_clients_come_and_go(sim: Simulation) -> object:
    """Clients start instances and leave. Others ask for the results, before and after the end."""
    sim.add_service(Office)
    sim.add_workflow(Slow, retention=KEPT)
    first_ids = sim.choices.make_ids("first")
    async with Client(sim.transport, name="first", clock=sim.clock, make_id=first_ids) as first:
        handle = await first.dispatch(first.new_workflow(Slow).run, 20.0)
        waiting = asyncio.ensure_future(handle.result())
        with suppress(TimeoutError):
            await handle.result(timeout=0.5)
    with suppress(UsageError):
        await waiting
    results = list[int]()
    for number in range(3):
        async with Client(sim.transport, name=f"second-{number}", clock=sim.clock) as second:
            again = second.get_handle(Slow.run, handle.workflow_id)
            results += await asyncio.gather(again.result(), again.result())
    return [*results, await sim.client.get_handle(Slow.run, handle.workflow_id).result()]


class Slow(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, seconds: float) -> int:
        return await self.office.wait(await self.office.add(1, 2), seconds)


class Counter(Workflow):
    ledger = Workflow.new_service(Ledger)
    ticks = Channel[int]()

    async def count(self, number: int) -> list[int]:
        await self.ledger.book("started")
        heard = [await self.ticks.receive() for _ in range(number)]
        await self.ledger.book("ended")
        return heard


async def simulate_duplicates_of_requests(sim: Simulation) -> object:
    """Each request of a client comes three times, also after its instance has closed."""
    ledger = Ledger()
    sim.add_service(ledger)
    sim.add_workflow(Counter, retention=KEPT)
    topic, now = topics.workflow_engine("Counter"), sim.clock.now()
    handle = sim.client.get_handle(Counter.count, "the-counter")
    start = engine.Start(made_at=now, method="count", arguments=Raw(b"[5]"))
    ticks = [
        engine.Signal(made_at=now, signal_id=f"tick-{number}", channel="ticks", value=Raw(b"%d" % number))
        for number in range(5)
    ]
    requests = [Message(handle.workflow_id, handle.workflow_id, engine.encode(each)) for each in (start, *ticks)]
    await sim.transport.declare([topic])
    for request in requests:
        for _ in range(3):
            await sim.transport.publish(topic, [request])
    heard = await handle.result()
    for request in requests:
        await sim.transport.publish(topic, [request])
    await sim.sleep(60.0)
    return [sorted(heard), ledger.count("started"), ledger.count("ended")]


async def simulate_asking(sim: Simulation) -> object:
    """A client asks about an instance while it runs and when it has closed."""
    sim.add_service(Office)
    sim.add_workflow(Slow, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Slow).run, VERY_LONG)
    is_waiting = False
    while not is_waiting:
        await sim.sleep(1.0)
        with suppress(WorkflowUnknownError):
            is_waiting = (await sim.client.describe(handle)).open_tasks > 0
    await sim.client.cancel(handle, confirm=True)
    with suppress(WorkflowCanceledError):
        await handle.result()
    # A method answers when it ends. The instance may close a little later.
    while (info := await sim.client.describe(handle)).status is WorkflowStatus.RUNNING:
        await sim.sleep(1.0)
    return info.status is WorkflowStatus.CANCELED
