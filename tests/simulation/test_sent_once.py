"""An outbox is not sent again and again while something else fails.

Otherwise each repetition would run its tasks once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic import Workflow, topics
from infinitic.storage import (
    Change,
    Outcome,
    Published,
    StateKey,
    StorageOutcomeUnknown,
    StorageUnavailable,
)
from tests.simulation.cases import Case, Numbers
from tests.simulation.damages import DamagedInstance
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, run_scenario


class Steps:
    """Takes its time."""

    async def take(self, name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return name


class Climb(Workflow):
    steps = Workflow.new_service(Steps)

    async def run(self) -> list[str]:
        return [await self.steps.take(name, 5.0) for name in ("one", "two", "three")]


CASE = Case("climb", (Climb,), lambda client: asyncio.sleep(0), (Steps,))


class ReadOnly(ObservedDatabase):
    """Can be read, and takes no change for a while: a disk is full, or a replica has taken over."""

    refusal: Exception | None = None

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        if self.refusal is not None:
            raise self.refusal
        return super().commit(changes)


def count_sent(world: World, service: str) -> list[bytes]:
    """The requests that were sent to a service."""
    name = topics.service_executor(service).name
    return [message.body for topic, message in world.published if topic.name == name]


@pytest.mark.parametrize("error", [StorageUnavailable("read-only"), StorageOutcomeUnknown("no reply")])
def test_while_nothing_can_be_written_no_task_is_sent_again(error: Exception) -> None:
    database = ReadOnly()

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Climb).run)
        await asyncio.sleep(1.0)
        database.refusal = error
        await asyncio.sleep(600.0)
        database.refusal = None
        assert await handle.result(timeout=60.0) == ["one", "two", "three"]
        assert len(count_sent(world, "Steps")) == 3

    run_scenario(scenario, CASE, database=database)


class Pair(Workflow):
    """One task fails and is to be tried again while the other takes long."""

    numbers = Workflow.new_service(Numbers)

    async def run(self) -> list[int]:
        again = self.dispatch(self.numbers.stumble, 7, 2)
        await self.numbers.add(1, 2)
        return [await self.numbers.wait(5, 200.0), await again]


PAIR = Case("pair", (Pair,), lambda client: asyncio.sleep(0))


def test_while_an_instance_waits_for_a_repair_no_task_is_sent_again() -> None:
    """The first request is damaged, but its retry needs it. The last one is not marked as sent."""

    async def scenario(world: World) -> None:
        stub = world.client.new_workflow(Pair)
        handle, other = [await world.client.dispatch(stub.run) for _ in range(2)]
        await world.run_until_idle()
        await world.stop()
        bench = DamagedInstance(
            world.database, StateKey("Pair", handle.workflow_id), StateKey("Pair", other.workflow_id)
        )
        bench.damage_segments("a bit is flipped in the first")
        world.host(PAIR, host_all)
        before = len(count_sent(world, "Numbers"))
        await asyncio.sleep(150.0)
        assert "is damaged" in ((await world.client.describe(handle)).stalled or "")
        again = [body for body in count_sent(world, "Numbers")[before:] if handle.workflow_id.encode() in body]
        assert len(again) <= 1, "once, when it was taken over"

    run_scenario(scenario, PAIR)
