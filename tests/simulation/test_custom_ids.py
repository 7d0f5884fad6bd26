"""Custom ids: at most one running instance has one (S32)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec import Raw

from infinitic import (
    Channel,
    RequestRefusedError,
    TaskFailedError,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
    method,
    topics,
)
from infinitic.messages import engine, tags
from infinitic.storage import TagChange, TagKey, TagKind
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation


class Order(Workflow):
    items = Channel[int]()
    total = 0

    async def fill(self, number: int) -> int:
        for _ in range(number):
            self.total += await self.items.receive()
        return self.total

    async def peek(self) -> int:
        return self.total

    async def fail(self) -> None:
        raise ValueError("no")

    @method(total_timeout=10)
    async def slow(self) -> int:
        return await self.items.receive()


@pytest.fixture
def orders(sim: Simulation) -> Simulation:
    sim.add_workflow(Order)
    return sim


def find_holder(sim: Simulation) -> list[str]:
    key = TagKey(TagKind.CUSTOM_ID, "Order", "order-42")
    return sim.system.database.tags.members(key, until=None, after="", limit=10)


async def test_S32_a_second_start_attaches_to_the_running_instance(orders: Simulation) -> None:
    """Its waiter is answered (F4)."""
    client = orders.client
    start = client.new_workflow(Order, custom_id="order-42")
    first = await client.dispatch(start.fill, 1)
    second = await client.dispatch(start.fill, 1)
    awaited = asyncio.create_task(client.new_workflow(Order, custom_id="order-42").fill(99))
    await orders.run_until_idle()
    assert second.workflow_id == first.workflow_id
    await client.get_workflow_by_id(Order, first.workflow_id).items.send(7)
    assert (await first.result(), await second.result(), await awaited) == (7, 7, 7)


async def test_S32_ten_racing_starts_make_one_instance(orders: Simulation) -> None:
    client = orders.client
    starts = (client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1) for _ in range(10))
    handles = await asyncio.gather(*starts)
    await orders.run_until_idle()
    assert len({handle.workflow_id for handle in handles}) == 1
    assert [key.id for key in orders.system.database.list_keys()] == [handles[0].workflow_id]
    await client.cancel(handles[0])


async def test_S32_the_custom_id_is_free_once_the_result_is_known(orders: Simulation) -> None:
    client = orders.client
    seen: set[str] = set()
    for number in range(5):
        handle = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
        await client.get_workflow_by_id(Order, handle.workflow_id).items.send(number)
        assert await handle.result() == number
        seen.add(handle.workflow_id)
    assert len(seen) == 5


async def test_S32_a_failed_and_a_cancelled_instance_free_it_too(orders: Simulation) -> None:
    client = orders.client
    with pytest.raises(WorkflowFailedError):
        await client.new_workflow(Order, custom_id="order-42").fail()
    await orders.run_until_idle()
    assert find_holder(orders) == []
    handle = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    await client.cancel(handle)
    with pytest.raises(WorkflowCanceledError):
        await handle.result()
    await orders.run_until_idle()
    assert find_holder(orders) == []


async def test_S32_another_workflow_may_have_the_same_custom_id(orders: Simulation) -> None:
    class Other(Order):
        pass

    orders.add_workflow(Other)
    client = orders.client
    first = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    other = await client.dispatch(client.new_workflow(Other, custom_id="order-42").fill, 1)
    assert first.workflow_id != other.workflow_id
    await client.cancel(first)
    await client.cancel(other)


async def test_S32_a_late_repeat_of_a_start_starts_nothing(orders: Simulation) -> None:
    """Neither one that started an instance which has closed, nor one that attached to it."""
    client = orders.client
    topic = topics.workflow_tag("Order")
    now = orders.now.timestamp()
    key = tags.make_custom_id_key("order-42")

    def make_start(workflow_id: str) -> Message:
        start = engine.Start(made_at=now, method="fill", arguments=Raw(b"[1]"), custom_id="order-42")
        unique = tags.StartUnique(made_at=now, id=workflow_id, start=Raw(engine.encode(start)))
        return Message(workflow_id, key, tags.encode(unique))

    await client.get_ids(client.get_workflow_by_custom_id(Order, "order-42"))
    await orders.transport.publish(topic, [make_start("first"), make_start("attached")])
    await orders.run_until_idle()
    await client.get_workflow_by_id(Order, "first").items.send(1)
    assert await client.get_handle(Order.fill, "first").result() == 1
    await orders.run_until_idle()
    await orders.transport.publish(topic, [make_start("first"), make_start("attached")])
    await orders.run_until_idle()
    assert [each.id for each in orders.system.database.list_keys()] == ["first"]
    assert find_holder(orders) == []


async def test_S32_a_start_in_the_dead_letters_frees_the_custom_id(orders: Simulation) -> None:
    """It was claimed, and its start cannot be handled: it is too old, say."""
    client = orders.client
    old = orders.now.timestamp()
    await client.get_ids(client.get_workflow_by_custom_id(Order, "order-42"))
    start = engine.Start(made_at=old, method="fill", arguments=Raw(b"[1]"), custom_id="order-42")
    await orders.sleep(timedelta(days=15))
    now = orders.now.timestamp()
    unique = tags.StartUnique(made_at=now, id="too-old", start=Raw(engine.encode(start)))
    message = Message("too-old", tags.make_custom_id_key("order-42"), tags.encode(unique))
    await orders.transport.publish(topics.workflow_tag("Order"), [message])
    await orders.run_until_idle()
    assert find_holder(orders) == []
    handle = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    assert handle.workflow_id != "too-old"
    await client.cancel(handle)


async def test_the_holder_is_found_by_its_custom_id(orders: Simulation) -> None:
    client = orders.client
    order = client.get_workflow_by_custom_id(Order, "order-42")
    assert await client.get_ids(order) == []
    handle = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 2)
    assert await client.get_ids(order) == [handle.workflow_id]
    await order.items.send(3, confirm=True)
    assert await order.peek() == 3
    assert await (await client.dispatch(order.peek)).result() == 3
    assert (await client.describe(order)).workflow_id == handle.workflow_id
    await client.cancel(order, confirm=True)
    with pytest.raises(WorkflowCanceledError):
        await handle.result()


async def test_a_custom_id_that_nobody_holds(orders: Simulation) -> None:
    client = orders.client
    order = client.get_workflow_by_custom_id(Order, "order-42")
    with pytest.raises(WorkflowUnknownError, match="with custom id 'order-42'"):
        await order.peek()
    with pytest.raises(WorkflowUnknownError):
        await order.items.send(1)
    with pytest.raises(WorkflowUnknownError):
        await client.describe(order)


async def test_a_total_timeout_counts_for_who_attaches(orders: Simulation) -> None:
    client = orders.client
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-42").slow)
    with pytest.raises(WorkflowTimedOutError):
        await client.new_workflow(Order, custom_id="order-42").slow()
    await client.cancel(holder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "A custom id must be non-empty text"),
        (7, "A custom id must be non-empty text, got 7"),
        ("x" * 256, "A custom id has 256 bytes"),
        (["order-1", "order-2"], "An instance has one custom id, which is a text"),
    ],
)
def test_a_bad_custom_id_is_refused_at_the_call(orders: Simulation, given: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        orders.client.new_workflow(Order, custom_id=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=message):
        orders.client.get_workflow_by_custom_id(Order, given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_S32_a_replayed_start_claims_the_custom_id_again(orders: Simulation) -> None:
    """Or goes back to the dead letters, if another instance holds it."""
    client = orders.client
    topic, key = topics.workflow_tag("Order"), tags.make_custom_id_key("order-42")
    now = orders.now.timestamp()
    start = Raw(engine.encode(engine.Start(made_at=now, method="fill", arguments=Raw(b"[1]"), custom_id="order-42")))

    async def publish(*messages: tags.TagMessage) -> None:
        await orders.transport.publish(topic, [Message("buried", key, tags.encode(each)) for each in messages])
        await orders.run_until_idle()

    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    await publish(
        tags.RemoveTag(made_at=now, id="buried", version=tags.version_freed(0)),
        tags.Reclaim(made_at=now, id="buried", start=start),
    )
    assert [each.id for each in orders.system.database.list_keys()] == [holder.workflow_id]
    await client.cancel(holder, confirm=True)
    await orders.run_until_idle()
    await publish(tags.Reclaim(made_at=now, id="buried", start=start))
    assert find_holder(orders) == ["buried"]
    # Again, while it runs: its start is repeated, and changes nothing.
    await publish(tags.Reclaim(made_at=now, id="buried", start=start))
    await client.get_workflow_by_id(Order, "buried").items.send(5)
    assert await client.get_handle(Order.fill, "buried").result() == 5
    await orders.run_until_idle()
    assert find_holder(orders) == []
    await publish(tags.Reclaim(made_at=now, id="buried", start=start))
    assert find_holder(orders) == []


async def test_S32_a_replayed_start_frees_the_custom_id_also_after_a_crash(orders: Simulation) -> None:
    """The tag engine has claimed it, and died before it sent the start."""
    key = TagKey(TagKind.CUSTOM_ID, "Order", "order-42")
    now = orders.now.timestamp()
    database = orders.system.database.tags
    database.update([TagChange(key, "buried", False, tags.version_freed(0), now)])
    assert database.claim(key, "buried", tags.version_claimed(1), now).granted
    start = Raw(engine.encode(engine.Start(made_at=now, method="fill", arguments=Raw(b"[0]"), custom_id="order-42")))
    again = tags.encode(tags.Reclaim(made_at=now, id="buried", start=start))
    message = Message("buried", tags.make_custom_id_key("order-42"), again)
    await orders.transport.publish(topics.workflow_tag("Order"), [message])
    await orders.run_until_idle()
    assert [each.id for each in orders.system.database.list_keys()] == ["buried"]
    assert find_holder(orders) == []


def test_S32_a_start_that_is_too_large_for_the_storage_frees_the_custom_id() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            sim.add_workflow(Order)
            sim.system.database.max_value = 200_000
            start = sim.client.new_workflow(Order, custom_id="order-42", meta={"note": b"x" * 200_000})
            with pytest.raises(RequestRefusedError):
                await start.fill(1)
            await sim.run_until_idle()
            assert find_holder(sim) == []

    Simulation.run(main())


class Parent(Workflow):
    order = Workflow.new_workflow(Order, custom_id="order-42", tags={"children"})

    async def buy(self, number: int) -> int:
        return await self.order.fill(number)

    async def peek(self) -> int:
        return await self.get_workflow_by_custom_id(Order, "order-42").peek()

    async def send(self, item: int) -> None:
        await self.get_workflow_by_custom_id(Order, "order-42").items.send(item)


async def test_S32_a_parent_attaches_to_the_running_instance(orders: Simulation) -> None:
    """It does not wait for ever (F4)."""
    orders.add_workflow(Parent)
    client = orders.client
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    parent = await client.dispatch(client.new_workflow(Parent).buy, 99)
    await orders.run_until_idle()
    await client.new_workflow(Parent).send(4)
    assert (await parent.result(), await holder.result()) == (4, 4)


async def test_S32_cancelling_a_parent_leaves_the_instance_alone_that_it_attached_to(orders: Simulation) -> None:
    orders.add_workflow(Parent)
    client = orders.client
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 1)
    parent = await client.dispatch(client.new_workflow(Parent).buy, 1)
    await orders.run_until_idle()
    await client.cancel(parent)
    with pytest.raises(WorkflowCanceledError):
        await parent.result()
    await orders.run_until_idle()
    await client.get_workflow_by_id(Order, holder.workflow_id).items.send(4)
    assert await holder.result() == 4


async def test_S29_cancelling_a_parent_cancels_the_child_that_it_started(orders: Simulation) -> None:
    orders.add_workflow(Parent)
    client = orders.client
    parent = await client.dispatch(client.new_workflow(Parent).buy, 1)
    await orders.run_until_idle()
    [child] = await client.get_ids(client.get_workflow_by_tag(Order, "children"))
    assert find_holder(orders) == [child]
    await client.cancel(parent)
    with pytest.raises(WorkflowCanceledError):
        await client.get_handle(Order.fill, child).result()
    await orders.run_until_idle()
    assert find_holder(orders) == []
    assert await client.get_ids(client.get_workflow_by_tag(Order, "children")) == []


async def test_a_workflow_calls_the_holder_of_a_custom_id(orders: Simulation) -> None:
    orders.add_workflow(Parent)
    client = orders.client
    with pytest.raises(WorkflowFailedError, match="with custom id 'order-42'"):
        await client.new_workflow(Parent).peek()
    holder = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill, 2)
    await client.new_workflow(Parent).send(4)
    assert await client.new_workflow(Parent).peek() == 4
    await client.cancel(holder)


async def test_a_workflow_cannot_call_methods_by_tag(sim: Simulation) -> None:
    class Caller(Workflow):
        async def run(self) -> list[str]:
            errors: list[str] = []
            by_tag = self.get_workflow_by_tag(Order, "eu")
            try:
                self.dispatch(by_tag.peek)
            except UsageError as error:
                errors.append(str(error))
            try:
                await by_tag.peek()
            except UsageError as error:
                errors.append(str(error))
            return errors

    sim.add_workflow(Caller)
    dispatched, awaited = await sim.client.new_workflow(Caller).run()
    for text in (dispatched, awaited):
        assert "by tag 'eu', since many instances may have it" in text


class Purse:
    async def pay(self, amount: int) -> int:
        raise NotImplementedError


class Purchase(Workflow):
    purse = Workflow.new_service(Purse)

    async def buy(self, amount: int) -> str:
        return f"paid {await self.purse.pay(amount)}"

    async def buy_or_not(self, amount: int) -> str:
        try:
            return await self.buy(amount)
        except TaskFailedError:
            return "not bought"


def list_holders(sim: Simulation) -> list[str]:
    key = TagKey(TagKind.CUSTOM_ID, "Purchase", "purchase-1")
    return sim.system.database.tags.members(key, until=None, after="", limit=10)


async def test_S34_a_closed_instance_claims_its_custom_id_again_when_it_is_reopened(sim: Simulation) -> None:
    purse = sim.mock(Purse)
    purse.pay.raises(ConnectionError).returns(7)
    sim.add_workflow(Purchase)
    client = sim.client
    handle = await client.dispatch(client.new_workflow(Purchase, custom_id="purchase-1", tags={"eu"}).buy, 7)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    await sim.run_until_idle()
    assert list_holders(sim) == []
    await client.retry_tasks(handle)
    assert await handle.result() == "paid 7"
    await sim.run_until_idle()
    # It is free again, and the next one gets it.
    assert list_holders(sim) == []
    other = await client.dispatch(client.new_workflow(Purchase, custom_id="purchase-1").buy, 7)
    assert other.workflow_id != handle.workflow_id
    assert await other.result() == "paid 7"


async def test_S34_reopening_is_refused_while_another_instance_has_the_custom_id(sim: Simulation) -> None:
    purse = sim.mock(Purse)
    purse.pay.raises(ConnectionError).raises(ConnectionError).returns(7)
    sim.add_workflow(Purchase)
    client = sim.client
    handle = await client.dispatch(client.new_workflow(Purchase, custom_id="purchase-1").buy, 7)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    # Another instance holds it now.
    claim = sim.system.database.tags.claim
    claim(TagKey(TagKind.CUSTOM_ID, "Purchase", "purchase-1"), "another", 0, sim.now.timestamp())
    with pytest.raises(RequestRefusedError, match="the instance another has it by now"):
        await client.retry_tasks(handle)
    assert list_holders(sim) == ["another"]
    # Once that one has closed, it may be re-opened: it fails once more, and then succeeds.
    freed = TagChange(TagKey(TagKind.CUSTOM_ID, "Purchase", "purchase-1"), "another", False, 1, sim.now.timestamp())
    sim.system.database.tags.update([freed])
    await client.retry_tasks(handle)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    await client.retry_tasks(handle)
    assert await handle.result() == "paid 7"
    await sim.run_until_idle()
    assert list_holders(sim) == []


async def test_S34_a_refused_reopening_frees_the_custom_id(sim: Simulation) -> None:
    """Its code has dealt with the failure. Only the probe finds that, after the claim."""
    purse = sim.mock(Purse)
    purse.pay.raises(ConnectionError)
    sim.add_workflow(Purchase)
    client = sim.client
    start = client.new_workflow(Purchase, custom_id="purchase-1", tags={"eu"})
    handle = await client.dispatch(start.buy_or_not, 7)
    assert await handle.result() == "not bought"
    for _ in range(3):
        with pytest.raises(RequestRefusedError):
            await client.retry_tasks(handle)
        await sim.run_until_idle()
        assert list_holders(sim) == []
    assert await client.get_ids(client.get_workflow_by_tag(Purchase, "eu")) == []
    assert await handle.result() == "not bought"
