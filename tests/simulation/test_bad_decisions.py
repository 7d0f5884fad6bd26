"""S38: an instance whose activation or decision cannot be handled stalls, and says why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest
from msgspec.structs import replace

from infinitic import Channel, Workflow, topics, workflow
from infinitic.messages import engine
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Flag, Query
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.messages import take_dead_letters
from tests.simulation.world import World, host_all, host_engines, host_executors


class Echo:
    async def say(self, text: str) -> str:
        return text


@workflow(name="Song")
class Song(Workflow):
    echo = Workflow.new_service(Echo)
    words = Channel[str]()

    async def sing(self) -> str:
        first = await self.echo.say("la")
        return first + await self.words.receive()


@workflow(name="Song", version=1)
class NextSong(Song):
    pass


CASE = Case("song", (Song,), lambda client: asyncio.sleep(0), (Echo,))
ENGINE, EXECUTOR = topics.workflow_engine("Song"), topics.workflow_executor("Song")


def make_garbage(body: bytes) -> bytes:
    return b"\xff" + body


def cut(body: bytes) -> bytes:
    return body[:-1]


def change_audience(body: bytes) -> bytes:
    return b'{"t":"applied","q":"7"}'


def make_impossible(body: bytes) -> bytes:
    """Make a decision that no code can have made."""
    decision = engine.decode(body)
    assert isinstance(decision, engine.Decision)
    return engine.encode(replace(decision, retention=1e15))


class Spoiling(InMemoryTransport):
    """A connection that damages one message of each instance.

    Args:
        world: its world.
        topic: the topic of that message.
        activation: its number.
        how: makes the damaged body.
    """

    def __init__(self, world: World, topic: Topic, activation: int, how: Callable[[bytes], bytes]) -> None:
        super().__init__(world.broker, clock=world.clock)
        self.spoiled = dict[str, Message]()
        self._what = topic, activation
        self._how = how

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await super().publish(topic, [self._spoil(topic, each) for each in messages])

    def _spoil(self, topic: Topic, message: Message) -> Message:
        if (topic, message.id) != (self._what[0], f"{message.key}/{self._what[1]}") or message.key in self.spoiled:
            return message
        spoiled = replace(message, body=self._how(message.body))
        self.spoiled[message.key or ""] = spoiled
        return spoiled


async def begin(world: World) -> str:
    handle = await world.client.dispatch(world.client.new_workflow(Song).sing)
    await world.run_until_idle()
    return handle.workflow_id


async def finish(world: World, workflow_id: str) -> str:
    await world.client.get_workflow_by_id(Song, workflow_id).words.send("li")
    return await world.client.get_handle(Song.sing, workflow_id).result(timeout=30.0)


async def read_stall_reason(world: World, workflow_id: str) -> str:
    """Say why an instance is stalled, or "" if it is not. `describe` and `list` must agree."""
    info = await world.client.describe(world.client.get_workflow_by_id(Song, workflow_id))
    listed = await ensure_checked(InMemoryStorage(world.database)).states.find(Query(flag=Flag.STALLED))
    assert (workflow_id in [each.key.id for each in listed.found]) == (info.stalled is not None)
    return info.stalled or ""


async def retry(world: World, workflow_id: str) -> None:
    await world.client.retry_workflow_task(world.client.get_workflow_by_id(Song, workflow_id), confirm=True)


def run_damaged(
    topic: Topic,
    how: Callable[[bytes], bytes],
    scenario: Callable[[World, Spoiling, list[asyncio.Task[None]]], Awaitable[None]],
    activation: int = 1,
) -> None:
    """Run a scenario with an engine and an executor. One of them damages what it sends."""

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            spoiling = Spoiling(world, topic, activation, how)
            hosts: list[asyncio.Task[None]] = []
            for host, sends in ((host_engines, EXECUTOR), (host_executors, ENGINE)):
                worker = world.worker(spoiling if sends == topic else None)
                host(worker, CASE)
                hosts.append(world.start(worker))
                await world.run_until_idle()
            await scenario(world, spoiling, hosts)

    run(main())


@pytest.mark.parametrize("activation", [1, 2])
@pytest.mark.parametrize(
    ("topic", "how"),
    [
        *((topic, how) for topic in (EXECUTOR, ENGINE) for how in (make_garbage, cut, change_audience)),
        (ENGINE, make_impossible),
    ],
    ids=lambda each: each.name if isinstance(each, Topic) else each.__name__,
)
def test_S38_its_instance_stalls_and_goes_on_when_it_is_retried(
    topic: Topic, how: Callable[[bytes], bytes], activation: int
) -> None:
    async def scenario(world: World, spoiling: Spoiling, hosts: list[asyncio.Task[None]]) -> None:
        workflow_id = await begin(world)
        await asyncio.sleep(1.0)
        what = "Activation" if topic == EXECUTOR else "The decision for activation"
        reason = await read_stall_reason(world, workflow_id)
        assert reason.startswith(f"{what} {activation} went to the dead letters: ")
        (letter,) = await take_dead_letters(world, topic)
        assert letter.headers[CAUSE] in reason
        assert letter.body == spoiling.spoiled[workflow_id].body
        await retry(world, workflow_id)
        assert await finish(world, workflow_id) == "lali"
        await world.deliver_again([(topic, spoiling.spoiled[workflow_id])])
        await world.run_until_idle()
        assert not await read_stall_reason(world, workflow_id)
        assert not any(host.done() for host in hosts), "a worker has ended"

    run_damaged(topic, how, scenario, activation)


@pytest.mark.parametrize("topic", [EXECUTOR, ENGINE], ids=lambda each: each.name)
def test_one_of_before_the_retry_stalls_nobody(topic: Topic) -> None:
    async def scenario(world: World, spoiling: Spoiling, hosts: list[asyncio.Task[None]]) -> None:
        workflow_id = await begin(world)
        assert await read_stall_reason(world, workflow_id)
        hosts[1].cancel()  # nobody decides
        await asyncio.gather(hosts[1], return_exceptions=True)
        await retry(world, workflow_id)
        await world.deliver_again([(topic, spoiling.spoiled[workflow_id])])
        await world.run_until_idle()
        assert not await read_stall_reason(world, workflow_id)
        world.host(CASE, host_executors)
        await world.run_until_idle()
        assert not await read_stall_reason(world, workflow_id)
        assert await finish(world, workflow_id) == "lali"

    run_damaged(topic, make_garbage, scenario)


@pytest.mark.parametrize("topic", [EXECUTOR, ENGINE], ids=lambda each: each.name)
def test_a_forged_one_stalls_until_the_true_decision_comes(topic: Topic) -> None:
    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, host_engines)
            await world.run_until_idle()
            workflow_id = await begin(world)
            await world.deliver_again([(ENGINE, Message(f"{workflow_id}/1", workflow_id, b"forged"))])
            await world.run_until_idle()
            assert "decision for activation 1" in await read_stall_reason(world, workflow_id)
            await world.transport.declare([EXECUTOR])
            await world.deliver_again([(topic, Message(f"{workflow_id}/1", workflow_id, b"forged"))])
            world.host(CASE, host_executors)
            await world.run_until_idle()
            await asyncio.sleep(1.0)
            assert await finish(world, workflow_id) == "lali"
            assert not await read_stall_reason(world, workflow_id)

    run(main())


@pytest.mark.parametrize("name", ["{}/2", "{}/1/1", "{}/x", "{}", "{}/1/0/0", "other/1", "{}/" + "9" * 99])
def test_one_that_is_not_awaited_stalls_nobody(name: str) -> None:
    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, host_engines)
            await world.run_until_idle()
            workflow_id = await begin(world)
            await world.deliver_again([(ENGINE, Message(name.format(workflow_id), workflow_id, b"forged"))])
            await world.run_until_idle()
            assert not await read_stall_reason(world, workflow_id)

    run(main())


def test_S41_a_worker_of_both_roles_tells_of_a_missing_version_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, host_all)
            await world.run_until_idle()
            for _ in range(3):
                await begin(world)
            await world.stop()
            later = world.worker()
            host_all(later, Case("song", (NextSong,), lambda client: asyncio.sleep(0), (Echo,)))
            world.start(later)
            ids = list(world.database._rows["Song"])  # pyright: ignore[reportPrivateUsage]  # no verb
            for each in ids:
                await world.client.get_workflow_by_id(Song, each).words.send("li")
            await world.run_until_idle()
            await asyncio.sleep(1.0)

    caplog.set_level(logging.WARNING, "infinitic")
    run(main())
    told = [each.getMessage() for each in caplog.records if "wait for a worker" in each.getMessage()]
    assert told == ["Workflow Song: this worker has version 1; instances of version 0 wait for a worker that has it"]
