"""Tags: who has one, messages by tag, and what is left of them when instances close."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import Raw

from infinitic import Channel, UsageError, Workflow, WorkflowCanceledError, task, topics
from infinitic.errors import InfiniticError
from infinitic.messages import engine, tags
from infinitic.storage import TagKey, TagKind
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation


class Trip(Workflow):
    approvals = Channel[bool]()
    points = 0

    async def book(self) -> list[str]:
        await self.approvals.receive()
        return [*self.context.tags, str(self.points)]

    async def add(self, points: int) -> int:
        self.points += points
        return self.points

    async def fail(self) -> None:
        raise ValueError("no")


@pytest.fixture
def trips(sim: Simulation) -> Simulation:
    sim.add_workflow(Trip)
    return sim


def count_members(sim: Simulation, tag: str) -> int:
    return sim.system.database.tags.count(TagKey(TagKind.WORKFLOW, "Trip", tag))


async def publish_by_hand(sim: Simulation, tag: str, *messages: tags.TagMessage) -> None:
    topic = topics.workflow_tag("Trip")
    key = tags.make_tag_key(tag)
    await sim.transport.publish(topic, [Message("by-hand", key, tags.encode(each)) for each in messages])
    await sim.run_until_idle()


async def test_S31_ids_of_a_tag_count_one_while_it_runs_and_none_after_it_closed(trips: Simulation) -> None:
    client = trips.client
    handle = await client.dispatch(client.new_workflow(Trip, tags={"eu", "vip"}).book)
    by_tag = client.get_workflow_by_tag(Trip, "eu")
    assert await client.get_ids(by_tag) == [handle.workflow_id]
    await by_tag.approvals.send(True)
    assert await handle.result() == ["eu", "vip", "0"]
    await trips.run_until_idle()
    assert await client.get_ids(by_tag) == []


async def test_S31_the_engine_adds_the_tags_again(trips: Simulation) -> None:
    """The client may die before its own tags are taken, or another client may remove them."""
    client = trips.client
    handle = await client.dispatch(client.new_workflow(Trip, tags={"eu"}).book)
    await trips.run_until_idle()
    now = trips.now.timestamp()
    await publish_by_hand(trips, "eu", tags.RemoveTag(made_at=now, id=handle.workflow_id, version=1))
    assert await client.get_ids(client.get_workflow_by_tag(Trip, "eu")) == [handle.workflow_id]


@pytest.mark.parametrize("method", ["book", "fail"])
async def test_S31_tags_of_a_closed_instance_stay_gone_whatever_comes_late(trips: Simulation, method: str) -> None:
    client = trips.client
    start = client.new_workflow(Trip, tags={"eu"})
    started_at = trips.now.timestamp()
    handle = await client.dispatch(getattr(start, method))
    await client.get_workflow_by_tag(Trip, "eu").approvals.send(True)
    await trips.run_until_idle()
    assert count_members(trips, "eu") == 0
    late = [
        tags.AddTag(made_at=started_at, id=handle.workflow_id, version=version)
        for version in (tags.ADDED_BY_CLIENT, tags.version_added(0))
    ]
    await publish_by_hand(trips, "eu", *late)
    assert count_members(trips, "eu") == 0


async def test_S31_a_message_by_tag_takes_an_instance_off_that_was_never_started(trips: Simulation) -> None:
    """A client has died between its tag and its start."""
    now = trips.now.timestamp()
    await trips.client.get_ids(trips.client.get_workflow_by_tag(Trip, "eu"))
    await publish_by_hand(trips, "eu", tags.AddTag(made_at=now, id="phantom"))
    assert count_members(trips, "eu") == 1
    await trips.client.get_workflow_by_tag(Trip, "eu").approvals.send(True)
    await trips.sleep(10.0)
    assert count_members(trips, "eu") == 0
    # Its start comes at last, and wins.
    start = engine.Start(made_at=now, method="book", arguments=Raw(b"[]"), tags=("eu",))
    body = engine.encode(start)
    await trips.transport.publish(topics.workflow_engine("Trip"), [Message("phantom", "phantom", body)])
    await trips.run_until_idle()
    assert count_members(trips, "eu") == 1
    await trips.client.cancel(trips.client.get_workflow_by_id(Trip, "phantom"))


async def test_S30_a_broadcast_calls_a_method_of_all_and_waits_for_none(trips: Simulation) -> None:
    client = trips.client
    handles = [await client.dispatch(client.new_workflow(Trip, tags={"eu"}).book) for _ in range(3)]
    other = await client.dispatch(client.new_workflow(Trip, tags={"us"}).book)
    by_tag = client.get_workflow_by_tag(Trip, "eu")
    await client.broadcast(by_tag.add, 10)
    await client.broadcast(by_tag.add, 5)
    await by_tag.approvals.send(True)
    await client.get_workflow_by_tag(Trip, "us").approvals.send(True)
    assert [await handle.result() for handle in handles] == [["eu", "15"]] * 3
    assert await other.result() == ["us", "0"]


async def test_S35_cancel_by_tag(trips: Simulation) -> None:
    client = trips.client
    handles = [await client.dispatch(client.new_workflow(Trip, tags={tag}).book) for tag in ("eu", "eu", "us")]
    await client.cancel(client.get_workflow_by_tag(Trip, "eu"))
    for handle in handles[:2]:
        with pytest.raises(WorkflowCanceledError):
            await handle.result()
    await client.get_workflow_by_tag(Trip, "us").approvals.send(True)
    assert await handles[2].result() == ["us", "0"]


async def test_ids_come_in_pages(trips: Simulation) -> None:
    client = trips.client
    for _ in range(5):
        await client.dispatch(client.new_workflow(Trip, tags={"eu"}).book)
    by_tag = client.get_workflow_by_tag(Trip, "eu")
    everybody = await client.get_ids(by_tag)
    assert everybody == sorted(everybody)
    assert len(everybody) == 5
    first = await client.get_ids(by_tag, limit=2)
    assert first + await client.get_ids(by_tag, after=first[-1]) == everybody
    await client.cancel(by_tag)


async def test_a_tag_of_any_text(trips: Simulation) -> None:
    client = trips.client
    tag = "日本 / t: \x00" + "x" * 200
    handle = await client.dispatch(client.new_workflow(Trip, tags=[tag]).book)
    await client.get_workflow_by_tag(Trip, tag).approvals.send(True)
    assert await handle.result() == [tag, "0"]


class Echo(Workflow):
    letters = Channel[str]()

    async def speak(self) -> str:
        await self.get_workflow_by_tag(Echo, "echoes").letters.send("hello")
        return await self.letters.receive()


async def test_F5_a_workflow_signals_a_tag_that_it_has_itself(sim: Simulation) -> None:
    """S31."""
    sim.add_workflow(Echo)
    assert await sim.client.new_workflow(Echo, tags={"echoes"}).speak() == "hello"
    dead = topics.dead_letters(topics.workflow_engine("Echo"))
    assert not (await sim.transport.stats(dead)).subscriptions


# Mistakes are told at the call.


async def test_a_method_by_tag_cannot_be_awaited_or_dispatched(trips: Simulation) -> None:
    by_tag = trips.client.get_workflow_by_tag(Trip, "eu")
    with pytest.raises(UsageError, match=r"Trip.add by tag cannot be awaited.*broadcast"):
        await by_tag.add(1)
    with pytest.raises(UsageError, match=r"Trip.add by tag cannot be dispatched"):
        await trips.client.dispatch(by_tag.add, 1)


async def test_what_needs_one_instance_refuses_a_tag(trips: Simulation) -> None:
    by_tag = trips.client.get_workflow_by_tag(Trip, "eu")
    with pytest.raises(UsageError, match="'eu' may have many instances of Trip, and this takes one"):
        await trips.client.describe(by_tag)
    with pytest.raises(UsageError, match="confirm=True waits for one instance"):
        await trips.client.cancel(by_tag, confirm=True)
    with pytest.raises(UsageError, match="confirm=True waits for one instance"):
        await by_tag.approvals.send(True, confirm=True)


async def test_broadcast_takes_a_method_by_tag_only(trips: Simulation) -> None:
    client = trips.client
    for wrong in (client.new_workflow(Trip).add, client.get_workflow_by_id(Trip, "x").add, Trip().add):
        with pytest.raises(UsageError, match="broadcast takes a method of a stub by tag"):
            await client.broadcast(wrong, 1)


async def test_get_ids_takes_a_stub_by_tag_only(trips: Simulation) -> None:
    client = trips.client
    with pytest.raises(UsageError, match="get_ids takes a stub of get_workflow_by_tag"):
        await client.get_ids(client.get_workflow_by_id(Trip, "x"))
    with pytest.raises(UsageError, match="limit of get_ids must be 1 or more"):
        await client.get_ids(client.get_workflow_by_tag(Trip, "eu"), limit=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("eu", "tags are a set of texts"),
        ({""}, "A tag must be non-empty text"),
        ({"x" * 256}, "A tag has 256 bytes of UTF-8, more than 255"),
        ([7], "A tag must be non-empty text, got 7"),
        ({"\ud800"}, "lone surrogate"),
        ({f"tag-{number}" for number in range(65)}, "an instance may have 64 tags, got 65"),
        (7, "tags are a set of texts"),
    ],
)
def test_bad_tags_are_refused_at_the_call(trips: Simulation, given: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trips.client.new_workflow(Trip, tags=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", ["", 7, None, "é" * 128])
def test_a_bad_tag_is_refused_at_the_call(trips: Simulation, given: object) -> None:
    with pytest.raises(UsageError, match="A tag "):
        trips.client.get_workflow_by_tag(Trip, given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Cooks:
    @task(retry=None)
    async def cook(self) -> str:
        return "done"


class Dinner(Workflow):
    """Its task fails after more days than deduplication ids are kept."""

    cooks = Workflow.new_service(Cooks)
    approvals = Channel[bool]()

    async def eat(self) -> bool:
        await self.timer(timedelta(days=20))
        await self.cooks.cook()
        return await self.approvals.receive()


async def test_S34_an_instance_that_is_old_when_it_is_reopened_has_its_tags_again(sim: Simulation) -> None:
    sim.mock(Cooks).cook.raises(ValueError("no")).returns("done")
    sim.add_workflow(Dinner)
    client = sim.client
    handle = await client.dispatch(client.new_workflow(Dinner, tags={"eu"}).eat)
    with pytest.raises(InfiniticError):
        await handle.result()
    await sim.run_until_idle()
    by_tag = client.get_workflow_by_tag(Dinner, "eu")
    assert await client.get_ids(by_tag) == []
    await client.retry_tasks(handle)
    await sim.run_until_idle()
    assert await client.get_ids(by_tag) == [handle.workflow_id]
    await by_tag.approvals.send(True)
    assert await handle.result() is True
