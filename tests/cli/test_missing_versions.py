"""What `doctor` and `describe` say of instances that wait for the code of a version."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, Workflow, topics, workflow
from infinitic.cli.connection import Connection
from infinitic.cli.describe.command import describe
from infinitic.cli.doctor.servers import check_versions
from infinitic.cli.project import Project
from infinitic.diagnosis import Level
from infinitic.errors import TransportError
from infinitic.storage import Change, Entry, StateKey, WorkflowStatus
from infinitic.topics import Topic
from infinitic.transport import Message, TopicStats
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.world import World


@workflow(name="Plan", version=1)
class First(Workflow):
    words = Channel[str]()

    async def hear(self) -> str:
        return await self.words.receive()


@workflow(name="Plan", version=2)
class Second(First):
    async def hear(self) -> str:
        return await self.words.receive()


MISSING = "activation waiting for the code of version 1, which no worker has"


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("stored", [False, True], ids=["broker alone", "storage"])
def test_doctor_and_describe_name_the_version_that_is_missing(*, split: bool, stored: bool) -> None:
    async def main() -> None:
        world = World()
        project = Project((), {"Plan": (Second,)})

        async def find_missing() -> list[str]:
            found = await check_versions(world.transport, world.storage if stored else None, project)
            return [f"{each.subject}: {each.message}" for each in found]

        async def notes(workflow_id: str) -> list[str]:
            connection = Connection(world.client, world.transport, world.storage if stored else None, project)
            return [
                each for each in (await describe(connection, "Plan", workflow_id)).notes if "open tasks" not in each
            ]

        async with world.open():
            old = world.worker()
            old.add_workflow(First)
            host = world.start(old)
            await world.run_until_idle()
            handle = await world.client.dispatch(world.client.new_workflow(First).hear)
            other = await world.client.dispatch(world.client.new_workflow(First).hear)
            await world.run_until_idle()
            host.cancel()
            await asyncio.wait([host])
            new = world.worker()
            new.add_workflow(Second)
            world.start(new)
            if split:
                engine = world.worker()
                engine.add_workflow_state_engine("Plan")
                world.start(engine)
            await world.run_until_idle()
            assert await find_missing() == []
            assert await notes(handle.workflow_id) == []
            await world.client.get_workflow_by_id(First, handle.workflow_id).words.send("yes")
            await world.run_until_idle()
            assert await find_missing() == [f"workflow Plan: 1 {MISSING}"]
            (note,) = await notes(handle.workflow_id)
            assert note.startswith("it waits for the code of version 1, which no worker has: ")
            if stored:
                assert await notes(other.workflow_id) == [], "it waits for a signal, not for code"
            again = world.worker()
            again.add_workflow_executor(First)
            world.start(again)
            assert await handle.result() == "yes"
            await world.run_until_idle()
            assert await find_missing() == []
            assert await notes(handle.workflow_id) == []

    run(main())


async def test_versions_before_the_known_ones_are_checked(sim: Simulation) -> None:
    for version in (0, 49, 50, 51):
        topic = topics.workflow_version("Plan", version)
        await sim.transport.declare([topic])
        await sim.transport.publish(topic, [Message("a", "a", b"")])
    for newest, expected in ((2, ["0"]), (50, ["0", "49", "50"]), (51, ["51"])):
        cls = workflow(name="Plan", version=newest)(type("Plan", (First,), {"hear": First.hear}))
        found = await check_versions(sim.transport, None, Project((), {"Plan": (cls,)}))
        assert [each.message.split("version ")[1].split(",")[0] for each in found] == expected


async def test_a_check_that_is_impossible_is_reported(sim: Simulation) -> None:
    class Away(InMemoryTransport):
        async def stats(self, topic: Topic) -> TopicStats:
            raise TransportError("may not")

    async with Away(clock=sim.clock) as transport:
        (found,) = await check_versions(transport, InMemoryStorage(), Project((), {"Plan": ()}))
        assert (found.subject, found.level) == ("versions", Level.WARNING)
        assert found.message == "it cannot be found out whether code of a version is missing: may not"


async def test_versions_of_running_instances_are_checked(sim: Simulation) -> None:
    date, past = 20260131, 20250131
    storage = InMemoryStorage()
    entries = [Entry(WorkflowStatus.RUNNING, 1.0, date), Entry(WorkflowStatus.COMPLETED, 1.0, past, 2.0)]
    keys = [StateKey("Plan", str(number)) for number in range(2)]
    await storage.states.commit(
        [Change(key, None, 1, b"", 0.0, entry=entry) for key, entry in zip(keys, entries, strict=True)]
    )
    for version in (date, past):
        topic = topics.workflow_version("Plan", version)
        await sim.transport.declare([topic])
        await sim.transport.publish(topic, [Message("a", "a", b"")])
    (found,) = await check_versions(sim.transport, storage, Project((), {"Plan": ()}))
    assert f"version {date}," in found.message
