"""Local tasks beside others: in chains, in races, with timers, signals, failures and new runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from infinitic import (
    Channel,
    ExponentialBackoff,
    TaskFailedError,
    Workflow,
    WorkflowCanceledError,
    any_of,
    service,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, OFTEN, VERY_LONG


@service(local=True)
class Till:
    """Local tasks, but for one. What they return depends on their arguments alone."""

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def wait(self, value: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return value

    def count(self, text: str) -> int:
        return len(text)

    @task(retry=ExponentialBackoff(minimum_seconds=0.02, maximum_seconds=0.04, maximum_retries=1000))
    async def stumble(self, value: int, times: int) -> int:
        if task_context().retry_index < times:
            raise ConnectionError(f"attempt {task_context().retry_index}")
        return value

    @task(retry=OFTEN)
    async def fall(self, value: int, times: int) -> int:
        if task_context().retry_index < times:
            raise ConnectionError(f"attempt {task_context().retry_index}")
        return value

    async def fail(self, value: int) -> int:
        raise LookupError(f"no {value}")

    @task(local=False)
    async def ship(self, value: int) -> int:
        await asyncio.sleep(0.01)
        return value


class Shop(Workflow):
    till = Workflow.new_service(Till)
    orders = Channel[int]()

    async def mixed(self, rounds: int) -> int:
        total = 0
        for turn in range(rounds):
            total = await self.till.add(total, turn)
            total = await self.till.ship(total)
            total += sum(await asyncio.gather(self.till.wait(1, 0.003), self.till.ship(1), self.till.add(0, 1)))
            total += await self.dispatch(self.till.count, "x" * turn)
        return total

    async def failing(self) -> list[object]:
        found: list[object] = [await self.till.stumble(1, 3), await self.till.fall(2, 2)]
        tries: list[Awaitable[int]] = [self.till.fail(3), self.till.add(1, 1), self.till.stumble(4, 1)]
        for each in await asyncio.gather(*tries, return_exceptions=True):
            found.append(str(each.last_failure.exception) if isinstance(each, TaskFailedError) else each)
        return found

    async def late(self, seconds: float) -> list[str]:
        try:
            async with asyncio.timeout(0.5):
                return [str(await self.till.wait(1, VERY_LONG))]
        except TimeoutError:
            return ["late", str(await self.till.wait(1, seconds))]

    async def race(self) -> int:
        total = 0
        for turn in range(4):
            slow = self.dispatch(self.till.wait, 100, 3600.0)
            total += await any_of(self.dispatch(self.till.add, turn, 1), slow)
            slow.cancel()
        return total

    async def serve(self, orders: int) -> int:
        total = 0
        for _ in range(orders):
            order = await self.orders.receive()
            total = await self.till.wait(await self.till.add(total, order), 0.002)
        return total

    async def again(self, left: int) -> int:
        left = await self.till.add(left, -1)
        if left:
            self.continue_as_new(self.again, await self.till.wait(left, 0.001))
        return left

    async def turn(self, left: int) -> int:
        # At position 0 each run asks for another task than the run before.
        slow = [self.dispatch(self.till.ship, -left), self.dispatch(self.till.wait, -left, VERY_LONG)]
        total = await self.till.add(left, 0)
        for each in slow:
            each.cancel()
        if left:
            self.continue_as_new(self.ship, total)
        return total

    async def ship(self, total: int) -> int:
        total = await self.till.ship(total) + await self.till.wait(total, 0.001)
        if total < 100:
            self.continue_as_new(self.turn, total)
        return total

    async def many(self, length: int) -> int:
        total = 0
        for _ in range(length):
            total = await self.till.add(total, 1)
        return total

    async def hold(self) -> int:
        return await self.till.wait(1, 100_000.0)


def host(sim: Simulation) -> None:
    """Host the service and the workflow."""
    sim.add_service(Till)
    sim.add_workflow(Shop, retention=KEPT)


async def simulate_local_and_ordinary(sim: Simulation) -> object:
    """Local and ordinary tasks, in chains and side by side."""
    host(sim)
    return await asyncio.gather(*(sim.client.new_workflow(Shop).mixed(5) for _ in range(4)))


async def simulate_local_failures(sim: Simulation) -> object:
    """Local tasks fail: for good, with short delays and with long ones."""
    host(sim)
    return await asyncio.gather(*(sim.client.new_workflow(Shop).failing() for _ in range(3)))


async def simulate_local_limits(sim: Simulation) -> object:
    """Local tasks take longer than a step may, and than the code waits for them."""
    host(sim)
    late = await asyncio.gather(*(sim.client.new_workflow(Shop).late(seconds) for seconds in (8.0, 4.0)))
    return [*late, await sim.client.new_workflow(Shop).many(150)]


async def simulate_local_races(sim: Simulation) -> object:
    """The code cancels local tasks that run, and begins new runs."""
    host(sim)
    return await asyncio.gather(sim.client.new_workflow(Shop).race(), sim.client.new_workflow(Shop).again(6))


async def simulate_local_runs(sim: Simulation) -> object:
    """The code cancels tasks, and begins a new run in the same step, which asks for others."""
    host(sim)
    return await asyncio.gather(*(sim.client.new_workflow(Shop).turn(3) for _ in range(3)))


async def simulate_local_signals(sim: Simulation) -> object:
    """Signals come while local tasks run. Each is taken once."""
    host(sim)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Shop).serve, 12) for _ in range(3)]
    for order in range(12):
        for handle in handles:
            await sim.client.get_workflow_by_id(Shop, handle.workflow_id).orders.send(order)
        await sim.sleep(0.001)
    return [await handle.result() for handle in handles]


async def simulate_local_cancelled(sim: Simulation) -> object:
    """Workflows are cancelled while a local task runs for them."""
    host(sim)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Shop).hold) for _ in range(3)]
    outcomes: list[str] = []
    for handle in handles:
        await sim.sleep(0.5)
        await sim.client.cancel(handle)
        try:
            await handle.result()
        except WorkflowCanceledError:
            outcomes.append("canceled")
    return outcomes
