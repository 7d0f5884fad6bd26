"""Queries of instances that are stalled, parked, moved or gone, and what they cost (S26)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from infinitic import Channel, QueryFailedError, Workflow, WorkflowUnknownError, query, topics
from infinitic.client.stubs import target_of
from infinitic.client.waits import Request
from infinitic.messages import executor
from infinitic.messages.client import AskAgain, Queried
from infinitic.runtime.workflow_executor.asking import MOST_WAITS
from infinitic.storage import StateKey
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.observed import ObservedDatabase
from tests.simulation.test_parking import Picky
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors, run_scenario


class Inbox(Workflow):
    letters = Channel[str]()
    heard: str = ""

    async def read(self, count: int) -> str:
        for _ in range(count):
            self.heard += await self.letters.receive()
            if "!" in self.heard:
                await asyncio.to_thread(print)
        return self.heard

    @query
    def tell(self) -> str:
        return self.heard


CASE = Case("inbox", (Inbox,), lambda client: asyncio.sleep(0), ())
SPLIT: tuple[Hosting, ...] = (host_engines, host_executors)
both = pytest.mark.parametrize("hostings", [(host_all,), SPLIT], ids=["fused", "split"])


async def begin(world: World, count: int) -> Inbox:
    """Start an instance that reads so many letters, and return its stub."""
    handle = await world.client.dispatch(world.client.new_workflow(Inbox).read, count)
    await world.run_until_idle()
    return world.client.get_workflow_by_id(Inbox, handle.workflow_id)


def find_id(stub: Any) -> str:
    return str(target_of(stub).workflow_id)


@both
def test_a_stalled_instance_tells_why_it_has_no_answer(hostings: tuple[Hosting, ...]) -> None:
    async def scenario(world: World) -> None:
        stub = await begin(world, 9)
        await stub.letters.send("!", confirm=True)
        await world.run_until_idle()
        with pytest.raises(QueryFailedError, match=r"The workflow is stalled: .*run_in_executor is not possible"):
            await world.client.query(stub.tell)

    run_scenario(scenario, CASE, *hostings)


def test_a_parked_instance_tells_why_it_has_no_answer() -> None:
    async def scenario(world: World) -> None:
        stub = await begin(world, 9)
        key = find_id(stub)
        poison = Message(key, key, encode_signal(world, "poison"))
        await world.transport.publish(topics.workflow_engine("Inbox"), [poison])
        await asyncio.sleep(70.0)
        assert (await world.client.describe(stub)).parked
        with pytest.raises(QueryFailedError, match="one of its messages could not be handled"):
            await world.client.query(stub.tell)
        letters = await take_dead_letters(world, topics.workflow_engine("Inbox"))
        assert [letter.body for letter in letters] == [poison.body], "a question is no dead letter"

    run_scenario(scenario, CASE, database=Picky())


@both
def test_a_closed_instance_answers_until_its_retention_ends(hostings: tuple[Hosting, ...]) -> None:
    async def scenario(world: World) -> None:
        stub = await begin(world, 2)
        for letter in "ab":
            await stub.letters.send(letter, confirm=True)
        assert await world.client.get_handle(Inbox.read, find_id(stub)).result() == "ab"
        assert await world.client.query(stub.tell) == "ab"
        await asyncio.sleep(20 * 86_400.0)
        with pytest.raises(WorkflowUnknownError):
            await world.client.query(stub.tell)

    run_scenario(scenario, CASE, *hostings)


class Counting(ObservedDatabase):
    """Counts what is written."""

    writes = 0

    def commit(self, changes: Any) -> Any:
        self.writes += len(changes)
        return super().commit(changes)


@both
def test_a_query_writes_nothing(hostings: tuple[Hosting, ...]) -> None:
    database = Counting()

    async def scenario(world: World) -> None:
        stub = await begin(world, 2)
        await stub.letters.send("a", confirm=True)
        await world.run_until_idle()
        key = StateKey("Inbox", find_id(stub))
        before, stored = database.writes, database.load([key])[key]
        for _ in range(20):
            assert await world.client.query(stub.tell) == "a"
        assert database.writes == before
        assert database.load([key])[key] == stored

    run_scenario(scenario, CASE, *hostings, database=database)


@both
def test_another_worker_answers_from_the_history(hostings: tuple[Hosting, ...]) -> None:
    async def scenario(world: World) -> None:
        stub = await begin(world, 3)
        for letter in "ab":
            await stub.letters.send(letter, confirm=True)
        await world.run_until_idle()
        await world.stop()
        world.host(CASE, *hostings, cache_size=0)
        assert await world.client.query(stub.tell) == "ab"
        assert await asyncio.gather(*(world.client.query(stub.tell) for _ in range(5))) == ["ab"] * 5

    run_scenario(scenario, CASE, *hostings)


def test_a_question_that_comes_before_its_activation_waits_and_holds_nobody_up() -> None:
    """It would wait for ever in front of its own activation."""

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, *SPLIT)
            stub = await begin(world, 3)
            key = find_id(stub)
            request = Request(key)
            to = vars(world.client)["_connection"].register(request)
            ask = executor.Ask(query="tell", arguments=Raw(b"[]"), reply_to=to, activation=2)
            await world.transport.publish(
                topics.workflow_executor("Inbox"), [Message("ask", key, executor.encode(ask))]
            )
            await asyncio.sleep(1.0)
            assert not request.is_settled
            await stub.letters.send("a")
            await asyncio.sleep(1.0)
            assert request.is_settled
            assert await request.answer() == Queried(to.request, Raw(b'"a"'), 2)

    run(main())


def test_a_question_for_an_activation_that_never_comes_is_given_up() -> None:
    """S26, S39: a forged or stray one would be delivered ten times a second for ever."""

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, *SPLIT)
            stub = await begin(world, 3)
            key = find_id(stub)
            request = Request(key)
            to = vars(world.client)["_connection"].register(request)
            ask = executor.Ask(query="tell", arguments=Raw(b"[]"), reply_to=to, activation=99)
            message = Message("ask", key, executor.encode(ask))
            await world.transport.publish(topics.workflow_executor("Inbox"), [message])
            await asyncio.sleep(60.0)
            assert await request.answer() == AskAgain(to.request, 0.0)
            asked = [each for topic, each in world.published if topic == topics.workflow_executor("Inbox")]
            assert sum(each.id == "ask" for each in asked) == 1 + MOST_WAITS
            assert topics.workflow_executor("Inbox").name not in world.backlog()

    run(main())
