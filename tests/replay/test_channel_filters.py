"""Which signals a receiver takes: by type, by fields, by JSONPath (S23)."""

from __future__ import annotations

from typing import Any

from infinitic import Channel, Workflow
from tests.replay.harness import Run, both_ways


class Filtering(Workflow):
    mixed = Channel[int | str]()
    orders = Channel[dict[str, Any]]()

    async def by_type(self) -> list[str]:
        text, number = self.mixed.receive(str), self.mixed.receive(type=int)
        return [str(each) for each in (await text, await number, await text, await number)]

    async def by_fields(self) -> list[Any]:
        wanted = self.orders.receive(where={"kind": "order", "vip": True})
        return [(await wanted)["id"], (await wanted)["id"], (await self.orders.receive())["id"]]

    async def by_filter(self) -> list[Any]:
        large = self.orders.receive(where="?@.amount > 10 && @.kind == 'order'")
        return [(await large)["id"], (await large)["id"], (await self.orders.receive())["id"]]

    async def by_query(self) -> list[Any]:
        with_lines = self.orders.receive(where="$.lines[?@.price >= 100]")
        return [(await with_lines)["id"], (await self.orders.receive())["id"]]


@both_ways(Filtering)
async def test_a_type_filter_leaves_the_others_in_order(run: Run) -> None:  # S23
    handle = await run.start(run.new(Filtering).by_type)
    for value in (1, 2, "a", "b"):
        await run.on(Filtering).mixed.send(value)
    assert await handle.result() == ["a", "1", "b", "2"]


ORDERS: tuple[dict[str, Any], ...] = (
    {"id": 1, "kind": "order", "vip": False, "amount": 5, "lines": [{"price": 100}]},
    {"id": 2, "kind": "offer", "vip": True, "amount": 50, "lines": []},
    {"id": 3, "kind": "order", "vip": True, "amount": 50, "lines": [{"price": 1}, {"price": 2}]},
    {"id": 4, "kind": "order", "vip": True, "amount": 11, "lines": [{"price": 99}]},
)


async def _send_orders(run: Run) -> None:
    for order in ORDERS:
        await run.on(Filtering).orders.send(order)


@both_ways(Filtering)
async def test_where_is_a_mapping_of_fields(run: Run) -> None:  # S23
    handle = await run.start(run.new(Filtering).by_fields)
    await _send_orders(run)
    assert await handle.result() == [3, 4, 1]


@both_ways(Filtering)
async def test_where_is_a_filter_on_the_signal(run: Run) -> None:  # S23
    handle = await run.start(run.new(Filtering).by_filter)
    await _send_orders(run)
    assert await handle.result() == [3, 4, 1]


@both_ways(Filtering)
async def test_where_is_a_query_that_must_find_something(run: Run) -> None:  # S23
    handle = await run.start(run.new(Filtering).by_query)
    await _send_orders(run)
    assert await handle.result() == [1, 2]
