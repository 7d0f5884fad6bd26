"""S38: an input that keeps failing is retried for a while. Then its key is parked, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic import RequestRefusedError, Workflow, topics
from infinitic.engines import state
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Change, Flag, Outcome, Published, Refused, StateKey
from infinitic.topics import Topic
from infinitic.transport import Message, MessageTooLarge
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.inbox import CASE, ENGINE, Inbox, read_signals, send, start
from tests.simulation.invariants import read_instances
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, run_scenario


class Sleeper(Workflow):
    async def sleep(self) -> None:
        await asyncio.sleep(600.0)


GARBAGE = b'{"t": "signal", "this": "is none"}'


class Picky(ObservedDatabase):
    """Refuses to store one signal: it can be decoded, but never be taken."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        bad = [change for change in changes if isinstance(change, Change) and _has_poison(change)]
        outcomes = iter(super().commit([change for change in changes if change not in bad]))
        return [Refused("this is poison") if change in bad else next(outcomes) for change in changes]


def _has_poison(change: Change) -> bool:
    return change.segment is not None and b"poison" in change.segment.events


def test_a_poison_message_parks_its_key_after_its_budget_and_no_other_key() -> None:
    async def scenario(world: World) -> None:
        broken, sound = await start(world, 9), await start(world, 2)
        one, poison, two, three = (encode_signal(world, each) for each in ("1", "poison", "2", "3"))
        await send(world, broken, one, poison, two)
        await asyncio.sleep(1.0)
        assert read_signals(world, broken) == ['"1"'], "what came before the poison, in the same batch, is taken alone"
        await send(world, sound, encode_signal(world, "a"))
        await asyncio.sleep(30.0)
        await send(world, broken, three)
        await send(world, sound, encode_signal(world, "b"))
        assert await world.client.get_handle(Inbox.read, sound).result() == ["a", "b"], "other keys go on"
        await asyncio.sleep(27.0)
        assert await take_dead_letters(world, ENGINE) == []
        await asyncio.sleep(10.0)
        dead = await take_dead_letters(world, ENGINE)
        assert [(letter.key, letter.body) for letter in dead] == [(broken, poison), (broken, two), (broken, three)]
        assert "this is poison" in dead[0].headers[CAUSE]
        assert read_signals(world, broken) == ['"1"']
        assert state.decode(read_instances(world.database)[StateKey("Inbox", broken)][0]).parked

    run_scenario(scenario, CASE, database=Picky())


def test_a_start_is_taken_though_what_overtook_it_is_poison() -> None:
    async def scenario(world: World) -> None:
        await world.client.dispatch(world.client.new_workflow(Inbox).read, 1)
        await world.run_until_idle()
        (start,) = (message for topic, message in world.published if topic == ENGINE)
        poison = encode_signal(world, "poison")
        await world.stop()
        await send(world, "new", poison, start.body)
        world.host(CASE, host_all)
        await world.run_until_idle()
        await asyncio.sleep(1.0)
        assert StateKey("Inbox", "new") in read_instances(world.database), "it was taken alone"
        await asyncio.sleep(70.0)
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == [poison]
        assert state.decode(read_instances(world.database)[StateKey("Inbox", "new")][0]).parked

    run_scenario(scenario, CASE, database=Picky())


def test_a_parked_instance_shows_as_parked_and_takes_nothing_wherever_it_is() -> None:
    async def scenario(world: World) -> None:
        broken = await start(world, 9)
        poison = encode_signal(world, "poison")
        await send(world, broken, poison)
        await asyncio.sleep(70.0)
        stub = world.client.get_workflow_by_id(Inbox, broken)
        assert (await world.client.describe(stub)).parked
        assert [each.key.id for each in (await world.client.list_workflows(flag=Flag.PARKED)).found] == [broken]
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == [poison]
        later = [encode_signal(world, each) for each in ("1", "2")]
        await send(world, broken, *later)
        await world.run_until_idle()
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == later

        other = world.worker()  # another worker knows it from the state
        host_all(other, CASE)
        world.transport_of(0).crash()
        world.start(other)
        await send(world, broken, *later)
        assert (await world.client.describe(stub)).parked
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == later
        assert read_signals(world, broken) == []
        assert not world.backlog()

    run_scenario(scenario, CASE, database=Picky())


def test_a_parked_instance_sends_its_last_messages_no_more() -> None:
    """Its last outbox may hold a wake that is due. Publishing it again would never stop."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Sleeper).sleep)
        await world.run_until_idle()
        broken = handle.workflow_id
        await send(world, broken, encode_signal(world, "poison"), topic=topics.workflow_engine("Sleeper"))
        await asyncio.sleep(70.0)
        await asyncio.sleep(3600.0)  # its own wake is due long since
        stub = world.client.get_workflow_by_id(Sleeper, broken)
        for _ in range(3):
            assert (await world.client.describe(stub)).parked
        await world.run_until_idle()
        dead = (await world.transport.stats(topics.dead_letters(topics.workflow_engine("Sleeper")))).subscriptions
        assert dead["dead-letters"].backlog == 2, "the poison, and the wake that was in the broker already"

    run_scenario(scenario, Case("sleeper", (Sleeper,), lambda client: asyncio.sleep(0), ()), database=Picky())


class Choosy(InMemoryTransport):
    """Its broker takes less than before: a result is too large for it."""

    __slots__ = ("refuses",)

    def __init__(self, world: World) -> None:
        super().__init__(world.broker, clock=world.clock)
        self.refuses = False

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if self.refuses and any(b'"completed"' in message.body for message in messages):
            raise MessageTooLarge(len(messages[0].body), 10, topic.name)
        await super().publish(topic, messages)


def test_a_tombstone_is_never_parked() -> None:
    """It would be listed as running, and never be removed. Its messages go to the dead letters."""

    async def main() -> None:
        world = World(is_watched=False)  # its broker takes less than it said
        async with world.open():
            transport = Choosy(world)
            worker = world.worker(transport)
            host_all(worker, CASE)
            world.start(worker)
            await world.run_until_idle()
            closed = await start(world, 0)
            before = read_instances(world.database)
            transport.refuses = True
            with pytest.raises(RequestRefusedError, match="above the limit"):
                await world.client.get_handle(Inbox.read, closed).result()
            transport.refuses = False
            assert await take_dead_letters(world, ENGINE)
            assert read_instances(world.database) == before
            assert await world.client.get_handle(Inbox.read, closed).result() == []
            found = (await world.client.list_workflows()).found
            assert [(each.entry.status, each.entry.flag) for each in found] == [("completed", None)]
            assert not world.backlog()

    run(main())


@pytest.mark.parametrize("key", ["nobody", "", "x" * 300])
def test_garbage_for_nobody_ends_in_the_dead_letters_at_once(key: str) -> None:
    async def scenario(world: World) -> None:
        await send(world, key, GARBAGE)
        await world.run_until_idle()
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == [GARBAGE]
        assert not read_instances(world.database)
        assert not world.backlog()

    run_scenario(scenario, CASE)


def test_a_task_nobody_can_read_ends_in_the_dead_letters_at_once() -> None:
    """An executor can do nothing with it, and nobody waits in order behind it."""

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            worker.add_service(Reader())
            host = world.start(worker)
            await world.run_until_idle()
            topic = topics.service_executor("Reader")
            await world.deliver_again([(topic, Message("x", None, b"no task"))])
            await world.run_until_idle()
            dead = (await world.transport.stats(topics.dead_letters(topic))).subscriptions["dead-letters"]
            assert dead.backlog == 1
            assert (await world.transport.stats(topic)).subscriptions["service-executor"].unacked == 0
            assert not host.done()

    run(main())


class Reader:
    async def read(self) -> None:
        """Never called."""
