"""Custom ids that were claimed for what is not started or re-opened after all (S32)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import Raw

from infinitic import Channel, Client, RequestRefusedError, Worker, Workflow, WorkflowFailedError, topics
from infinitic.engines.workflow.claimed_starts import CLAIMED, MOST_CLAIMS
from infinitic.engines.workflow.tags import forget_claim, free_claims
from infinitic.messages import engine, tags
from infinitic.storage import TagChange, TagKey, TagKind
from infinitic.topics import Topic
from infinitic.transport import Message, Outgoing
from infinitic_testing.simulation import Simulation
from tests.simulation.cases import Case
from tests.simulation.scenarios.repairs import Garage
from tests.simulation.test_late_children import host_nothing
from tests.simulation.world import World, run_scenario

KEY = TagKey(TagKind.CUSTOM_ID, "Order", "order-42")


class Order(Workflow):
    items = Channel[int]()
    garage = Workflow.new_service(Garage)

    async def fill(self) -> int:
        return await self.items.receive()

    async def mend(self) -> int:
        return await self.garage.mend(1, 1)


async def send_start(sim: Simulation, workflow_id: str, age: float, claims: str = "") -> None:
    """Send a start as the tag engine does, which has claimed the custom id so many seconds ago."""
    at = sim.now.timestamp() - age
    start = engine.Start(made_at=at, method="fill", arguments=Raw(b"[]"), custom_id="order-42")
    message = Message(workflow_id, workflow_id, engine.encode(start), {CLAIMED: f"{at!r}{claims}"})
    topic = topics.workflow_engine("Order")
    await sim.transport.declare([topic])
    await sim.transport.publish(topic, [message])
    await sim.sleep(1.0)


async def test_S32_a_stray_copy_of_a_start_makes_no_second_holder(sim: Simulation) -> None:
    """It was a dead letter, which has freed the custom id, and another instance has got it."""
    sim.add_workflow(Order)
    stored = sim.system.database.tags
    now = sim.now.timestamp()
    assert stored.claim(KEY, "ghost", 0, now).granted
    stored.update([TagChange(KEY, "ghost", False, tags.version_freed(0), now)])
    order = await sim.client.dispatch(sim.client.new_workflow(Order, custom_id="order-42").fill)
    await sim.sleep(100.0)
    for claims in ("", ",1", ",2", ",x", ",-1"):
        await send_start(sim, "ghost", 100.0, claims)
        assert [key.id for key in sim.system.database.list_keys()] == [order.workflow_id], claims
    await sim.client.get_workflow_by_id(Order, order.workflow_id).items.send(7)
    assert await order.result() == 7


@pytest.mark.parametrize(("age", "claims"), [(5.0, ""), (100.0, ""), (100.0, f",{MOST_CLAIMS}"), (-100.0, "")])
async def test_S32_a_late_start_that_has_its_custom_id_is_taken(sim: Simulation, age: float, claims: str) -> None:
    """Also where starts wait so long that each of them is an old one."""
    sim.add_workflow(Order)
    assert sim.system.database.tags.claim(KEY, "late", 0, sim.now.timestamp()).granted
    await send_start(sim, "late", age, claims)
    await sim.client.get_workflow_by_id(Order, "late").items.send(7)
    assert await sim.client.get_handle(Order.fill, "late").result() == 7


async def begin_nothing(client: Client) -> None:
    """The tests start what they need."""


CASE = Case("order", (Order,), begin_nothing, (Garage,))
KEPT = 1e9


def host_without_tags(worker: Worker, case: Case) -> None:
    worker.add_service(Garage())
    worker.add_workflow_state_engine(Order, retention=KEPT)
    worker.add_workflow_executor(Order, retention=KEPT)


def host_tags(worker: Worker, case: Case) -> None:
    worker.add_workflow_tag_engine(Order)


def test_S34_a_claim_that_is_too_old_is_given_back() -> None:
    """The tag engine was away for weeks. The operator is told, and may ask again."""

    async def scenario(world: World) -> None:
        world.host(CASE, host_without_tags, host_tags)
        await world.run_until_idle()
        client = world.client
        failed = await client.dispatch(client.new_workflow(Order, custom_id="order-42").mend)
        with pytest.raises(WorkflowFailedError):
            await failed.result()
        await world.run_until_idle()
        await world.stop()
        world.host(CASE, host_without_tags)
        asking = asyncio.create_task(client.retry_tasks(failed))
        await asyncio.sleep(world.database.deduplication_window + 10.0)
        world.host(CASE, host_tags)
        with pytest.raises(RequestRefusedError, match="deduplication window"):
            await asking
        await asyncio.sleep(60.0)
        assert await client.get_ids(client.get_workflow_by_custom_id(Order, "order-42")) == []
        await client.retry_tasks(failed)
        assert await failed.result() == 1

    run_scenario(scenario, CASE, host_nothing)


@pytest.mark.parametrize("way", ["too old", "given up"])
async def test_S34_a_re_opening_that_is_not_done_frees_what_it_has_claimed(sim: Simulation, way: str) -> None:
    sim.add_service(Garage())
    sim.add_workflow(Order, retention=KEPT)
    failed = await sim.client.dispatch(sim.client.new_workflow(Order, custom_id="order-42").mend)
    with pytest.raises(WorkflowFailedError):
        await failed.result()
    await sim.run_until_idle()
    stored, now = sim.system.database, sim.now.timestamp()
    assert stored.tags.claim(KEY, failed.workflow_id, tags.version_claimed(1), now).granted
    age = stored.deduplication_window + 1.0 if way == "too old" else 0.0
    request = engine.RetryTasks(made_at=now - age, request_id="r", claimed=1, custom_id="order-42")
    message = Message(failed.workflow_id, failed.workflow_id, engine.encode(request))
    if way == "too old":
        await sim.transport.publish(topics.workflow_engine("Order"), [message])
    else:
        await sim.transport.publish(*find_only(free_claims("Order", [message], now)))
    await sim.run_until_idle()
    assert stored.tags.members(KEY, until=None, after="", limit=1) == []
    if way == "given up":
        # The letter is replayed. It must not be obeyed: the custom id is not claimed any more.
        again = Message(message.id, message.key, forget_claim(message.body))
        await sim.transport.publish(topics.workflow_engine("Order"), [again])
        await sim.run_until_idle()
        assert (await sim.client.describe(failed)).status == "failed"
    await sim.client.retry_tasks(failed)
    assert await failed.result() == 1


def find_only(outgoing: Sequence[Outgoing]) -> tuple[Topic, list[Message]]:
    [one] = outgoing
    return one.topic, [one.message]
