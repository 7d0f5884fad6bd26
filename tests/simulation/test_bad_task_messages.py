"""S38: a task, report or wake that cannot be decoded makes nobody wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from msgspec.structs import replace

from infinitic import (
    Channel,
    ExponentialBackoff,
    TaskFailedError,
    Workflow,
    WorkflowUnknownError,
    ids,
    task,
    topics,
    workflow,
)
from infinitic.messages.control import Attempt
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import StateKey
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.messages import take_dead_letters
from tests.simulation.world import RETENTION, World, host_all


class Echo:
    @task(retry=ExponentialBackoff(maximum_retries=2, minimum_seconds=5.0))
    async def say(self, text: str, failures: int) -> str:
        self.runs = getattr(self, "runs", 0) + 1
        if self.runs <= failures:
            raise ConnectionError(text)
        return text


@workflow(name="Song/50%")
class Song(Workflow):
    echo = Workflow.new_service(Echo)
    words = Channel[str]()

    async def sing(self, failures: int) -> str:
        try:
            first = await self.echo.say("la", failures)
        except TaskFailedError as error:
            first = str(error)
        return first + await self.words.receive()


@workflow(name="Nap")
class Nap(Workflow):
    async def sleep(self) -> str:
        await self.timer(60.0)
        await self.timer(60.0)
        return "awake"


CASE = Case("song", (Song, Nap), lambda client: asyncio.sleep(0), (Echo,))
ENGINE, SERVICE = topics.workflow_engine("Song/50%"), topics.service_executor("Echo")
BOTH = pytest.mark.parametrize("topic", [SERVICE, ENGINE], ids=["task", "report"])


def garbage(body: bytes) -> bytes:
    return b"\xff" * len(body)


def cut(body: bytes) -> bytes:
    return body[:-1]


def of_another_audience(body: bytes) -> bytes:
    return b'{"t":"applied","q":"7"}'


class Spoiling(InMemoryTransport):
    """A connection that damages one task, report or wake: the one with this number, from 0."""

    def __init__(self, world: World, topic: Topic, number: int, how: Callable[[bytes], bytes]) -> None:
        super().__init__(world.broker, clock=world.clock)
        self.spoiled: Message | None = None
        self._topic = topic
        self._number = number
        self._how = how
        self._seen = 0

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await super().publish(topic, [self._spoil(topic, each) for each in messages])

    def _spoil(self, topic: Topic, message: Message) -> Message:
        kinds = (b'"task_', b'"attempt_') if topic == ENGINE else (b'"wake"',)
        counts = topic == SERVICE or any(kind in message.body for kind in kinds)
        if topic != self._topic or not counts or self.spoiled is not None:
            return message
        self._seen += 1
        if self._seen <= self._number:
            return message
        self.spoiled = replace(message, body=self._how(message.body))
        return self.spoiled


def play(scenario: Callable[[World, Spoiling], Awaitable[None]], spoil: Callable[[World], Spoiling]) -> None:
    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            spoiling = spoil(world)
            worker = world.worker(spoiling)
            host_all(worker, CASE)
            host = world.start(worker)
            await world.run_until_idle()
            await scenario(world, spoiling)
            assert not host.done(), "the worker has ended"

    run(main())


async def begin(world: World, failures: int) -> str:
    handle = await world.client.dispatch(world.client.new_workflow(Song).sing, failures)
    await world.run_until_idle()
    return handle.workflow_id


async def finish(world: World, workflow_id: str) -> str:
    await world.client.get_workflow_by_id(Song, workflow_id).words.send("li")
    return await world.client.get_handle(Song.sing, workflow_id).result(timeout=30.0)


@BOTH
@pytest.mark.parametrize("attempt", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("how", [garbage, cut, of_another_audience], ids=lambda how: how.__name__)
def test_S38_its_workflow_gets_a_failure_of_the_task(topic: Topic, attempt: int, how: Callable[[bytes], bytes]) -> None:
    async def scenario(world: World, spoiling: Spoiling) -> None:
        workflow_id = await begin(world, attempt)
        await asyncio.sleep(60.0)
        assert spoiling.spoiled is not None
        (letter,) = await take_dead_letters(world, topic)
        assert letter.body == spoiling.spoiled.body
        answer = await finish(world, workflow_id)
        assert "dead letters" in answer
        assert letter.headers[CAUSE] in answer
        # A late copy of it changes nothing.
        await world.deliver_again([(topic, spoiling.spoiled)])
        await world.run_until_idle()

    play(scenario, lambda world: Spoiling(world, topic, attempt, how))


@BOTH
def test_a_copy_of_an_earlier_attempt_fails_no_later_one(topic: Topic) -> None:
    async def scenario(world: World, spoiling: Spoiling) -> None:
        workflow_id = await begin(world, 1)
        await asyncio.sleep(1.0)
        name = ids.attempt_id(workflow_id, 0, 0, 0, 0)
        if topic == SERVICE:
            await world.deliver_again([(topic, Message(ids.task_message_id("Song/50%", name), None, b"forged"))])
        else:
            await world.deliver_again([(topic, Message(name, workflow_id, b"forged"))])
        await asyncio.sleep(60.0)
        assert len(await take_dead_letters(world, topic)) == 1
        assert await finish(world, workflow_id) == "lali"

    play(scenario, lambda world: Spoiling(world, topic, 99, garbage))


@pytest.mark.parametrize("number", [0, 1])
def test_S38_a_timer_fires_though_its_wake_cannot_be_decoded(number: int) -> None:
    engine = topics.workflow_engine("Nap")

    async def scenario(world: World, spoiling: Spoiling) -> None:
        started = world.clock.now()
        handle = await world.client.dispatch(world.client.new_workflow(Nap).sleep)
        assert await handle.result(timeout=200.0) == "awake"
        assert world.clock.now() - started < 121.0
        assert spoiling.spoiled is not None
        assert len(await take_dead_letters(world, engine)) == 1
        await world.deliver_again([(engine, spoiling.spoiled)])
        await world.run_until_idle()

    play(scenario, lambda world: Spoiling(world, engine, number, garbage))


def test_a_wake_that_is_garbage_and_comes_early_wakes_nobody() -> None:
    engine = topics.workflow_engine("Nap")

    async def scenario(world: World, spoiling: Spoiling) -> None:
        started = world.clock.now()
        handle = await world.client.dispatch(world.client.new_workflow(Nap).sleep)
        await asyncio.sleep(10.0)
        for _ in range(3):
            await world.deliver_again([(engine, Message(ids.wake_id(handle.workflow_id), handle.workflow_id, b""))])
            await asyncio.sleep(1.0)
        assert await handle.result(timeout=200.0) == "awake"
        assert 119.0 < world.clock.now() - started < 121.0

    play(scenario, lambda world: Spoiling(world, engine, 99, garbage))


def test_a_wake_that_is_garbage_keeps_no_closed_instance_beyond_its_retention() -> None:
    """It wrote the closed instance again, without a time at which it expires."""
    engine = topics.workflow_engine("Nap")

    async def scenario(world: World, spoiling: Spoiling) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Nap).sleep)
        assert await handle.result(timeout=200.0) == "awake"
        key = StateKey("Nap", handle.workflow_id)
        before = (await world.storage.states.load([key]))[key]
        await world.deliver_again([(engine, Message(ids.wake_id(key.id), key.id, b""))])
        await world.run_until_idle()
        assert len(await take_dead_letters(world, engine)) == 1
        assert (await world.storage.states.load([key]))[key] == before
        await asyncio.sleep(2 * RETENTION)
        with pytest.raises(WorkflowUnknownError):
            await world.client.describe(handle)

    play(scenario, lambda world: Spoiling(world, engine, 99, garbage))


LONG = "x" * 9000
NAMES = [
    f"{LONG}/{{}}-0",
    f"Song/{LONG}-0",
    "{}-0/1",
    "",
    "x",
    "/",
    "Song",
    "Song/x",
    "Song/-1",
    "Song/{}",
    "Song/{}-x",
    "{}-1",
    "Song/{}-" + "9" * 99,
    "%/{}-0",
]


@BOTH
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_one_whose_id_names_no_task_is_dead_lettered_alone(topic: Topic, name: str) -> None:
    async def scenario(world: World, spoiling: Spoiling) -> None:
        workflow_id = await begin(world, 1)
        key = workflow_id if topic == ENGINE else None
        await world.deliver_again([(topic, Message(name.format(workflow_id), key, b"forged"))])
        await asyncio.sleep(60.0)
        assert len(await take_dead_letters(world, topic)) == 1
        assert await finish(world, workflow_id) == "lali"

    play(scenario, lambda world: Spoiling(world, topic, 99, garbage))


def test_a_task_whose_copy_is_too_large_and_of_a_newer_release_fails() -> None:
    """It waits for a worker of that release, and the limit of the broker is lowered meanwhile."""

    async def scenario(world: World, spoiling: Spoiling) -> None:
        workflow_id = await begin(world, 0)
        world.broker.max_payload = 900
        await asyncio.sleep(60.0)
        assert "above the limit" in await finish(world, workflow_id)

    def newer(body: bytes) -> bytes:
        return b'{"t":"later","x":"%b"}' % (b"x" * 1000)

    play(scenario, lambda world: Spoiling(world, SERVICE, 0, newer))


@pytest.mark.parametrize("name", ["Song", "a/b", "50%", "%2F", "é/ü", "/", "%"])
@pytest.mark.parametrize(
    "attempt", [("w", 3, 0, 0, 0), ("w-1", 3, 0, 0, 2), ("w/0/0/1-3", 0, 5, 0, 0), ("/-", 1, 1, 4, 1)]
)
def test_the_id_of_a_message_says_which_attempt_of_which_workflow(name: str, attempt: Attempt) -> None:
    text = ids.attempt_id(*attempt)
    assert ids.read_attempt(text) == attempt
    assert ids.read_task_message(ids.task_message_id(name, text)) == (name, attempt)


def test_a_message_id_has_at_most_255_characters() -> None:
    text = ids.attempt_id("i" * 240, 3, 0, 0, 1)
    assert ids.task_message_id("n" * 20, text) == text
    assert ids.read_task_message(text) is None
