"""Races, whose outcome is the same whoever wins."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infinitic import Channel, TaskFailedError, Workflow, all_of, any_of
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw


class Race(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, rounds: int) -> list[int]:
        values = list[int]()
        for turn in range(rounds):
            runners = [self.dispatch(self.office.wait, turn, 0.01 * (1 + (turn + each) % 3)) for each in range(3)]
            first = await any_of(*runners)
            every = await all_of(*runners)
            nested = await ((runners[0] & self.dispatch(self.office.add, turn, 1)) | self.timer(timedelta(days=400)))
            drawn = self.inline(draw)
            first += await self.office.add(drawn, 0) - drawn
            values += [first, sum(every), len(nested) if isinstance(nested, tuple | list) else -1]
        return values


async def simulate_races(sim: Simulation) -> object:
    """`any_of` and `all_of` over tasks of equal value, nested with a timer that is never due."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Race)
    return await sim.client.new_workflow(Race).run(8)


class FailingRace(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> list[str]:
        log = list[str]()
        # A failure counts only when nothing is pending any more.
        log.append(str(await any_of(self.dispatch(self.office.fail, 1), self.dispatch(self.office.wait, 7, 0.2))))
        try:
            await all_of(
                self.dispatch(self.office.fail, 2), self.dispatch(self.office.fail, 2), self.timer(timedelta(days=400))
            )
        except TaskFailedError as error:
            log.append(str(error.last_failure.exception))
        try:
            await any_of(self.dispatch(self.office.fail, 3), self.dispatch(self.office.fail, 3))
        except TaskFailedError as error:
            log.append(str(error.last_failure.exception))
        return log


async def simulate_failing_races(sim: Simulation) -> object:
    """Races in which some or all parts fail."""
    sim.add_service(Office)
    sim.add_workflow(FailingRace)
    return await asyncio.gather(*(sim.client.new_workflow(FailingRace).run() for _ in range(3)))


class Collector(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, number: int) -> list[int]:
        waiting = {asyncio.ensure_future(self.office.wait(each, 0.05 * (each % 4))) for each in range(number)}
        found = list[int]()
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            found += [each.result() for each in done]
        return sorted(found)


async def simulate_first_completed(sim: Simulation) -> object:
    """`asyncio.wait` takes results in the order in which they come, whatever it is."""
    sim.add_service(Office)
    sim.add_workflow(Collector)
    return await sim.client.new_workflow(Collector).run(16)


class Fickle(Workflow):
    office = Workflow.new_service(Office)
    enough = Channel[int]()

    async def run(self, rounds: int) -> int:
        for turn in range(rounds):
            # It fails each time, and is tried again at once, until somebody has had enough.
            hopeless = self.dispatch(self.office.fail_for_ever, turn)
            await (hopeless | self.enough.receive())
            hopeless.cancel()
        return rounds


async def simulate_cancelled_retries(sim: Simulation) -> object:
    """A task that fails again and again is cancelled at the instant at which it is tried again."""
    sim.add_service(Office)
    sim.add_workflow(Fickle, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Fickle).run, 6) for _ in range(4)]
    for turn in range(6):
        await sim.sleep(0.03)
        for handle in handles:
            await sim.client.get_workflow_by_id(Fickle, handle.workflow_id).enough.send(turn)
    return [await handle.result() for handle in handles]


class Groups(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> list[str]:
        log = list[str]()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.office.wait(1, 3600.0))
                group.create_task(self._fail())
        except* ValueError:
            # The long task was cancelled: its instance does not wait for it.
            log.append("group failed")
        shielded = self.dispatch(self.office.wait, 5, 0.3)
        try:
            async with asyncio.timeout(0.1):
                await asyncio.shield(shielded)
        except TimeoutError:
            pass
        log.append(f"shielded {await shielded}")
        cancelled = self.dispatch(self.office.wait, 6, 3600.0)
        cancelled.cancel()
        log.append(f"cancelled {cancelled.is_canceled()}")
        return log

    async def _fail(self) -> None:
        await self.office.add(1, 1)
        raise ValueError("enough")


async def simulate_task_groups(sim: Simulation) -> object:
    """Task groups that fail, shields, and tasks that are cancelled."""
    sim.add_service(Office)
    sim.add_workflow(Groups)
    return await asyncio.gather(*(sim.client.new_workflow(Groups).run() for _ in range(3)))
