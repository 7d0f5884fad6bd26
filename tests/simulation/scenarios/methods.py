"""Parallel methods of one instance, which share locks, queues, events and attributes."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office


class Account(Workflow):
    office = Workflow.new_service(Office)
    closing = Channel[bool]()

    def __init__(self) -> None:
        self.balance = 0
        self.lock = asyncio.Lock()
        self.opened = asyncio.Event()

    async def open(self, balance: int) -> int:
        self.balance = await self.office.add(balance, 0)
        self.opened.set()
        await self.closing.receive()
        return self.balance

    async def deposit(self, amount: int) -> int:
        await self.opened.wait()
        async with self.lock:
            before = self.balance
            # Without the lock, another method would read the same balance meanwhile.
            self.balance = await self.office.add(before, amount)
        return amount

    async def wait_for(self, balance: int) -> bool:
        await self.wait_until(lambda: self.balance >= balance)
        return True


async def simulate_locks(sim: Simulation) -> object:
    """Methods change one attribute, each under a lock, and others wait for its value."""
    sim.add_service(Office)
    sim.add_workflow(Account, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Account).open, 100)
    account = sim.client.get_workflow_by_id(Account, handle.workflow_id)
    rich = await sim.client.dispatch(account.wait_for, 120)
    amounts = await asyncio.gather(*(account.deposit(amount) for amount in range(12)))
    is_rich = await rich.result()
    await account.closing.send(True, confirm=True)
    return [amounts, is_rich, await handle.result()]


class Factory(Workflow):
    office = Workflow.new_service(Office)

    def __init__(self) -> None:
        self.belt: asyncio.Queue[int] = asyncio.Queue(maxsize=3)
        self.places = asyncio.Semaphore(2)

    async def work(self, parts: int) -> list[int]:
        done = list[int]()
        while len(done) < parts:
            part = await self.belt.get()
            done.append(await self.office.add(part, part) if part % 2 else part * 2)
        return sorted(done)

    async def deliver(self, first: int, parts: int) -> int:
        async with self.places:
            for part in range(first, first + parts):
                await self.belt.put(await self.office.add(part, 0))
        return parts


async def simulate_queues(sim: Simulation) -> object:
    """Methods hand parts to another one through a queue with few places."""
    sim.add_service(Office)
    sim.add_workflow(Factory, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Factory).work, 20)
    factory = sim.client.get_workflow_by_id(Factory, handle.workflow_id)
    delivered = [await sim.client.dispatch(factory.deliver, first, 5) for first in (0, 5, 10, 15)]
    return [await handle.result(), [await each.result() for each in delivered]]
