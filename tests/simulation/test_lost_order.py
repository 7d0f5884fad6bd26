"""A broker that loses the order of a key: what undoes a request may come before the request.

Real brokers do that when a consumer is gone. In both cases the requester waits no more, so nobody
would ever stop what it had asked for.
"""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw

from infinitic import Channel, Workflow, WorkflowCanceledError, topics
from infinitic.messages import engine, tags
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation


class Order(Workflow):
    items = Channel[int]()
    cancelled = 0

    async def fill(self) -> int:
        total = await self.items.receive()
        return total + self.cancelled

    async def ship(self) -> None:
        try:
            await self.timer(10_000_000)
        except asyncio.CancelledError:
            self.cancelled += 100
            raise


@pytest.mark.parametrize("late", [0.0, 5.0])
async def test_S25_a_method_is_cancelled_whose_call_comes_after_that(sim: Simulation, late: float) -> None:
    sim.add_workflow(Order)
    order = await sim.client.dispatch(sim.client.new_workflow(Order).fill)
    await sim.run_until_idle()
    topic, now = topics.workflow_engine("Order"), sim.now.timestamp()

    async def send(message: engine.Input) -> None:
        body = engine.encode(message)
        await sim.transport.publish(topic, [Message(order.workflow_id, order.workflow_id, body)])

    await send(engine.Cancel(made_at=now, request_id="cancel", method_id="m", by="parent"))
    await sim.sleep(late)
    await send(engine.CallMethod(made_at=now, method_id="m", method="ship", arguments=Raw(b"[]"), by="parent"))
    await sim.sleep(60.0)
    await sim.client.get_workflow_by_id(Order, order.workflow_id).items.send(7)
    assert await order.result() == 107


@pytest.mark.parametrize("late", [0.0, 300.0])
async def test_S32_a_child_with_a_custom_id_is_cancelled_whose_start_comes_after_that(
    sim: Simulation, late: float
) -> None:
    sim.add_workflow(Order)
    topic, now = topics.workflow_tag("Order"), sim.now.timestamp()
    key = tags.make_custom_id_key("order-42")
    start = engine.Start(made_at=now, method="fill", arguments=Raw(b"[]"), custom_id="order-42")
    unique = tags.StartUnique(made_at=now, id="child", start=Raw(engine.encode(start)))
    cancel = Raw(engine.encode(engine.Cancel(made_at=now, request_id="cancel", by="parent")))
    await sim.client.get_ids(sim.client.get_workflow_by_custom_id(Order, "order-42"))
    stop = tags.encode(tags.CancelUnique(made_at=now, id="child", input=cancel))
    await sim.transport.publish(topic, [Message("cancel", key, stop)])
    await sim.sleep(late)
    await sim.transport.publish(topic, [Message("child", key, tags.encode(unique))])
    with pytest.raises(WorkflowCanceledError):
        await sim.client.get_handle(Order.fill, "child").result()
    assert await sim.client.get_ids(sim.client.get_workflow_by_custom_id(Order, "order-42")) == []
