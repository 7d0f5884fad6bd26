"""Timeouts of attempts and of tasks, retries, and timers.

The limits are far from what they limit: what times out takes hours longer than any fault lasts.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from infinitic import Deferred, TaskTimedOutError, Workflow
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, VERY_LONG, Office, begin_draws, draw


class Patient(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> list[int]:
        hanging = self.dispatch(self.office.hang, 1, 2)
        late = self.dispatch(self.office.leave_late, 2, 3.0)
        stumbling = [self.dispatch(self.office.stumble, 10 + times, times) for times in range(5)]
        return [await hanging, await late, *[await each for each in stumbling]]


async def simulate_attempt_timeouts(sim: Simulation) -> object:
    """Attempts hang, end late or fail, and are retried with a growing delay."""
    sim.add_service(Office)
    sim.add_workflow(Patient)
    return await asyncio.gather(*(sim.client.new_workflow(Patient).run() for _ in range(3)))


class Hurried(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> list[str]:
        log = list[str]()
        for call in (self.office.never_end, self.office.back_off):
            try:
                log.append(str(await call(1)))
            except TaskTimedOutError:
                log.append("timed out")
        try:
            async with asyncio.timeout(2.0):
                await self.office.wait(1, VERY_LONG)
        except TimeoutError:
            log.append("too slow")
        return [*log, str(await self.office.add(1, 1))]


async def simulate_total_timeouts(sim: Simulation) -> object:
    """Tasks never end, or wait too long for their retry. Their total timeout ends them."""
    sim.add_service(Office)
    sim.add_workflow(Hurried)
    return await asyncio.gather(*(sim.client.new_workflow(Hurried).run() for _ in range(3)))


class Impatient(Workflow):
    office = Workflow.new_service(Office, total_timeout=VERY_LONG / 2)

    async def run(self, width: int) -> list[str]:
        tasks = [self._begin(number) for number in range(width)]
        timers = [self.timer(VERY_LONG / 2) for _ in range(width)]
        for number in range(1, width, 4):
            tasks[number].cancel()
            timers[number].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        rang = await asyncio.gather(*timers, return_exceptions=True)
        log = [type(each).__name__ if isinstance(each, BaseException) else str(each) for each in ended]
        return [*log, *sorted({type(each).__name__ for each in rang})]

    def _begin(self, number: int) -> Deferred[int]:
        if number % 4 == 2:
            return self.dispatch(self.office.back_off_long, number)
        if number % 4 == 3:
            return self.dispatch(self.office.stumble, number, 1)
        return self.dispatch(self.office.wait, number, number * 0.02)


async def simulate_wide_timeouts(sim: Simulation) -> object:
    """One timeout for many tasks: some end before, some are tried again, some are cancelled."""
    sim.add_service(Office)
    sim.add_workflow(Impatient)
    return await asyncio.gather(*(sim.client.new_workflow(Impatient).run(width) for width in (1, 9, 40)))


class Sleeper(Workflow):
    office = Workflow.new_service(Office)

    async def run(self) -> list[bool]:
        on_time = list[bool]()
        for duration in (0.0, 0.001, 0.5, 40.0, 3600.0, 100_000.0):
            began = self.now()
            due = await self.timer(timedelta(seconds=duration))
            on_time += [due <= self.now(), due >= began]
        on_time.append(await self.timer(self.now() - timedelta(days=1)) <= self.now())
        many = [self.timer(0.1 * each) for each in range(10)]
        on_time += [await each <= self.now() for each in reversed(many)]
        began = self.now()
        await asyncio.sleep(1.5)
        on_time.append(self.now() - began >= timedelta(seconds=1.5))
        return on_time


async def simulate_timers(sim: Simulation) -> object:
    """Timers from nothing to longer than a day: never early, each one once."""
    sim.add_workflow(Sleeper)
    return await sim.client.new_workflow(Sleeper).run()


class Alarm(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, number: int, due: datetime) -> int:
        drawn = self.inline(draw)
        await self.timer(due)
        number += await self.office.add(drawn, 0) - drawn
        return await self.office.add(number, 0)


async def simulate_timer_herd(sim: Simulation) -> object:
    """The timers of many instances are due at once."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Alarm)
    due = sim.now + timedelta(seconds=5)
    return await asyncio.gather(*(sim.client.new_workflow(Alarm).run(number, due) for number in range(40)))


class Metronome(Workflow):
    async def run(self, beats: int) -> int:
        early = 0
        for beat in range(beats):
            due = await self.timer(timedelta(seconds=0.4 + 0.3 * (beat % 4)))
            early += due > self.now()
        return early


async def simulate_metronomes(sim: Simulation) -> object:
    """One timer after the other, all the time: some wakes meet a clock that is wrong."""
    sim.add_workflow(Metronome, retention=KEPT)
    return await asyncio.gather(*(sim.client.new_workflow(Metronome).run(50) for _ in range(4)))
