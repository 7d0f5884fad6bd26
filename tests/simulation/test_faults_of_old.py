"""Faults that a predecessor is known for, one test each, and versions side by side."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec import Raw

from infinitic import Channel, TaskFailedError, Workflow, WorkflowCodeError, workflow
from infinitic.engines import state
from infinitic.messages import engine
from infinitic.storage import Change, Lost, Query, StateKey, Written
from infinitic.topics import Ordering, Topic, workflow_engine
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


class Desk:
    async def ask(self, what: str) -> str:
        if what == "bad":
            raise ValueError(what)
        return what


class Forgiving(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> str:
        try:
            return await self.desk.ask("bad")
        except TaskFailedError:
            return "forgiven"


async def test_F2_a_workflow_that_caught_a_failure_is_deleted_like_any_other(sim: Simulation) -> None:
    sim.add_service(Desk())
    sim.add_workflow(Forgiving, retention=60)
    assert await sim.client.new_workflow(Forgiving).run() == "forgiven"
    assert len((await sim.storage.states.find(Query())).found) == 1
    await sim.sleep(timedelta(hours=2))
    assert (await sim.storage.states.find(Query())).found == []


def test_F3_a_batch_tells_the_truth_for_each_key() -> None:
    async def main() -> None:
        states = InMemoryStorage().states
        one, two = StateKey("W", "1"), StateKey("W", "2")
        assert await states.commit([Change(one, None, 1, b"a", 0.0)]) == [Written(1)]
        outcomes = await states.commit([Change(one, None, 2, b"lost", 0.0), Change(two, None, 1, b"b", 0.0)])
        assert outcomes == [Lost(1), Written(1)]
        stored = await states.load([one, two])
        assert (stored[one].head, stored[two].head) == (b"a", b"b")

    run(main())


class Resetting(Workflow):
    desk = Workflow.new_service(Desk)
    word: str | None = "set by the class"

    async def run(self) -> str | None:
        self.word = await self.desk.ask("set")
        self.word = None
        await self.desk.ask("again")
        return self.word


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_F8_an_attribute_that_was_set_to_none_stays_none(cache_size: int) -> None:
    async def main() -> None:
        async with Simulation(cache_size=cache_size) as sim:
            sim.add_service(Desk())
            sim.add_workflow(Resetting)
            assert await sim.client.new_workflow(Resetting).run() is None

    run(main())


def test_F9_a_message_that_is_given_back_in_memory_is_not_lost() -> None:
    async def main() -> None:
        transport, topic = InMemoryTransport(), Topic("t", Ordering.SHARED, "main")
        await transport.declare([topic])
        await transport.publish(topic, [Message("1", None, b"x")])
        consumer = await transport.subscribe(topic, "main", 10)
        (first,) = await consumer.receive(10)
        await consumer.nack(first)
        (second,) = await consumer.receive(10)
        assert (second.message.body, second.attempt) == (b"x", 2)

    asyncio.run(main())


class Waking(Workflow):
    letters = Channel[str]()
    broken = True

    async def run(self) -> str:
        if type(self).broken:
            await asyncio.to_thread(len, "no threads here")
        return await self.letters.receive()


async def test_F10_a_first_activation_that_fails_after_a_reorder_can_be_run_again(sim: Simulation) -> None:
    Waking.broken = True
    sim.add_workflow(Waking)
    topic, key, now = workflow_engine("Waking"), "overtaken", sim.clock.now()
    signal = engine.Signal(made_at=now, signal_id="s", channel="letters", value=Raw(b'"kept"'))
    start = engine.Start(made_at=now, method="run", arguments=Raw(b"[]"))
    await sim.transport.declare([topic])
    await sim.transport.publish(topic, [Message(key, key, engine.encode(each)) for each in (signal, start)])
    await sim.sleep(20)
    handle = sim.client.get_handle(Waking.run, key)
    running = sim.client.get_workflow_by_id(Waking, key)
    assert "run_in_executor" in str((await sim.client.describe(running)).stalled)
    assert isinstance(sim.worker.stalled[key], WorkflowCodeError)
    Waking.broken = False
    await sim.client.retry_workflow_task(running, confirm=True)
    assert await handle.result() == "kept"


@workflow(name="Evolving")
class EvolvingOne(Workflow):
    go = Channel[bool]()

    async def run(self) -> str:
        await self.go.receive()
        return "one"


@workflow(name="Evolving", version=1)
class EvolvingTwo(Workflow):
    go = Channel[bool]()

    async def run(self) -> str:
        await self.go.receive()
        return "two"


class Order(Workflow):
    paid = Channel[int]()

    async def fill(self) -> int:
        return await self.paid.receive()


class Shop(Workflow):
    order = Workflow.new_workflow(Order, custom_id="order-42")

    async def sell(self) -> int:
        return await self.order.fill()


async def test_F4_a_second_start_with_a_custom_id_hangs_neither_client_nor_parent(sim: Simulation) -> None:
    """All who started it get the result of the one that runs."""
    sim.add_workflow(Order)
    sim.add_workflow(Shop)
    client = sim.client
    first = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill)
    second = await client.dispatch(client.new_workflow(Order, custom_id="order-42").fill)
    parent = await client.dispatch(client.new_workflow(Shop).sell)
    await sim.run_until_idle()
    await client.get_workflow_by_id(Order, first.workflow_id).paid.send(7)
    assert [await each.result(timeout=60) for each in (first, second, parent)] == [7, 7, 7]


class Member(Workflow):
    news = Channel[str]()

    async def join(self) -> list[str]:
        await self.get_workflow_by_tag(Member, "club").news.send(f"{self.context.workflow_id[:4]} joined")
        return [await self.news.receive()]


async def test_F5_a_workflow_may_address_a_tag_that_it_carries_itself(sim: Simulation) -> None:
    """Its signal reaches it, and nothing becomes a dead letter."""
    sim.add_workflow(Member)
    handle = await sim.client.dispatch(sim.client.new_workflow(Member, tags={"club"}).join)
    assert await handle.result(timeout=60) == [f"{handle.workflow_id[:4]} joined"]
    await sim.run_until_idle()
    assert not [name for name in sim.transport.broker.overview() if name.startswith("dlq:")]


async def test_S18_new_instances_take_the_highest_version_and_old_ones_keep_theirs(sim: Simulation) -> None:
    sim.add_workflow(EvolvingOne)
    old = await sim.client.dispatch(sim.client.new_workflow(EvolvingOne).run)
    await sim.run_until_idle()
    sim.add_workflow(EvolvingTwo)
    new = await sim.client.dispatch(sim.client.new_workflow(EvolvingTwo).run)
    for handle in (old, new):
        await sim.client.get_workflow_by_id(EvolvingTwo, handle.workflow_id).go.send(True)
    assert (await old.result(), await new.result()) == ("one", "two")


def test_S18_a_version_that_nobody_has_waits_for_a_worker_that_has_it() -> None:
    async def main() -> None:
        async with Simulation(cache_size=0) as first:
            first.add_workflow(EvolvingOne)
            handle = await first.client.dispatch(first.client.new_workflow(EvolvingOne).run)
            await first.run_until_idle()
            specs = first.worker.workflow_specs("Evolving")
            assert isinstance(specs, dict)
            (kept,) = [specs.pop(0)]  # the code of version 0 is gone from this worker
            first.add_workflow(EvolvingTwo)
            await first.client.get_workflow_by_id(EvolvingOne, handle.workflow_id).go.send(True)
            await first.sleep(timedelta(hours=3))  # far longer than the budget of a message that fails
            key = StateKey("Evolving", handle.workflow_id)
            head = state.decode((await first.storage.states.load([key]))[key].head)
            assert (head.version, head.parked, head.stalled) == (0, False, None)
            specs[0] = kept
            assert await handle.result() == "one"

    run(main())
