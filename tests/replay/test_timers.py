"""Timers (S24).

Durations and instants, past ones, their value, lost races, late and early wakes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from infinitic import UsageError, Workflow
from infinitic.messages import engine
from infinitic.transport import Message
from tests.replay.harness import Desk, Run, both_ways
from tests.replay.restart import Site, on_virtual_time

DAY = timedelta(days=1)


class Timers(Workflow):
    desk = Workflow.new_service(Desk)

    async def durations(self) -> list[str]:
        began = self.now()
        log = list[str]()
        for duration in (1, 0.25, timedelta(days=30), 0, -5, timedelta(seconds=-1)):
            due = await self.timer(duration)
            assert due.tzinfo is UTC
            log.append(f"{(due - began).total_seconds()} {self.now() - began}")
        return log

    async def fractions(self) -> list[int]:
        """Count the timers and the sleeps whose end is shown too early."""
        early = [0, 0]
        for number in range(1, 60):
            began, seconds = self.now(), number / 7
            early[0] += await self.timer(seconds) - began < timedelta(seconds=seconds)
            began = self.now()
            await asyncio.sleep(seconds)
            early[1] += self.now() - began < timedelta(seconds=seconds)
        return early

    async def instants(self) -> list[str]:
        began = self.now()
        local = (began + timedelta(hours=2)).astimezone(ZoneInfo("America/New_York"))
        log = [str(await self.timer(local) == local), str(self.now() - began)]
        past = self.timer(began - DAY)
        return [*log, str(past.status()), str(await past == began - DAY), str(self.now() - began)]

    async def out_of_order(self) -> list[int]:
        order = list[int]()

        async def wait(seconds: int) -> None:
            await self.timer(seconds)
            order.append(seconds)

        await asyncio.gather(*(wait(seconds) for seconds in (5, 3, 60, 1, 3, 4)))
        return order

    async def lost(self) -> str:
        timer = self.timer(timedelta(days=300))
        word = await (self.dispatch(self.desk.say, "fast", 1) | timer)
        return f"{word} {timer.status()}"

    async def late(self) -> list[str]:
        """The value is when it was due, however late the wake comes."""
        began = self.now()
        due = await self.timer(10)
        return [str(due - began), str(self.now() - began)]

    async def refused(self) -> list[str]:
        log = list[str]()
        for when in (datetime(2030, 1, 1), float("nan"), float("inf"), 9e11, "5", True):
            try:
                self.timer(cast(Any, when))
            except UsageError:
                log.append("refused")
            else:
                log.append("taken")
        return log

    async def far(self) -> list[str]:
        """A timer so far away that no datetime holds it is refused at the call.

        One just before is not.
        """
        timer = self.timer(datetime(9999, 12, 31, tzinfo=UTC))
        timer.cancel()
        try:
            self.timer(timedelta(days=365 * 8000))
        except UsageError:
            return [str(timer.status()), "refused"]
        return [str(timer.status()), "taken"]


@both_ways(Timers)
async def test_durations(run: Run) -> None:  # S24
    month = "30 days, 0:00:01.250000"
    assert await run.result(run.new(Timers).durations) == [
        *("1.0 0:00:01", "1.25 0:00:01.250000", f"{2592001.25} {month}"),
        *(f"{2592001.25} {month}", f"{2591996.25} {month}", f"{2592000.25} {month}"),
    ]


@both_ways(Timers)
async def test_no_time_is_shown_before_it_is_over(run: Run) -> None:  # S24
    assert await run.result(run.new(Timers).fractions) == [0, 0]


@both_ways(Timers)
async def test_instants_of_any_zone_and_past_ones(run: Run) -> None:  # S24
    assert await run.result(run.new(Timers).instants) == ["True", "2:00:00", "completed", "True", "2:00:00"]


@both_ways(Timers)
async def test_timers_fire_in_the_order_of_their_instants(run: Run) -> None:  # S24
    assert await run.result(run.new(Timers).out_of_order) == [1, 3, 3, 4, 5, 60]


@both_ways(Timers)
async def test_a_timer_that_lost_its_race_leaves_nothing_behind(run: Run) -> None:  # S24, S28
    handle = await run.start(run.new(Timers).lost)
    assert await handle.result() == "fast ongoing"
    info = await run.client.describe(handle)
    assert (info.status, info.open_timers, info.next_wake) == ("completed", 0, None)


@both_ways(Timers)
async def test_a_wake_that_comes_early_or_twice_changes_nothing(run: Run) -> None:  # S13, S24
    handle = await run.start(run.new(Timers).late)
    await run.idle()
    now = run.sim.clock.now()
    for due in (now, now + 10, now - 10, now + 10):
        body = engine.encode(engine.Wake(made_at=now, due=due))
        await run.sim.transport.publish(run.topic(handle), [Message("wake", handle.workflow_id, body)])
    assert await handle.result() == ["0:00:10", "0:00:10"]


def test_a_wake_that_comes_late_tells_when_it_was_due() -> None:  # S24, S16
    async def main() -> None:
        site = Site()
        async with site.worker(Timers) as worker:
            handle = await worker.client.dispatch(worker.client.new_workflow(Timers).late)
            late = asyncio.get_running_loop().time() + 100
            await asyncio.sleep(1)
        # Nobody works, however long the end of the worker took.
        await asyncio.sleep(late - asyncio.get_running_loop().time())
        async with site.worker(Timers) as worker:
            again = worker.client.get_handle(Timers.late, handle.workflow_id)
            assert await again.result() == ["0:00:10", "0:01:40"]

    on_virtual_time(main())


@both_ways(Timers)
async def test_what_is_no_duration_and_no_aware_instant_is_refused(run: Run) -> None:  # S24
    assert await run.result(run.new(Timers).refused) == ["refused"] * 6


@both_ways(Timers)
async def test_a_timer_beyond_the_calendar_is_refused(run: Run) -> None:  # S24
    assert await run.result(run.new(Timers).far) == ["canceled", "refused"]
