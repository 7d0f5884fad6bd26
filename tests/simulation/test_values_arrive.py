"""Values on their whole way: from a workflow to a task, back, and to a client."""

from __future__ import annotations

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from infinitic import Channel, Workflow, all_of
from infinitic_testing.simulation import Simulation
from tests.unit.seen import seen

NOON = dt.datetime(2024, 10, 26, 12, tzinfo=ZoneInfo("Europe/Paris"))


class Change(BaseModel):
    name: str | None = None
    city: str | None = None


class Desk:
    async def name(self, text: str) -> str:
        return text

    async def count(self, number: int) -> int:
        return number

    async def next_day(self, moment: dt.datetime) -> dt.datetime:
        return moment + dt.timedelta(days=1)

    async def apply(self, changes: list[Change]) -> dict[str, Change]:
        return {str(index): change for index, change in enumerate(changes)}

    async def spread(self, pair: tuple[int, str], rows: list[int]) -> list[str]:
        return [type(pair).__name__, type(rows).__name__]


class Pairs(Workflow):
    desk = Workflow.new_service(Desk)
    pairs = Channel[tuple[int, str]]()

    async def by_and(self) -> tuple[str, int]:
        return await (self.dispatch(self.desk.name, "a") & self.dispatch(self.desk.count, 1))

    async def by_all_of(self) -> tuple[str, int]:
        return await all_of(self.dispatch(self.desk.name, "a"), self.dispatch(self.desk.count, 1))

    async def by_gather(self) -> tuple[str, int]:
        return await asyncio.gather(self.desk.name("a"), self.desk.count(1))

    async def listed(self) -> list[str]:
        return await all_of(self.dispatch(self.desk.name, "a"))

    async def nested(self) -> tuple[tuple[str, int], list[int]]:
        pair = self.dispatch(self.desk.name, "a") & self.dispatch(self.desk.count, 1)
        return await (pair & all_of(self.dispatch(self.desk.count, 2)))

    async def sends(self) -> list[str]:
        return await self.desk.spread([1, "a"], (1, 2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def receives(self) -> str:
        return type(await self.pairs.receive()).__name__

    async def tomorrow(self, moment: dt.datetime) -> dt.datetime:
        return await self.desk.next_day(moment)

    async def changes(self, change: Change) -> dict[str, Change]:
        return await self.desk.apply([change, Change(city=None)])


@pytest.fixture
def pairs(sim: Simulation) -> Pairs:
    sim.add_service(Desk())
    sim.add_workflow(Pairs)
    return sim.client.new_workflow(Pairs)


async def test_values_are_what_their_types_say(pairs: Pairs) -> None:
    assert await pairs.by_and() == ("a", 1)
    assert await pairs.by_all_of() == ("a", 1)
    assert await pairs.by_gather() == ("a", 1)
    assert await pairs.listed() == ["a"]
    assert await pairs.nested() == (("a", 1), [2])
    assert await pairs.sends() == ["tuple", "list"]


async def test_a_signal_is_what_its_channel_says(sim: Simulation, pairs: Pairs) -> None:
    handle = await sim.client.dispatch(pairs.receives)
    running = sim.client.get_workflow_by_id(Pairs, handle.workflow_id)
    await running.pairs.send([1, "a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert await handle.result() == "tuple"


async def test_a_zone_is_kept_all_the_way(pairs: Pairs) -> None:
    assert seen(await pairs.tomorrow(NOON)) == seen(NOON + dt.timedelta(days=1))


async def test_what_was_set_is_kept_all_the_way(pairs: Pairs) -> None:
    arrived = await pairs.changes(Change(name=None))
    assert [change.model_dump(exclude_unset=True) for change in arrived.values()] == [{"name": None}, {"city": None}]
