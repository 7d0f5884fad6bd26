"""S38: a bad message ends no worker and harms no other: it alone becomes a dead letter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from infinitic import Channel, Workflow, topics
from infinitic.engines import state
from infinitic.errors import DecodingError
from infinitic.messages import client, engine, executor, service
from infinitic.messages.decoding import UndecodableMessage, UnknownMessageType
from infinitic.runtime.publisher import CAUSE, CUT
from infinitic.storage import StateKey
from infinitic.topics import Topic
from infinitic.transport import Message
from tests.golden import samples
from tests.simulation.cases import Case
from tests.simulation.invariants import read_instances
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.mutations import mutate
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors, run_scenario
from tests.thorough import count_seeds


class Echo:
    async def say(self, text: str) -> str:
        return text


class Canary(Workflow):
    echo = Workflow.new_service(Echo)
    letters = Channel[str]()

    async def sing(self, count: int) -> list[str]:
        return [await self.echo.say(await self.letters.receive()) for _ in range(count)]


CASE = Case("canary", (Canary,), lambda client: asyncio.sleep(0), (Echo,))
ENGINE = topics.workflow_engine("Canary")
EXECUTOR = topics.workflow_executor("Canary")
SERVICE = topics.service_executor("Echo")
DECODERS: dict[str, Callable[[bytes], object]] = {
    ENGINE.name: engine.decode,
    EXECUTOR.name: executor.decode,
    SERVICE.name: service.decode,
}

FUSED: tuple[Hosting, ...] = (host_all,)
SPLIT: tuple[Hosting, ...] = (host_engines, host_executors)

WORST = {
    "no UTF-8": b'{"t":"\xff"}',
    "deep": b"[" * 100_000,
    "deep inside": b'{"t":"signal","at":1,"i":"x","c":"letters","v":%b%b}' % (b"[" * 9000, b"]" * 9000),
    "nothing": b"",
    "of another audience": b'{"t":"applied","q":"7"}',
    "a field is missing": b'{"t":"signal","at":1}',
    "a long name": b'{"t":"wait","at":1,"r":["%b","1"]}' % (b"x" * 9000),
    "a huge number": b'{"t":"task_completed","at":1,"p":1%b,"v":1}' % (b"0" * 50),
}


async def send(world: World, topic: Topic, key: str | None, body: bytes) -> None:
    await world.deliver_again([(topic, Message(key or "x", key, body))])


def list_parked(world: World) -> list[StateKey]:
    return [key for key, (head, _) in read_instances(world.database).items() if state.decode(head).parked]


def run_with_topics(hostings: tuple[Hosting, ...], scenario: Callable[[World], Awaitable[None]]) -> None:
    """Run a scenario with one worker for each role. All topics exist, and no worker may end."""

    async def declare_and_run(world: World) -> None:
        await world.transport.declare([ENGINE, EXECUTOR, SERVICE])
        await scenario(world)

    run_scenario(declare_and_run, CASE, *hostings, workers_must_live=True, is_watched=False)


async def start(world: World, count: int) -> str:
    handle = await world.client.dispatch(world.client.new_workflow(Canary).sing, count)
    await world.run_until_idle()
    return handle.workflow_id


@pytest.mark.parametrize("body", WORST.values(), ids=WORST.keys())
def test_S38_garbage_to_a_running_instance_goes_to_the_dead_letters_alone(body: bytes) -> None:
    async def scenario(world: World) -> None:
        victim = await start(world, 2)
        await send(world, ENGINE, victim, encode_signal(world, "a"))
        await send(world, ENGINE, victim, body)
        await send(world, ENGINE, victim, encode_signal(world, "b"))
        assert await world.client.get_handle(Canary.sing, victim).result() == ["a", "b"]
        (letter,) = await take_dead_letters(world, ENGINE)
        assert (letter.key, letter.body) == (victim, body)
        assert "input of an instance" in letter.headers[CAUSE]
        assert not list_parked(world)

    run_with_topics(FUSED, scenario)


@pytest.mark.parametrize("topic", [EXECUTOR, SERVICE], ids=["executor", "service"])
@pytest.mark.parametrize("body", WORST.values(), ids=WORST.keys())
def test_S38_garbage_to_any_component_goes_to_the_dead_letters_alone(topic: Topic, body: bytes) -> None:
    async def scenario(world: World) -> None:
        canary = await start(world, 1)
        await send(world, topic, canary if topic is EXECUTOR else None, body)
        await send(world, ENGINE, canary, encode_signal(world, "a"))
        assert await world.client.get_handle(Canary.sing, canary).result() == ["a"]
        (letter,) = await take_dead_letters(world, topic)
        assert letter.body == body
        assert letter.headers[CAUSE]

    run_with_topics(SPLIT, scenario)


@pytest.mark.parametrize("body", WORST.values(), ids=WORST.keys())
def test_S38_a_client_goes_on_after_a_bad_response(body: bytes) -> None:
    async def scenario(world: World) -> None:
        canary = await start(world, 1)
        waiting = asyncio.ensure_future(world.client.get_handle(Canary.sing, canary).result())
        await world.run_until_idle()
        topic = topics.client("client")
        for bad in (body, *(client.encode(each) for each in samples.RESPONSES)):
            await send(world, topic, None, bad)
        await send(world, ENGINE, canary, encode_signal(world, "a"))
        assert await waiting == ["a"]

    run_with_topics(FUSED, scenario)


def test_S41_an_input_of_a_newer_release_waits_and_holds_up_its_own_key_only() -> None:
    async def scenario(world: World) -> None:
        victim, canary = await start(world, 1), await start(world, 1)
        await send(world, ENGINE, victim, b'{"t":"added_later","at":1}')
        for key in (victim, canary):
            await send(world, ENGINE, key, encode_signal(world, "a"))
        assert await world.client.get_handle(Canary.sing, canary).result() == ["a"]
        await asyncio.sleep(3600.0)
        assert await take_dead_letters(world, ENGINE) == []
        assert not list_parked(world)
        assert world.backlog()[ENGINE.name] == (0, 2, 0), "it waits, and what comes after it"

    run_with_topics(FUSED, scenario)


SEEDS = range(count_seeds(usual=4, thorough=12))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hosting", [FUSED, SPLIT], ids=["fused", "split"])
def test_S38_mutated_messages_end_no_worker_and_park_nobody(seed: int, hosting: tuple[Hosting, ...]) -> None:
    """Whatever cannot be decoded becomes a dead letter, once: flipped bits, huge numbers …"""
    rng = random.Random(seed)
    bodies = [
        *map(engine.encode, samples.INPUTS),
        *map(service.encode, samples.ATTEMPTS),
        *map(executor.encode, samples.ACTIVATIONS),
        *map(client.encode, samples.RESPONSES),
    ]

    async def scenario(world: World) -> None:
        canary = await start(world, 5)
        victims = [await start(world, 9) for _ in range(5)]
        expected: dict[str, list[bytes]] = {name: [] for name in DECODERS}
        for number in range(5):
            for _ in range(40):
                topic = rng.choice([ENGINE, EXECUTOR, SERVICE, topics.client("client")])
                body = mutate(rng, bodies)
                key = rng.choice([*victims, "nobody", "", None])
                try:
                    message = DECODERS[topic.name](body) if topic.name in DECODERS else None
                    if isinstance(message, executor.Activate) and message.version:
                        continue  # waits for a worker that has this version
                    if isinstance(message, executor.Ask):
                        continue  # waits for the activation that it names, and there is none
                    if isinstance(message, service.ExecuteTask) and message.asked:
                        continue  # is published again, and nothing in the database is its cause
                except UnknownMessageType:
                    continue  # waits for another release, and holds up its key
                except UndecodableMessage:
                    expected[topic.name].append(body)
                await send(world, topic, key, body)
            await send(world, ENGINE, canary, encode_signal(world, str(number)))
            await asyncio.sleep(1.0)
        assert await world.client.get_handle(Canary.sing, canary).result() == ["0", "1", "2", "3", "4"]
        await asyncio.sleep(200.0)
        assert not list_parked(world)
        for topic in (ENGINE, EXECUTOR, SERVICE):
            dead = [letter.body for letter in await take_dead_letters(world, topic) if _is_undecodable(topic, letter)]
            assert sorted(dead) == sorted(expected[topic.name]), topic.name
            assert topic.name not in world.backlog()

    run_with_topics(hosting, scenario)


def _is_undecodable(topic: Topic, letter: Message) -> bool:
    try:
        DECODERS[topic.name](letter.body)
    except DecodingError:
        return True
    return False


@pytest.mark.parametrize("hosting", [FUSED, SPLIT], ids=["fused", "split"])
@pytest.mark.parametrize("topic", [ENGINE, EXECUTOR, SERVICE], ids=lambda topic: topic.name)
@pytest.mark.parametrize("start_of_it", [b"{", b'{"t":"newer","x":"'], ids=["garbage", "unknown"])
def test_what_is_too_large_for_the_dead_letters_harms_nobody(
    start_of_it: bytes, topic: Topic, hosting: tuple[Hosting, ...]
) -> None:
    """With the headers of a dead letter, this message is larger than the broker takes."""

    large = start_of_it + b"x" * 5_000 + b'"}'
    waits = topic is not SERVICE and start_of_it != b"{"

    async def scenario(world: World) -> None:
        workflow_id = await start(world, 3)
        await send(world, ENGINE, workflow_id, encode_signal(world, "a"))
        await world.run_until_idle()
        for key in ("another", "", "other"):
            await send(world, topic, key, large)
        world.broker.max_payload = 4_000
        await world.run_until_idle()
        await send(world, ENGINE, workflow_id, encode_signal(world, "b"))
        await asyncio.sleep(100.0)
        await send(world, ENGINE, workflow_id, encode_signal(world, "c"))
        async with asyncio.timeout(30.0):
            assert await world.client.get_handle(Canary.sing, workflow_id).result() == ["a", "b", "c"]
        assert not list_parked(world)
        found = await take_dead_letters(world, topic)
        assert len(found) == (1 if waits else 3)
        assert all(letter.headers[CUT] == str(len(large)) and large.startswith(letter.body) for letter in found)

    run_with_topics(hosting, scenario)
