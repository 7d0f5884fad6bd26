"""Instances that wait for something that a worker lacks do not hold up others.

Their inputs keep their order, and they go on once it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from infinitic import Channel, PayloadCodec, Workflow, topics
from infinitic.engines import state
from infinitic.errors import PayloadUnavailable
from infinitic.runtime.backoff import compute_delay
from infinitic.runtime.lane import Lane
from infinitic.storage import StateKey
from infinitic_testing.loop import run
from tests.simulation.invariants import read_instances
from tests.simulation.versions import ENGINE, Ahead, InboxOne, InboxTwo, check_canary, make_message, make_worker, start
from tests.simulation.world import RETENTION, World

WAITING = 1200
"""More than a worker ever has in hand of what does not fail."""


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_S41_instances_of_a_missing_version_starve_nobody_and_move_at_once(split: bool) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            world.start(make_worker(world, InboxOne))
            await world.run_until_idle()
            keys = await start(world, WAITING)
            await world.stop()
            if split:
                engines = world.worker()
                engines.add_workflow_state_engine("Inbox")
                world.start(engines)
            world.start(make_worker(world, InboxTwo, split=split))
            await world.run_until_idle()
            for text in ("a", "b"):
                await world.transport.publish(ENGINE, [make_message(world, key, text) for key in keys])
            await asyncio.sleep(120.0)
            await check_canary(world)
            waits = topics.workflow_version("Inbox", 0)
            assert world.backlog() == {waits.name: (WAITING, 0, 0)}, "in the broker, not at the worker"
            world.start(make_worker(world, InboxOne, split=split))  # the other one stays
            async with asyncio.timeout(60.0):
                for key in keys:
                    assert await world.client.get_handle(InboxOne.read, key).result() == ["a", "b"]
            assert not world.backlog()

    run(main())


def test_S41_instances_of_a_newer_schema_starve_nobody_and_move_when_it_is_known() -> None:
    database = Ahead()

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            world.start(make_worker(world, InboxOne, InboxTwo))
            await world.run_until_idle()
            keys = await start(world, WAITING)
            await world.stop()
            database.newer = frozenset(keys)
            world.start(make_worker(world, InboxTwo))
            await world.run_until_idle()
            for text in ("a", "b"):
                await world.transport.publish(ENGINE, [make_message(world, key, text) for key in keys])
            await asyncio.sleep(120.0)
            await check_canary(world)
            assert world.backlog() == {ENGINE.name: (0, 2 * WAITING, 0)}, "in hand, beside the others"
            database.newer = frozenset()
            world.start(make_worker(world, InboxOne))
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
            await world.run_until_idle()
            keys = await start(world, 50)
            await world.stop()
            database.newer = frozenset(keys)
            second = world.worker(buffer_bytes=1_000_000)
            second.add_workflow(InboxOne, retention=RETENTION)
            world.start(second)
            await world.run_until_idle()
            for key in keys:
                await world.transport.publish(ENGINE, [make_message(world, key, text)])
                await world.run_until_idle()
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
            await world.run_until_idle()
            async with client:
                handle = await client.dispatch(client.new_workflow(Coded).run)
                await world.run_until_idle()
                key.away = True
                await client.get_workflow_by_id(Coded, handle.workflow_id).letters.send("a")
                await asyncio.sleep(200.0)
                head = state.decode(read_instances(world.database)[StateKey("Coded", handle.workflow_id)][0])
                assert (head.stalled, head.parked) == (None, False)
                key.away = False
                async with asyncio.timeout(60.0):
                    assert await handle.result() == ["a", "a"]

    run(main())


def test_a_pause_uses_up_no_budget() -> None:
    lane, now = Lane("key"), 0.0
    lane.fail(ValueError("once"), now, counted=True)
    assert not lane.is_exhausted(now + 3600.0), "it was tried once"
    while not lane.is_exhausted(now):
        now += compute_delay(lane.tries)
        lane.fail(ValueError("again"), now, counted=True)
    assert lane.tries > 10
    assert 55.0 < now < 70.0
