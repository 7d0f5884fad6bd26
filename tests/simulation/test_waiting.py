"""Instances that wait for something this worker lacks starve nobody, keep their order, and move once it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import Channel, PayloadCodec, Worker, Workflow, ids, topics, workflow
from infinitic.engines import state
from infinitic.errors import PayloadUnavailable
from infinitic.messages import engine
from infinitic.runtime.backoff import delay_of
from infinitic.runtime.lanes import Lane
from infinitic.storage import StateKey, Stored
from infinitic.transport import Message
from infinitic_storages.memory import Database
from tests.simulation.invariants import kept
from tests.simulation.world import RETENTION, World, run

ENGINE = topics.workflow_engine("Inbox")
WAITING = 1200
"""More than a worker ever has in hand of what does not fail."""


@workflow(name="Inbox")
class InboxOne(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        return [await self.letters.receive() for _ in range(count)]


@workflow(name="Inbox", version=1)
class InboxTwo(InboxOne):
    pass


def signal(world: World, key: str, text: str) -> Message:
    value = Raw(b'"%b"' % text.encode())
    body = engine.encode(
        engine.Signal(made_at=world.clock.now(), signal_id=ids.new_id(), channel="letters", value=value)
    )
    return Message(key, key, body)


def hosting(world: World, *versions: type[Workflow], split: bool = False) -> Worker:
    worker = world.worker()
    if split:
        worker.add_workflow_executor(*versions, retention=RETENTION)
    else:
        worker.add_workflow(*versions, retention=RETENTION)
    return worker


async def start(world: World, count: int) -> list[str]:
    stub = world.client.new_workflow(InboxOne)
    handles = [await world.client.dispatch(stub.read, 2) for _ in range(count)]
    await world.quiet()
    return [handle.workflow_id for handle in handles]


async def check_canary(world: World) -> None:
    """A new instance of the version that is here runs as if nothing waited."""
    (canary,) = await start(world, 1)
    await world.transport.publish(ENGINE, [signal(world, canary, each) for each in ("x", "y")])
    async with asyncio.timeout(5.0):
        assert await world.client.get_handle(InboxTwo.read, canary).result() == ["x", "y"]


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_S41_instances_of_a_missing_version_starve_nobody_and_move_at_once(split: bool) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            world.start(hosting(world, InboxOne))
            await world.quiet()
            keys = await start(world, WAITING)
            await world.stop()
            if split:
                engines = world.worker()
                engines.add_workflow_state_engine("Inbox")
                world.start(engines)
            world.start(hosting(world, InboxTwo, split=split))
            await world.quiet()
            for text in ("a", "b"):
                await world.transport.publish(ENGINE, [signal(world, key, text) for key in keys])
            await asyncio.sleep(120.0)
            await check_canary(world)
            waits = topics.workflow_version("Inbox", 0)
            assert world.backlog() == {waits.name: (WAITING, 0, 0)}, "in the broker, not at the worker"
            world.start(hosting(world, InboxOne, split=split))  # the other one stays
            async with asyncio.timeout(60.0):
                for key in keys:
                    assert await world.client.get_handle(InboxOne.read, key).result() == ["a", "b"]
            assert not world.backlog()

    run(main())


class Ahead(Database):
    """Some heads are of a newer release."""

    newer = frozenset[str]()

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        found = super().load(keys)
        for key, stored in found.items():
            if key.id in self.newer:
                head = replace(state.decode(stored.head), schema=99)
                found[key] = replace(stored, head=state.encode(head))
        return found


def test_S41_instances_of_a_newer_schema_starve_nobody_and_move_when_it_is_known() -> None:
    database = Ahead()

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            world.start(hosting(world, InboxOne, InboxTwo))
            await world.quiet()
            keys = await start(world, WAITING)
            await world.stop()
            database.newer = frozenset(keys)
            world.start(hosting(world, InboxTwo))
            await world.quiet()
            for text in ("a", "b"):
                await world.transport.publish(ENGINE, [signal(world, key, text) for key in keys])
            await asyncio.sleep(120.0)
            await check_canary(world)
            assert world.backlog() == {ENGINE.name: (0, 2 * WAITING, 0)}, "in hand, beside the others"
            database.newer = frozenset()
            world.start(hosting(world, InboxOne))
            async with asyncio.timeout(60.0):
                for key in keys:
                    assert await world.client.get_handle(InboxOne.read, key).result() == ["a", "b"]

    run(main())


def test_what_cannot_be_handled_now_is_bounded_in_bytes(caplog: pytest.LogCaptureFixture) -> None:
    database = Ahead()
    text = "x" * 100_000

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            first = world.worker()
            first.add_workflow(InboxOne, retention=RETENTION)
            world.start(first)
            await world.quiet()
            keys = await start(world, 50)
            await world.stop()
            database.newer = frozenset(keys)
            second = world.worker(buffer_bytes=1_000_000)
            second.add_workflow(InboxOne, retention=RETENTION)
            world.start(second)
            await world.quiet()
            for key in keys:
                await world.transport.publish(ENGINE, [signal(world, key, text)])
                await world.quiet()
            _, unacked, delayed = world.backlog()[ENGINE.name]
            assert 9 <= unacked <= 12
            assert delayed == 50 - unacked, "given back"
            assert "the latest are given back, for later" in caplog.text
            database.newer = frozenset()
            await asyncio.sleep(120.0)
            assert not world.backlog(), "it takes the rest by and by"

    run(main())


class Key(PayloadCodec):
    """A key service that is away now and then."""

    __slots__ = ("away",)

    def __init__(self) -> None:
        self.away = False

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        self._check()
        return data[::-1]

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        self._check()
        return data[::-1]

    def _check(self) -> None:
        if self.away:
            raise PayloadUnavailable("no key now")


class Desk:
    async def say(self, text: str) -> str:
        return text


class Coded(Workflow):
    desk = Workflow.new_service(Desk)
    letters = Channel[str]()

    async def run(self) -> list[str]:
        heard = await self.letters.receive()
        try:
            said = await self.desk.say(heard)
        except Exception:  # noqa: BLE001 (what this test is about: the code is not told)
            return ["told"]
        return [heard, said]


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])
def test_a_codec_that_is_away_stalls_nothing_and_the_code_is_not_told(cache_size: int, split: bool) -> None:
    async def main() -> None:
        world, key = World(), Key()
        sender, ours = Key(), world.client
        async with world.open():
            client = type(ours)(world.connect(), name="coded", clock=world.clock, codec=sender)
            worker = world.worker(codec=key, cache_size=cache_size)
            worker.add_service(Desk())
            worker.add_workflow_executor(Coded) if split else worker.add_workflow(Coded)
            world.start(worker)
            if split:
                engines = world.worker()
                engines.add_workflow_state_engine("Coded")
                world.start(engines)
            await world.quiet()
            async with client:
                handle = await client.dispatch(client.new_workflow(Coded).run)
                await world.quiet()
                key.away = True
                await client.get_workflow_by_id(Coded, handle.workflow_id).letters.send("a")
                await asyncio.sleep(200.0)
                head = state.decode(kept(world.database)[StateKey("Coded", handle.workflow_id)][0])
                assert (head.stalled, head.parked) == (None, False)
                key.away = False
                async with asyncio.timeout(60.0):
                    assert await handle.result() == ["a", "a"]

    run(main())


def test_a_pause_uses_up_no_budget() -> None:
    lane, now = Lane("key"), 0.0
    lane.fail(ValueError("once"), now, counted=True)
    assert not lane.exhausted(now + 3600.0), "it was tried once"
    while not lane.exhausted(now):
        now += delay_of(lane.tries)
        lane.fail(ValueError("again"), now, counted=True)
    assert lane.tries > 10
    assert 55.0 < now < 70.0
