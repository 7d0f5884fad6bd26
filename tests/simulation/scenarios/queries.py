"""Queries while everything else happens: they are answered, and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from infinitic import (
    Channel,
    QueryFailedError,
    Workflow,
    WorkflowHandle,
    WorkflowUnknownError,
    query,
    workflow,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw


class Ledger(Workflow):
    """Adds up what comes, with a task for each sum, and tells how far it is."""

    office = Workflow.new_service(Office)
    sums = Channel[int]()
    total: int = 0

    def __init__(self) -> None:
        self.taken = list[int]()

    async def keep(self, number: int) -> int:
        for _ in range(number):
            amount, drawn = await self.sums.receive(), self.inline(draw)
            self.taken.append(amount)
            self.total += await self.office.add(amount, drawn) - drawn
        return self.total

    async def double(self) -> int:
        self.total *= 2
        return self.total

    @query
    def read(self, *, least: int = 0) -> tuple[int, list[int]]:
        return max(self.total, least), list(self.taken)

    @query
    def spoil(self) -> int:
        self.taken.append(-1)
        self.total += 1000
        return self.total

    @query
    def call(self) -> None:
        self.dispatch(self.office.add, 1, 1)


@workflow(name="Ledger", version=1)
class NewLedger(Ledger):
    """A version with the same code, which some workers may lack."""


async def find_failure(asking: Awaitable[object]) -> str:
    """Return why a query has no answer; empty: it has one."""
    try:
        await asking
    except (QueryFailedError, WorkflowUnknownError) as error:
        return str(error)
    return ""


async def simulate_queries(sim: Simulation) -> object:
    """Each answer knows the signal that was confirmed before. Answers never go back (S26)."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Ledger, NewLedger, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Ledger).keep, 8) for _ in range(4)]

    async def ask(handle: WorkflowHandle[int]) -> int:
        ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)
        last = 0
        for number in range(8):
            await ledger.sums.send(number, confirm=True)
            total, taken = await sim.client.query(ledger.read)
            assert taken == list(range(len(taken))), "nothing is lost, and in order"
            assert total >= last, "a later answer is not older"
            last = total
        total = await handle.result()
        # Of a closed instance, while its history is kept.
        assert await sim.client.query(ledger.read, least=3) == (total, list(range(8)))
        return total

    return await asyncio.gather(*map(ask, handles))


async def simulate_bad_queries(sim: Simulation) -> object:
    """Queries that change the workflow, or ask for something, are refused, and change nothing."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Ledger, NewLedger, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).keep, 8)
    ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)

    async def ask_badly() -> int:
        failed = 0
        for _ in range(4):
            for bad in (ledger.spoil, ledger.call):
                failed += "must only read" in await find_failure(sim.client.query(bad))
            await sim.sleep(0.2)
        return failed

    asking = asyncio.ensure_future(ask_badly())
    for number in range(8):
        await ledger.sums.send(number)
        await sim.sleep(0.05)
    assert await asking == 8
    assert (await sim.client.query(ledger.read))[1].count(-1) == 0
    return await handle.result()


async def simulate_many_queries(sim: Simulation) -> object:
    """Twenty clients ask at once, while methods and signals come; also before the start."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Ledger, NewLedger, retention=KEPT)
    unknown = sim.client.get_workflow_by_id(Ledger, "nobody")
    assert "is unknown" in await find_failure(sim.client.query(unknown.read))
    handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).keep, 6)
    ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)
    asked = [sim.client.query(ledger.read) for _ in range(10)]
    sent = [ledger.sums.send(5) for _ in range(6)]
    again = [sim.client.query(ledger.read) for _ in range(10)]
    answers = await asyncio.gather(*asked, *again, *sent)
    for answer in answers[:20]:
        assert answer is not None
        assert answer[0] <= 30, answer
    return await handle.result()
