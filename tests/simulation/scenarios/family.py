"""Instances that start, call, signal and cancel one another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infinitic import (
    Channel,
    Deferred,
    DeferredError,
    TaskFailedError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowTimedOutError,
    WorkflowUnknownError,
    ids,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office


class Tree(Workflow):
    office = Workflow.new_service(Office)

    async def grow(self, depth: int, width: int) -> int:
        if depth == 0:
            return await self.office.add(1, 0)
        tree = self.new_workflow(Tree)
        first = self.dispatch(tree.grow, depth - 1, width)
        others = await asyncio.gather(*(tree.grow(depth - 1, width) for _ in range(width - 1)))
        return await self.office.add(await first, sum(others))


async def simulate_tree(sim: Simulation) -> object:
    """A tree of children three deep, each of which runs tasks."""
    sim.add_service(Office)
    sim.add_workflow(Tree)
    return await sim.client.new_workflow(Tree).grow(3, 3)


class Leaf(Workflow):
    office = Workflow.new_service(Office)

    async def fall(self, how: str) -> int:
        if how == "task":
            return await self.office.fail(7)
        if how == "raise":
            raise LookupError("no leaf")
        return await self.office.add(len(how), 0)


class Branch(Workflow):
    leaf = Workflow.new_workflow(Leaf)

    async def shake(self, how: str) -> int:
        return await self.leaf.fall(how)


class Root(Workflow):
    branch = Workflow.new_workflow(Branch)

    async def storm(self) -> list[object]:
        seen: list[object] = []
        for how in ("task", "raise", "stay"):
            try:
                seen.append(await self.branch.shake(how))
            except WorkflowFailedError as error:
                seen.append(list_causes(error))
        # Nobody awaits this one: its failure fails nothing.
        self.dispatch(self.branch.shake, "raise")
        return seen


def list_causes(error: WorkflowFailedError) -> list[str]:
    """The chain of errors, from the outermost one to the exception at the bottom."""
    names = list[str]()
    cause: DeferredError | None = error
    while cause is not None:
        match cause:
            case WorkflowFailedError():
                names.append(f"{cause.workflow_name}.{cause.method_name}: {cause.failure.short_name}")
                cause = cause.cause
            case TaskFailedError():
                names.append(f"{cause.method_name}: {cause.last_failure.exception.short_name}")
                cause = None
            case _:
                names.append(type(cause).__name__)
                cause = None
    return names


async def simulate_failing_children(sim: Simulation) -> object:
    """Children of children fail, and the parent sees the whole chain of causes."""
    sim.add_service(Office)
    sim.add_workflow(Leaf)
    sim.add_workflow(Branch)
    sim.add_workflow(Root)
    return await sim.client.new_workflow(Root).storm()


class Shop(Workflow):
    office = Workflow.new_service(Office)
    orders = Channel[int]()

    def __init__(self) -> None:
        self.total = 0
        self.seen = list[int]()

    async def open(self, number: int) -> list[int]:
        async for order in self.orders.receive(limit=number):
            self.seen.append(order)
        return self.seen

    async def count(self, add: int) -> int:
        self.total = await self.office.add(self.total, add)
        return self.total


class Buyer(Workflow):
    shops = Workflow.new_workflow(Shop)

    async def buy(self, number: int) -> list[object]:
        opened = self.dispatch(self.shops.open, number)
        shop = self.get_workflow_by_id(Shop, opened.id)
        for order in range(number):
            await shop.orders.send(order)
        # A broker that loses the order of a key is one of the faults.
        seen = sorted(await opened)
        with suppress(WorkflowUnknownError):
            await shop.count(1)
            return ["known"]
        return [*seen, "unknown"]


async def simulate_signals_to_children(sim: Simulation) -> object:
    """A parent signals its child at once: the order stays. Later the child is unknown."""
    sim.add_service(Office)
    sim.add_workflow(Shop)
    sim.add_workflow(Buyer)
    return await asyncio.gather(*(sim.client.new_workflow(Buyer).buy(number) for number in (1, 5, 12)))


class Caller(Workflow):
    async def call(self, workflow_id: str, times: int) -> int:
        shop = self.get_workflow_by_id(Shop, workflow_id)
        for _ in range(times):
            await shop.count(1)
        await shop.orders.send(times)
        return times


async def simulate_calls_between_instances(sim: Simulation) -> object:
    """Many instances call the methods of one, and signal it."""
    sim.add_service(Office)
    sim.add_workflow(Shop, retention=KEPT)
    sim.add_workflow(Caller)
    shop = await sim.client.dispatch(sim.client.new_workflow(Shop).open, 5)
    new = sim.client.new_workflow(Caller)
    called = await asyncio.gather(*(new.call(shop.workflow_id, times) for times in range(1, 6)))
    return [called, sorted(await shop.result())]


class Sleeper(Workflow):
    awake = Channel[int]()

    async def sleep(self) -> int:
        return await self.awake.receive()


class Nest(Workflow):
    sleeper = Workflow.new_workflow(Sleeper)

    async def keep(self, number: int) -> list[int]:
        sleepers: list[Deferred[int]] = []
        for _ in range(number):
            sleepers.append(self.dispatch(self.sleeper.sleep))
            await asyncio.sleep(0.2)
        return list(await asyncio.gather(*sleepers))


class House(Workflow):
    nest = Workflow.new_workflow(Nest)

    async def keep(self, number: int) -> list[int]:
        return await self.nest.keep(number)


async def _wait_for_end(sim: Simulation, workflow: type[Workflow], workflow_id: str) -> None:
    while True:
        try:
            info = await sim.client.describe(sim.client.get_workflow_by_id(workflow, workflow_id))
        except WorkflowUnknownError:
            return
        if info.closed_at is not None:
            return
        await asyncio.sleep(1.0)


async def simulate_cancel_of_parents(sim: Simulation) -> object:
    """Parents are cancelled at several instants. Their children and grandchildren end, too."""
    sim.add_workflow(Sleeper, retention=KEPT)
    sim.add_workflow(Nest, retention=KEPT)
    sim.add_workflow(House, retention=KEPT)
    ended = list[str]()
    for turn in range(5):
        handle = await sim.client.dispatch(sim.client.new_workflow(House).keep, 4)
        await asyncio.sleep(0.35 * turn)
        await sim.client.cancel(handle)
        try:
            await handle.result()
        except WorkflowCanceledError:
            nest = ids.remote_id(handle.workflow_id, 0, 0)
            sleepers = [ids.remote_id(nest, 0, position) for position in range(12)]
            for workflow, workflow_id in [(Nest, nest), *((Sleeper, each) for each in sleepers)]:
                await _wait_for_end(sim, workflow, workflow_id)
            ended.append("all ended")
    return ended


class Impatient(Workflow):
    slow = Workflow.new_workflow(Sleeper, total_timeout=5.0)

    async def run(self) -> list[str]:
        seen = list[str]()
        first = self.dispatch(self.slow.sleep)
        second = self.dispatch(self.new_workflow(Sleeper).sleep)
        try:
            await first
        except WorkflowTimedOutError as error:
            seen.append(type(error).__name__)
        second.cancel()
        try:
            await second
        except WorkflowCanceledError as error:
            seen.append(type(error).__name__)
        try:
            async with asyncio.timeout(3.0):
                await self.new_workflow(Sleeper).sleep()
        except TimeoutError:
            seen.append("TimeoutError")
        return seen


async def simulate_children_given_up(sim: Simulation) -> object:
    """Children time out, are cancelled, or nobody awaits them any more. All of them end."""
    sim.add_workflow(Sleeper, retention=KEPT)
    sim.add_workflow(Impatient, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Impatient).run)
    seen = await handle.result()
    for position in range(5):
        await _wait_for_end(sim, Sleeper, ids.remote_id(handle.workflow_id, 0, position))
    return seen


class Till(Workflow):
    items = Channel[int]()

    async def fill(self, number: int) -> int:
        for _ in range(number):
            await self.items.receive()
        return number

    async def look(self, number: int) -> int:
        return number


class Cashier(Workflow):
    till = Workflow.new_workflow(Till, custom_id="till", tags={"tills"})

    async def work(self, number: int) -> int:
        return await self.till.fill(number)

    async def put(self) -> None:
        await self.get_workflow_by_custom_id(Till, "till").items.send(1)

    async def look(self, number: int) -> int:
        try:
            return await self.get_workflow_by_custom_id(Till, "till").look(number)
        except WorkflowUnknownError:
            return 0

    async def tell_all(self) -> None:
        await self.get_workflow_by_tag(Till, "tills").items.send(1)


async def _has_holder(sim: Simulation) -> bool:
    return bool(await sim.client.get_ids(sim.client.get_workflow_by_tag(Till, "tills")))


async def _wait_for_holder(sim: Simulation, *, wanted: bool) -> None:
    while True:
        if await _has_holder(sim) is wanted:
            return
        await asyncio.sleep(1.0)


async def _fill(sim: Simulation, handles: list[WorkflowHandle[int]]) -> list[int]:
    """Put items into whatever till is there, until all have their result.

    Whoever comes late has a till of its own.
    """
    results = asyncio.gather(*(handle.result() for handle in handles))
    while not results.done():
        new = sim.client.new_workflow(Cashier)
        await new.put()
        await new.tell_all()
        await asyncio.wait([results], timeout=20.0)
    return list(await results)


async def simulate_children_with_a_custom_id(sim: Simulation) -> object:
    """Parents want a child with the same custom id: one is started, and all get its result."""
    sim.add_workflow(Till, retention=KEPT)
    sim.add_workflow(Cashier, retention=KEPT)
    client = sim.client
    totals: list[object] = []
    for _ in range(3):
        handles = [await client.dispatch(client.new_workflow(Cashier).work, 3) for _ in range(6)]
        await _wait_for_holder(sim, wanted=True)
        looked = await client.new_workflow(Cashier).look(7)
        totals.append([looked, *await _fill(sim, handles)])
        await _wait_for_holder(sim, wanted=False)
    return [*totals, await client.new_workflow(Cashier).look(7)]


async def simulate_cancel_of_attached_parents(sim: Simulation) -> object:
    """Only the parent that has started the child cancels it."""
    sim.add_workflow(Till, retention=KEPT)
    sim.add_workflow(Cashier, retention=KEPT)
    client = sim.client
    holder = await client.dispatch(client.new_workflow(Till, custom_id="till", tags={"tills"}).fill, 1)
    attached = [await client.dispatch(client.new_workflow(Cashier).work, 1) for _ in range(4)]
    await asyncio.sleep(30.0)
    for handle in attached[:2]:
        await client.cancel(handle)
        with suppress(WorkflowCanceledError):
            await handle.result()
    await asyncio.sleep(30.0)
    await client.get_workflow_by_id(Till, holder.workflow_id).items.send(5)
    seen: list[object] = [await holder.result(), *await _fill(sim, attached[2:])]
    await _wait_for_holder(sim, wanted=False)
    owner = await client.dispatch(client.new_workflow(Cashier).work, 1)
    await _wait_for_holder(sim, wanted=True)
    await client.cancel(owner)
    with suppress(WorkflowCanceledError):
        await owner.result()
    await _wait_for_holder(sim, wanted=False)
    return [*seen, "cancelled"]
