"""S38: dead letters of a parked instance are replayed in order, and it takes messages again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from infinitic import topics
from infinitic.cli.connection import Connection
from infinitic.cli.dead_letters.actions import replay_letters
from infinitic.cli.project import Project
from infinitic.engines import state
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Change, Entry, Flag, Outcome, Published, Refused, StateKey
from tests.simulation.inbox import CASE, ENGINE, Inbox, read_signals, send, start
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, run_scenario


class Mendable(ObservedDatabase):
    """Refuses to store one signal, until somebody mends it."""

    mended = False

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        bad = [] if self.mended else [change for change in changes if isinstance(change, Change) and _is_bad(change)]
        outcomes = iter(super().commit([change for change in changes if change not in bad]))
        return [Refused("this is poison") if change in bad else next(outcomes) for change in changes]


def _is_bad(change: Change) -> bool:
    return change.segment is not None and b"poison" in change.segment.events


def _connect(world: World) -> Connection:
    return Connection(world.client, world.transport, world.storage, Project((), {"Inbox": ()}))


async def _park(world: World, count: int) -> str:
    """Start an instance that reads so many signals, and park it with the second one."""
    broken = await start(world, count)
    await send(world, broken, *(encode_signal(world, each) for each in ("1", "poison", "2")))
    await asyncio.sleep(70.0)
    await send(world, broken, encode_signal(world, "3"))
    await world.run_until_idle()
    assert (await world.client.describe(world.client.get_workflow_by_id(Inbox, broken))).parked
    return broken


@pytest.mark.parametrize("by", ["id", "all"])
def test_a_parked_instance_gets_its_letters_in_order_and_ends(by: str) -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 5)
        database.mended = True
        report = await replay_letters(_connect(world), [], ["Inbox"], [broken] if by == "id" else None, page=2)
        assert (report.count, report.missing) == (3, [])
        await send(world, broken, encode_signal(world, "4"))
        result = await world.client.get_handle(Inbox.read, broken).result()
        assert result == ["1", "poison", "2", "3", "4"]
        assert (await world.client.list_workflows(flag=Flag.PARKED)).found == []
        assert await take_dead_letters(world, ENGINE) == []

    run_scenario(scenario, CASE, database=database)


def test_letters_are_in_order_also_if_the_broker_mixes_them() -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 4)
        await asyncio.sleep(1.0)
        # The broker promises no order of dead letters.
        letters = await take_dead_letters(world, ENGINE)
        assert [letter.body for letter in letters][-1] == letters[2].body
        await world.transport.publish(topics.dead_letters(ENGINE), letters[:2])
        await asyncio.sleep(1.0)
        await world.transport.publish(topics.dead_letters(ENGINE), letters[2:])
        database.mended = True
        await replay_letters(_connect(world), [], ["Inbox"], [broken])
        assert await world.client.get_handle(Inbox.read, broken).result() == ["1", "poison", "2", "3"]

    run_scenario(scenario, CASE, database=database)


def test_an_instance_that_still_fails_is_parked_again_and_loses_nothing() -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 4)
        await replay_letters(_connect(world), [], ["Inbox"], [broken])
        stub = world.client.get_workflow_by_id(Inbox, broken)
        # The first try has both in one step. Then the message that unparks is taken alone.
        await asyncio.sleep(1.0)
        assert not (await _is_listed_as_parked(world, broken))
        await asyncio.sleep(70.0)
        assert (await world.client.describe(stub)).parked
        assert read_signals(world, broken) == ['"1"']
        database.mended = True
        report = await replay_letters(_connect(world), [], ["Inbox"], None)
        assert report.count == 3
        assert await world.client.get_handle(Inbox.read, broken).result() == ["1", "poison", "2", "3"]

    run_scenario(scenario, CASE, database=database)


def test_a_late_repeat_of_the_message_that_unparks_does_not_unpark_again() -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 4)
        await replay_letters(_connect(world), [], ["Inbox"], [broken])
        await asyncio.sleep(70.0)
        stub = world.client.get_workflow_by_id(Inbox, broken)
        assert (await world.client.describe(stub)).parked
        unparks = [(topic, each) for topic, each in world.published if each.body.startswith(b'{"t":"unpark"')]
        assert len(unparks) == 1
        await world.deliver_again(unparks)
        await world.run_until_idle()
        assert (await world.client.describe(stub)).parked
        assert await _is_listed_as_parked(world, broken)

    run_scenario(scenario, CASE, database=database)


def test_another_worker_unparks_an_instance_that_it_only_knows_from_the_storage() -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 4)
        await world.stop()
        database.mended = True
        await replay_letters(_connect(world), [], ["Inbox"], [broken])
        world.host(CASE, host_all)
        assert await world.client.get_handle(Inbox.read, broken).result() == ["1", "poison", "2", "3"]

    run_scenario(scenario, CASE, database=database)


def test_what_came_before_the_message_that_unparks_stays_a_dead_letter() -> None:
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 3)
        await world.stop()
        early = encode_signal(world, "early")
        await send(world, broken, early)
        database.mended = True
        await replay_letters(_connect(world), [], ["Inbox"], [broken])
        world.host(CASE, host_all)
        await world.run_until_idle()
        assert read_signals(world, broken)[:3] == ['"1"', '"poison"', '"2"']
        assert [letter.body for letter in await take_dead_letters(world, ENGINE)] == [early]

    run_scenario(scenario, CASE, database=database)


def test_a_worker_that_has_parked_an_instance_sees_that_another_one_has_unparked_it() -> None:
    """Its messages may come to the first worker again later."""
    database = Mendable()

    async def scenario(world: World) -> None:
        broken = await _park(world, 2)
        key = StateKey("Inbox", broken)
        stored = (await world.storage.states.load([key]))[key]
        # This is what the other worker writes.
        head = replace(state.decode(stored.head), parked=False)
        entry = Entry(WorkflowStatus.RUNNING, head.started_at, head.version)
        change = Change(key, stored.version, stored.version + 1, state.encode(head), world.clock.now(), entry=entry)
        await world.storage.states.commit([replace(change, published=True)])
        await send(world, broken, encode_signal(world, "4"))
        assert await world.client.get_handle(Inbox.read, broken).result() == ["1", "4"]

    run_scenario(scenario, CASE, database=database, is_watched=False)


async def _is_listed_as_parked(world: World, workflow_id: str) -> bool:
    """Return whether the storage lists the instance as parked."""
    page = await world.client.list_workflows(flag=Flag.PARKED)
    return [each.key.id for each in page.found] == [workflow_id]
