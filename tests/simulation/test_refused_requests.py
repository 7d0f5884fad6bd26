"""Whoever waits for an answer to a request that is dead-lettered is told why (invariant *Told*)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import Raw

from infinitic import Channel, DecodingError, RequestRefusedError, Workflow, topics
from infinitic.messages import client as responses, engine
from infinitic.messages.client import ReplyTo
from infinitic.messages.partial_reading import read_requester
from infinitic.storage import Change, Outcome, Published, Refused
from infinitic.transport import Message
from tests.simulation.cases import Case
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, run_scenario


class Box(Workflow):
    letters = Channel[str]()

    async def fill(self, count: int) -> list[str]:
        receiver = self.letters.receive()
        return [await receiver for _ in range(count)]

    async def count(self) -> int:
        return 1


class Spilled(Workflow):
    """Its first method fails at once, and the other one cleans up for an hour."""

    async def spill(self) -> None:
        raise ValueError("spilled")

    async def wipe(self) -> None:
        try:
            await asyncio.sleep(10**6)
        finally:
            await asyncio.sleep(3600.0)


CASE = Case("box", (Box,), lambda client: asyncio.sleep(0), ())
ENGINE = topics.workflow_engine("Box")
WINDOW = 14 * 86_400.0


class Picky(ObservedDatabase):
    """Refuses whatever has a certain text in it: the input decodes, and can never be taken."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return [
            Refused("this is poison")
            if isinstance(each, Change) and each.segment is not None and b"poison" in each.segment.events
            else super(Picky, self).commit([each])[0]
            for each in changes
        ]


async def start(world: World) -> tuple[str, Box]:
    handle = await world.client.dispatch(world.client.new_workflow(Box).fill, 9)
    await world.run_until_idle()
    return handle.workflow_id, world.client.get_workflow_by_id(Box, handle.workflow_id)


def test_requests_to_an_instance_that_is_parked_are_answered() -> None:
    async def scenario(world: World) -> None:
        workflow_id, stub = await start(world)
        poison = asyncio.ensure_future(stub.letters.send("poison", confirm=True))
        waiting = asyncio.ensure_future(world.client.get_handle(Box.fill, workflow_id).result())
        await asyncio.sleep(3600.0)
        with pytest.raises(RequestRefusedError, match="this is poison"):
            await poison
        with pytest.raises(RequestRefusedError, match="this is poison") as caught:
            await waiting
        assert caught.value.workflow_id == workflow_id
        for ask in (
            stub.letters.send("a", confirm=True),
            stub.count(),
            world.client.cancel(stub, confirm=True),
            world.client.retry_workflow_task(stub, confirm=True),
            world.client.get_handle(Box.fill, workflow_id).result(),
        ):
            with pytest.raises(RequestRefusedError, match="is parked"):
                await ask
        assert (await world.client.describe(stub)).parked

    run_scenario(scenario, CASE, database=Picky())


def test_a_start_that_parks_its_key_is_answered() -> None:
    class Never(Picky):
        def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
            return [
                Refused("no room") if isinstance(each, Change) else ObservedDatabase.commit(self, [each])[0]
                for each in changes
            ]

    async def scenario(world: World) -> None:
        with pytest.raises(RequestRefusedError, match="no room"):
            await world.client.new_workflow(Box).fill(1)

    run_scenario(scenario, CASE, database=Never(), is_watched=False)


def _nest(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


BAD = {
    "too deep": b'{"t":"signal","at":1,"i":"x","c":"letters","v":%b,"r":["client","%d"]}' % (_nest(600), 7),
    "a field is missing": b'{"t":"signal","at":1,"r":["client","7"]}',
    "a long name": b'{"t":"signal","at":1,"i":"x","c":"%b","v":1,"r":["client","7"]}' % (b"x" * 300),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("known", [True, False], ids=["running", "unknown"])
def test_whoever_an_undecodable_input_names_is_answered(body: bytes, *, known: bool) -> None:
    async def scenario(world: World) -> None:
        key = (await start(world))[0] if known else "nobody"
        await world.deliver_again([(ENGINE, Message(key, key, body))])
        await world.run_until_idle()
        (answer,) = [
            responses.decode(message.body)
            for topic, message in world.published
            if topic == topics.client("client") and message.id == "7"
        ]
        assert isinstance(answer, responses.WorkflowUnknown)
        assert "input of an instance" in answer.reason

    run_scenario(scenario, CASE)


def test_S13_a_repeat_of_a_refused_deletion_is_not_confirmed() -> None:
    """Its answer may overtake the first one, and then it is believed."""

    async def scenario(world: World) -> None:
        key, _ = await start(world)
        asked = engine.Delete(made_at=world.clock.now(), request_id="d", reply_to=ReplyTo("client", "7"))
        for _ in range(2):
            await world.deliver_again([(ENGINE, Message("d", key, engine.encode(asked)))])
            await world.run_until_idle()
        told = [
            responses.decode(message.body)
            for topic, message in world.published
            if topic == topics.client("client") and message.id == "7"
        ]
        assert told
        assert all(isinstance(each, responses.Rejected) for each in told)

    run_scenario(scenario, CASE)


def test_S13_S34_a_repeat_of_a_refused_retry_of_failed_code_is_not_confirmed() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Spilled).spill)
        key, topic = handle.workflow_id, topics.workflow_engine("Spilled")
        await world.client.dispatch(world.client.get_workflow_by_id(Spilled, key).wipe)
        await world.client.cancel(handle, confirm=True)
        now = world.clock.now()
        asked = engine.RetryWorkflowTask(made_at=now, request_id="r", reply_to=ReplyTo("client", "7"))
        for _ in range(2):
            await world.deliver_again([(topic, Message("r", key, engine.encode(asked)))])
            await asyncio.sleep(5.0)
        told = [
            responses.decode(message.body)
            for where, message in world.published
            if where == topics.client("client") and message.id == "7"
        ]
        assert [type(each) for each in told] == [responses.Rejected]

    run_scenario(scenario, Case("spilled", (Spilled,), lambda client: asyncio.sleep(0), ()))


def test_a_request_older_than_the_window_is_answered() -> None:
    async def scenario(world: World) -> None:
        key, _ = await start(world)
        old = world.clock.now() - WINDOW - 1.0
        for number, message in enumerate(
            (
                engine.Signal(
                    made_at=old, signal_id="s", channel="letters", value=Raw(b'"x"'), reply_to=ReplyTo("client", "0")
                ),
                engine.Start(made_at=old, method="fill", arguments=Raw(b"[1]"), reply_to=ReplyTo("client", "1")),
            )
        ):
            to = key if number == 0 else "another"
            await world.deliver_again([(ENGINE, Message(to, to, engine.encode(message)))])
        await world.run_until_idle()
        told = {
            message.id: responses.decode(message.body)
            for topic, message in world.published
            if topic == topics.client("client")
        }
        for request in ("0", "1"):
            answer = told[request]
            assert isinstance(answer, responses.WorkflowUnknown)
            assert "older than the deduplication window" in answer.reason

    run_scenario(scenario, CASE)


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b'{"t":"signal","at":1,"r":["%b","7"]}' % (b"x" * 300),
        b'{"t":"signal","at":1,"r":["","7"]}',
        b'{"t":"signal","at":1,"r":["\xff","7"]}',
        b'{"t":"signal","at":1,"r":"client"}',
        b'{"t":"wait","at":1,"i":"%b","r":["client","7"],"z":true}' % (b"x" * 300),
        b"[" * 100_000,
    ],
)
def test_nobody_is_answered_where_the_body_does_not_tell_whom(body: bytes) -> None:
    assert read_requester(body) is None


def test_a_response_that_cannot_be_decoded_is_raised_to_who_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        key, _ = await start(world)
        waiting = asyncio.ensure_future(world.client.get_handle(Box.fill, key).result())
        await world.run_until_idle()
        asked = next(
            each
            for _, message in reversed(world.published)
            if isinstance(each := engine.decode(message.body), engine.Wait)
        )
        bad = b'{"t":"completed","q":"%b","v":%b}' % (asked.reply_to.request.encode(), _nest(600))
        await world.deliver_again([(topics.client("client"), Message("x", None, bad))])
        with pytest.raises(DecodingError, match="nested deeper"):
            await waiting

    run_scenario(scenario, CASE)
