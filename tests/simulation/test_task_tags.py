"""Tags of tasks: which tasks have one, and what is left of them when tasks end (S31)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import (
    ExponentialBackoff,
    RequestRefusedError,
    TaskCanceledError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    task,
    topics,
)
from infinitic.messages import task_tags
from infinitic.messages.tags import make_custom_id_key, make_tag_key
from infinitic.messages.task_tags import AddTaskTag, RemoveTaskTag, make_token
from infinitic.storage import TagKey, TagKind
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation


class Payments:
    """Some of its tasks go on until they are told to end."""

    def __init__(self) -> None:
        self.going = asyncio.Event()
        self.broken = True
        self.stopped: list[int] = []

    async def charge(self, amount: int) -> int:
        try:
            await self.going.wait()
        except asyncio.CancelledError:
            self.stopped.append(amount)
            raise
        return amount

    async def fail(self, amount: int) -> int:
        if self.broken:
            raise ValueError("no")
        return amount

    @task(retry=ExponentialBackoff(minimum_seconds=3600.0, random_factor=0.0))
    async def fail_slowly(self, amount: int) -> int:
        raise ValueError("not yet")


class Order(Workflow):
    payments = Workflow.new_service(Payments, tags={"eu", "order-1"})
    limited = Workflow.new_service(Payments, tags={"limited"}, total_timeout=60)
    others = Workflow.new_service(Payments)

    async def charge(self, count: int) -> list[Any]:
        charges = [self.dispatch(self.payments.charge, number) for number in range(count)]
        outcomes: list[Any] = []
        for charge in charges:
            try:
                outcomes.append(await charge)
            except TaskCanceledError as error:
                outcomes.append(f"canceled: {error.task_id}")
        return outcomes

    async def charge_others(self) -> int:
        return await self.others.charge(1)

    async def charge_in_time(self) -> int:
        return await self.limited.charge(1)

    async def fail(self) -> int:
        return await self.payments.fail(1)

    async def fail_without_tag(self) -> int:
        return await self.others.fail(1)

    async def fail_together(self, count: int) -> list[int]:
        tasks = [self.dispatch(self.payments.fail, number) for number in range(count)]
        # All of them end before the first failure is looked at.
        await asyncio.sleep(10)
        return [await each for each in tasks]

    async def fail_slowly(self) -> int:
        return await self.payments.fail_slowly(1)

    async def change_mind(self) -> str:
        first = self.dispatch(self.payments.charge, 1)
        await asyncio.sleep(10)
        first.cancel()
        return "changed"


@pytest.fixture
def payments() -> Payments:
    return Payments()


@pytest.fixture
def orders(sim: Simulation, payments: Payments) -> Simulation:
    sim.add_service(payments)
    sim.add_workflow(Order)
    return sim


def count_tagged(sim: Simulation, tag: str) -> int:
    return sim.system.database.tags.count(TagKey(TagKind.TASK, "Payments", tag))


async def publish_by_hand(sim: Simulation, key: str, *messages: task_tags.TaskTagMessage) -> None:
    made = [Message("by-hand", key, task_tags.encode(each)) for each in messages]
    await sim.transport.publish(topics.service_tag("Payments"), made)
    await sim.run_until_idle()


async def test_S31_tasks_have_their_tags_until_they_complete(orders: Simulation, payments: Payments) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).charge, 3)
    await client.dispatch(client.new_workflow(Order).charge_others)
    await orders.sleep(1.0)
    for tag in ("eu", "order-1"):
        found = await client.get_tasks(Payments, tag)
        assert [each.task_id for each in found] == [f"{handle.workflow_id}-{number}" for number in range(3)]
        assert {each.workflow_name for each in found} == {"Order"}
        assert {each.workflow_id for each in found} == {handle.workflow_id}
    assert await client.get_tasks("Payments", "us") == []
    payments.going.set()
    assert await handle.result() == [0, 1, 2]
    await orders.run_until_idle()
    assert await client.get_tasks(Payments, "eu") == []


async def test_tasks_are_listed_in_pages(orders: Simulation, payments: Payments) -> None:
    client = orders.client
    handles = [await client.dispatch(client.new_workflow(Order).charge, 4) for _ in range(2)]
    await orders.sleep(1.0)
    everything = await client.get_tasks(Payments, "eu")
    assert len(everything) == 8
    first = await client.get_tasks(Payments, "eu", limit=3)
    rest = await client.get_tasks(Payments, "eu", after=first[-1])
    assert first + rest == everything
    assert len({each.workflow_id for each in everything[:4]}) == 1, "those of one instance are side by side"
    payments.going.set()
    for handle in handles:
        await handle.result()


async def test_S31_a_failed_task_keeps_its_tags_until_the_window_is_over(
    orders: Simulation, payments: Payments
) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).fail)
    await orders.run_until_idle()
    [failed] = await client.get_tasks(Payments, "eu")
    assert failed.task_id == f"{handle.workflow_id}-0"
    # It runs again, and completes.
    payments.broken = False
    await client.retry_tasks(handle)
    assert await handle.result() == 1
    await orders.run_until_idle()
    assert count_tagged(orders, "eu") == 0


async def test_a_failed_task_loses_its_tags_at_last(orders: Simulation) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).fail)
    with pytest.raises(Exception, match="no"):
        await handle.result()
    assert count_tagged(orders, "eu") == 1
    await orders.sleep(orders.system.database.deduplication_window + 7200.0)
    assert count_tagged(orders, "eu") == 0


@pytest.mark.parametrize("method", ["change_mind", "charge_in_time"])
async def test_S31_a_task_that_nobody_waits_for_loses_its_tags(orders: Simulation, method: str) -> None:
    client = orders.client
    await client.dispatch(getattr(client.new_workflow(Order), method))
    tag = "limited" if method == "charge_in_time" else "eu"
    await orders.sleep(1.0)
    assert count_tagged(orders, tag) == 1
    await orders.sleep(100.0)
    assert count_tagged(orders, tag) == 0


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
@pytest.mark.parametrize("method", ["charge", "fail_slowly"])
async def test_S31_tasks_of_an_instance_that_ends_lose_their_tags(orders: Simulation, verb: str, method: str) -> None:
    """Also one that waits for its next attempt, and is with nobody."""
    client = orders.client
    started = getattr(client.new_workflow(Order), method)
    handle = await (client.dispatch(started, 2) if method == "charge" else client.dispatch(started))
    await orders.sleep(1.0)
    assert count_tagged(orders, "eu") == (2 if method == "charge" else 1)
    await getattr(client, verb)(handle)
    await orders.run_until_idle()
    assert count_tagged(orders, "eu") == 0


async def test_S31_tags_of_an_ended_task_stay_gone_whatever_comes_late(orders: Simulation, payments: Payments) -> None:
    client = orders.client
    began = orders.now.timestamp()
    payments.going.set()
    handle = await client.dispatch(client.new_workflow(Order).charge, 1)
    await handle.result()
    await orders.run_until_idle()
    token = make_token("Order", handle.workflow_id, 0, 0)
    late = AddTaskTag(made_at=began, token=token, version=task_tags.version_added(0))
    await publish_by_hand(orders, make_tag_key("eu"), late)
    assert count_tagged(orders, "eu") == 0


async def test_S25_tasks_are_cancelled_by_tag(orders: Simulation, payments: Payments) -> None:
    """The code is told, and goes on; whoever runs the tasks stops."""
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).charge, 2)
    other = await client.dispatch(client.new_workflow(Order).charge_others)
    await orders.sleep(1.0)
    await client.cancel_tasks(Payments, "order-1")
    outcome = await handle.result()
    assert outcome == [f"canceled: {handle.workflow_id}-{number}" for number in range(2)]
    await orders.run_until_idle()
    assert sorted(payments.stopped) == [0, 1]
    assert count_tagged(orders, "eu") == 0
    payments.going.set()
    assert await other.result() == 1, "it has no tag"


async def test_S25_a_cancellation_by_tag_fails_a_method_that_does_not_catch_it(orders: Simulation) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).charge_in_time)
    await orders.sleep(1.0)
    await client.cancel_tasks("Payments", "limited")
    with pytest.raises(Exception, match="cancel"):
        await handle.result()


async def test_S31_a_cancellation_by_tag_changes_only_open_tasks(orders: Simulation, payments: Payments) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).fail)
    await orders.run_until_idle()
    await client.cancel_tasks(Payments, "eu")
    await orders.run_until_idle()
    assert count_tagged(orders, "eu") == 1
    payments.broken = False
    await client.retry_tasks(handle)
    assert await handle.result() == 1


async def test_S34_failed_tasks_are_retried_by_tag(orders: Simulation, payments: Payments) -> None:
    """In all instances that have such tasks, and no others."""
    client = orders.client
    failed = [await client.dispatch(client.new_workflow(Order).fail) for _ in range(3)]
    waiting = await client.dispatch(client.new_workflow(Order).charge, 1)
    other = await client.dispatch(client.new_workflow(Order).fail_without_tag)
    await orders.run_until_idle()
    payments.broken = False
    await client.retry_tasks(service=Payments, tag="eu")
    await orders.run_until_idle()
    assert [await handle.result() for handle in failed] == [1, 1, 1]
    await orders.run_until_idle()
    assert [each.workflow_id for each in await client.get_tasks(Payments, "eu")] == [waiting.workflow_id]
    with pytest.raises(WorkflowFailedError):
        await other.result()
    with pytest.raises(RequestRefusedError, match="no failed task with tag eu"):
        await client.retry_tasks(other, tag="eu")
    payments.going.set()
    assert await waiting.result() == [0]


async def test_S34_many_failed_tasks_of_one_instance_are_retried_together(
    orders: Simulation, payments: Payments
) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).fail_together, 3)
    await orders.run_until_idle()
    assert count_tagged(orders, "eu") == 3
    payments.broken = False
    await client.retry_tasks(service="Payments", tag="eu", task="fail")
    await orders.run_until_idle()
    assert await handle.result() == [0, 1, 2]
    await orders.run_until_idle()
    assert count_tagged(orders, "eu") == 0


async def test_a_cancelled_task_stands_in_the_run(orders: Simulation) -> None:
    client = orders.client
    handle = await client.dispatch(client.new_workflow(Order).charge, 1)
    await orders.sleep(1.0)
    await client.cancel_tasks(Payments, "eu")
    await handle.result()
    [step] = orders.steps(handle)
    assert "cancelled" in str(step)


async def test_S38_messages_that_are_no_tags_of_tasks_become_dead_letters(orders: Simulation) -> None:
    client = orders.client
    await client.get_tasks(Payments, "eu")
    now = orders.now.timestamp()
    add = AddTaskTag(made_at=now, token=make_token("Order", "x", 0, 0), version=0)
    await publish_by_hand(orders, make_custom_id_key("eu"), add)
    for token in ("x", "5/Order/x/0/-1", "5/Order/x/00/1", "05/Order/x/0/1", "5/Order/x/0", "6/Order/x/0/1"):
        await publish_by_hand(orders, make_tag_key("eu"), RemoveTaskTag(made_at=now, token=token, version=1))
    old = AddTaskTag(made_at=1.0, token=make_token("Order", "x", 0, 0), version=0)
    await publish_by_hand(orders, make_tag_key("eu"), old)
    assert count_tagged(orders, "eu") == 0
    letters = orders.system.broker.overview()["dlq:service-tag:Payments"]
    assert sum(stats.backlog for stats in letters.values()) == 8


async def test_bad_arguments_are_named_at_the_call(orders: Simulation) -> None:
    client = orders.client
    with pytest.raises(UsageError, match="limit of get_tasks must be 1 or more"):
        await client.get_tasks(Payments, "eu", limit=0)
    with pytest.raises(UsageError, match="A tag must be non-empty text"):
        await client.get_tasks(Payments, "")
    with pytest.raises(UsageError, match="last task of the page before"):
        await client.get_tasks(Payments, "eu", after="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="cancel_tasks takes the class of a service"):
        await client.cancel_tasks(Payments(), "eu")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="is a workflow"):
        await client.cancel_tasks(Order, "eu")
    incomplete: list[dict[str, Any]] = [{}, {"service": Payments}, {"tag": "eu"}]
    for wrong in incomplete:
        with pytest.raises(UsageError, match="or service=… and tag=… of tasks"):
            await client.retry_tasks(**wrong)
    for status in ("timed_out", "completed"):
        with pytest.raises(UsageError, match="no other status"):
            await client.retry_tasks(service=Payments, tag="eu", status=status)
