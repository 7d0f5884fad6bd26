"""Workflows whose code has mistakes, and people who mend it and have it run again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

from infinitic import (
    Channel,
    RequestRefusedError,
    TaskFailedError,
    Workflow,
    WorkflowFailedError,
    WorkflowHandle,
    ids,
    task_context,
)
from infinitic.messages.outcomes import WorkflowStatus
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT

MENDED: Counter[str] = Counter()
"""How many mistakes in the code of an instance are mended: in place of a new deployment."""
HOUR = 3_600.0


class Oven:
    """Tasks that tell when they run, and one that fails."""

    async def bake(self, value: int) -> int:
        await asyncio.sleep(0.2)
        return value

    async def roast(self, value: int) -> int:
        await asyncio.sleep(2.0)
        return value

    async def weigh(self, text: str) -> int:
        return len(text)

    async def burn(self, value: int) -> int:
        raise LookupError(f"{value} is burnt, attempt {task_context().retry_sequence}")


class Bakery(Workflow):
    oven = Workflow.new_service(Oven)

    def mistake(self, number: int = 1) -> None:
        """Raise unless somebody has mended it."""
        if MENDED[self.context.workflow_id] < number:
            raise ValueError(f"mistake {number}")

    async def in_order(self) -> list[int]:
        """Two mistakes, one after the other. The second one is found by mending the first."""
        found = [await self.oven.bake(1)]
        self.mistake(1)
        found.append(await self.oven.bake(2))
        found.append(self.inline(lambda: 3))
        self.mistake(2)
        return [*found, await self.oven.bake(4)]

    async def at_once(self) -> int:
        """It fails before it has asked for anything."""
        self.mistake()
        return await self.oven.bake(1)

    async def in_time(self) -> list[int]:
        """The failure cancels a timer, which is set again."""
        async with asyncio.timeout(86_400.0):
            found = await self.oven.bake(1)
            self.mistake()
            return [found, await self.oven.bake(2)]

    async def in_a_group(self) -> list[int]:
        """The failure cancels tasks, which are asked for again."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self.oven.bake(value)) for value in range(2, 6)]
            first = group.create_task(self._careless())
        return [first.result(), *(each.result() for each in others)]

    async def _careless(self) -> int:
        self.inline(lambda: 0)
        self.mistake()
        return await self.oven.bake(1)

    async def with_others(self) -> list[int]:
        """Results come after the failure, in activations of their own."""
        others = [self.dispatch(self.oven.bake, value) for value in range(2, 6)]
        found = await self.oven.bake(1)
        self.mistake()
        return [found, *[await each for each in others], await self.oven.bake(6)]

    async def with_care(self) -> list[int]:
        """A task has failed, and mended code deals with that."""
        try:
            return [await self.oven.burn(1)]
        except TaskFailedError:
            self.mistake()
            return [await self.oven.bake(1)]

    async def with_a_change(self) -> list[int]:
        """A change is asked for where the failure was."""
        found = await self.oven.bake(1)
        if MENDED[self.context.workflow_id] and self.patched("mended"):
            return [found, await self.oven.bake(2)]
        raise ValueError("not mended")

    async def slowly(self) -> list[int]:
        """It is mended while a task is open."""
        slow = self.dispatch(self.oven.roast, 2)
        found = await self.oven.bake(1)
        self.mistake()
        return [found, await slow]

    async def waits(self) -> None:
        """It does nothing, for long."""
        await asyncio.sleep(864_000.0)


SHAPES = ("in_order", "at_once", "in_time", "in_a_group", "with_others", "with_care", "with_a_change")
RESULTS = [[1, 2, 3, 4], 1, [1, 2], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [1], [1, 2]]


async def mend(sim: Simulation, handle: WorkflowHandle[Any], most: int = 30) -> Any:
    """Mend one mistake after the other, until the workflow succeeds. Returns its result."""
    for _ in range(most):
        try:
            return await handle.result()
        except WorkflowFailedError:
            await wait_until_closed(sim, handle)
            MENDED[handle.workflow_id] += 1
            await ask(sim, handle)
    raise AssertionError(f"it has failed {most} times")


async def wait_until_closed(sim: Simulation, target: object) -> None:
    """Wait for what its other code does. New code would not repeat the failure in a replay."""
    while (await sim.client.describe(target)).status is WorkflowStatus.RUNNING:
        await sim.sleep(1.0)


async def ask(sim: Simulation, handle: WorkflowHandle[Any]) -> None:
    """Have the code run again. Somebody else may have been faster."""
    try:
        await sim.client.retry_workflow_task(handle, confirm=True)
    except RequestRefusedError:
        return


async def simulate_failed_code(sim: Simulation) -> object:
    """Workflows of several shapes fail by mistakes in their code, which is mended."""
    MENDED.clear()
    sim.add_service(Oven)
    sim.add_workflow(Bakery, retention=KEPT)
    new = sim.client.new_workflow(Bakery)
    handles = [await sim.client.dispatch(getattr(new, shape)) for shape in SHAPES]
    results = await asyncio.gather(*(mend(sim, handle) for handle in handles))
    assert results == RESULTS, results
    return results


async def simulate_failed_code_of_two(sim: Simulation) -> object:
    """Two people ask for the same, before the code is mended and after."""
    MENDED.clear()
    sim.add_service(Oven)
    sim.add_workflow(Bakery, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Bakery).in_order)
    for _ in range(20):
        try:
            return await handle.result()
        except WorkflowFailedError:
            await asyncio.gather(ask(sim, handle), ask(sim, handle))
            MENDED[handle.workflow_id] += 1
            await asyncio.gather(ask(sim, handle), ask(sim, handle), ask(sim, handle))
    raise AssertionError("it has failed twenty times")


class Chain(Workflow):
    bakery = Workflow.new_workflow(Bakery)

    async def order(self) -> list[int]:
        return await self.bakery.in_order()


async def simulate_failed_code_of_children(sim: Simulation) -> object:
    """A child fails by its code, and so does its parent. Both go on when it is mended."""
    MENDED.clear()
    sim.add_service(Oven)
    for each in (Bakery, Chain):
        sim.add_workflow(each, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Chain).order)
    child = ids.remote_id(handle.workflow_id, 0, 0)
    stub = sim.client.get_workflow_by_id(Bakery, child)
    for _ in range(2_000):
        try:
            return await handle.result()
        except WorkflowFailedError:
            MENDED[child] += 1
            # It goes on already if its parent has not been told yet.
            with suppress(RequestRefusedError):
                await sim.client.retry_workflow_task(stub, confirm=True)
            handle.forget_failure()
            await sim.sleep(1.0)
    raise AssertionError("it stays failed")


class Ledger(Workflow):
    """Its first method fails while another one goes on, and asks for what mended code would."""

    oven = Workflow.new_service(Oven)
    more = Channel[bool]()

    def __init__(self) -> None:
        self.noting = asyncio.Event()

    async def run(self) -> int:
        # A call that comes after the failure finds a closed instance.
        await self.noting.wait()
        first = await self.oven.bake(1)
        if not MENDED[self.context.workflow_id]:
            raise ValueError("mistake 1")
        return await self.oven.bake(first + 1)

    async def note(self) -> int:
        self.noting.set()
        await self.more.receive()
        return await self.oven.bake(2)


async def simulate_failed_code_that_went_on(sim: Simulation) -> object:
    """Code that has gone on since the failure does not run again: nothing may run twice."""
    MENDED.clear()
    sim.add_service(Oven)
    sim.add_workflow(Ledger, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Ledger).run)
    ledger = sim.client.get_workflow_by_id(Ledger, handle.workflow_id)
    note = await sim.client.dispatch(ledger.note)
    with suppress(WorkflowFailedError):
        await handle.result()
    await ledger.more.send(True)
    noted = await note.result()
    MENDED[handle.workflow_id] = 1
    try:
        await sim.client.retry_workflow_task(handle, confirm=True)
    except RequestRefusedError as error:
        # At the end, each history is replayed with the code of then.
        MENDED.clear()
        return [noted, "has gone on since its first method failed" in error.reason]
    raise AssertionError("it runs again")


class Late(Workflow):
    oven = Workflow.new_service(Oven, total_timeout=HOUR)

    async def run(self) -> int:
        if not MENDED[self.context.workflow_id]:
            raise ValueError("mistake 1")
        return await self.oven.bake(1)


async def simulate_failed_code_mended_late(sim: Simulation) -> object:
    """The total timeout of a new task counts from when the code runs again."""
    MENDED.clear()
    sim.add_service(Oven)
    sim.add_workflow(Late, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Late).run)
    with suppress(WorkflowFailedError):
        await handle.result()
    await sim.sleep(3 * HOUR)
    return await mend(sim, handle)
