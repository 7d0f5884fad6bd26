"""A worker whose clock is not that of the broker: late or early by that, never busy with it."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from infinitic import Workflow
from infinitic.clock import Clock
from infinitic.engines import state
from infinitic.messages import engine
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.invariants import read_instances
from tests.simulation.world import World, host_all


class Skewed(Clock):
    """A clock that is ahead of another one by some seconds; behind it if they are negative."""

    __slots__ = ("_clock", "_seconds")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def now(self) -> float:
        return self._clock.now() + self._seconds


class Sleeper(Workflow):
    async def sleep(self, times: int) -> float:
        began = self.now()
        for _ in range(times):
            await self.timer(10)
            await asyncio.sleep(0.5)
        return (self.now() - began) / timedelta(seconds=1)


CASE = Case("skew", (Sleeper,), lambda client: asyncio.sleep(0))


@pytest.mark.parametrize("seconds", [-2.0, -600.0, -0.001, 2.0])
def test_a_wake_makes_one_commit_however_early_it_comes(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """S24. The clock that counted the time of a timer says when it is over."""

    async def main() -> None:
        world = World()
        async with world.open():
            world.host(CASE, host_all, clock=Skewed(world.clock, seconds))
            began = world.clock.now()
            assert await world.client.new_workflow(Sleeper).sleep(5) > 52.4
            passed = world.clock.now() - began
            late = 0.2 + (seconds if seconds > 0 else -seconds / 3)
            assert 52.4 < passed < 52.5 + 10 * late, "by its own clock nothing is early, nor very late"
            (stored,) = read_instances(world.database).values()
            head = state.decode(stored[0])
            assert head.sequence == 11, "a start and ten timers"
            wakes = [topic for topic, message in world.published if b'"t":"wake"' in message.body[:20]]
            assert len(wakes) <= 10 * (1 if seconds > 0 else 30), "each comes a few times more"

    with caplog.at_level(logging.WARNING):
        run(main())
    told = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert len(told) <= 8, "once, and again when it has doubled"
    assert bool(told) == (seconds < -1)
    for line in told[-1:]:
        assert -seconds / 2 < float(line.split(" came ")[1].split(" s ")[0]) < -seconds * 1.01


def test_a_wake_that_was_armed_for_another_instant_changes_nothing() -> None:
    """F11: a forged or stale one is no reason to do anything, and is not sent on."""

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, host_all)
            handle = await world.client.dispatch(world.client.new_workflow(Sleeper).sleep, 1)
            await asyncio.sleep(1.0)
            before = read_instances(world.database)
            topic, message = next(each for each in world.published if b'"t":"wake"' in each[1].body[:20])
            for due in (0.0, 1e300, world.clock.now() + 3):
                forged = engine.encode(engine.Wake(made_at=world.clock.now(), due=due))
                await world.deliver_again([(topic, type(message)("x", message.key, forged))])
            await world.run_until_idle()
            assert read_instances(world.database) == before
            assert sum(topic.name.startswith("workflow-engine") for topic, _ in world.published) == 2
            await handle.result()

    run(main())
