"""Events of steps and attempts whose worker died, and of tasks that run in other ways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from infinitic import Channel, EventType, Worker, Workflow, batch, service, task, task_context, topics
from infinitic.runtime.service_executor import blocking
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import Broker, InMemoryTransport

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


class Bell(Workflow):
    rings = Channel[int]()

    async def ring(self) -> int:
        return await self.rings.receive() + await self.rings.receive()


class Stuck(InMemoryTransport):
    """A connection of a process that never gets its events published."""

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if topics.is_for_listeners(topic):
            await asyncio.Event().wait()
        await super().publish(topic, messages)


@pytest.mark.parametrize("events", [True, False], ids=["events on", "events off"])
def test_whoever_takes_over_publishes_the_events_of_the_last_step_again(events: bool) -> None:
    """S12. Also a worker that publishes none of its own."""

    async def main() -> list[str]:
        broker, database = Broker(), Database()
        heard: list[CloudEvent] = []
        async with InMemoryTransport(broker) as transport, InMemoryStorage(database) as storage:
            listener = Worker(transport, run_blocking=blocking.inline)
            listener.add_event_listener(heard.extend, workflows=[Bell], max_seconds=0)
            async with listener.running():
                stuck = Stuck(broker)
                dying = Worker(stuck, InMemoryStorage(database), events=True, shutdown_grace_period=0)
                dying.add_workflow(Bell)
                async with dying.running():
                    handle = await dying.client.dispatch(dying.client.new_workflow(Bell).ring)
                    await asyncio.sleep(1)
                    stuck.crash()
                assert heard == []
                worker = Worker(transport, storage, events=events)
                worker.add_workflow(Bell)
                async with worker.running():
                    for number in (1, 2):
                        await worker.client.get_workflow_by_id(Bell, handle.workflow_id).rings.send(number)
                    assert await worker.client.get_handle(Bell.ring, handle.workflow_id).result() == 3
                    await asyncio.sleep(1)
        return [event.get_type() for event in heard]

    types = run(main())
    assert types[0] == EventType.WORKFLOW_DISPATCH
    assert (EventType.WORKFLOW_COMPLETED in types) == events


@service(name="Press")
class Press:
    """Tasks that run in batches, and one that somebody outside ends."""

    async def print_page(self, number: int) -> int:
        raise NotImplementedError

    async def sign(self) -> str:
        raise NotImplementedError


class RealPress(Press):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    @batch("print_page", max_messages=3, max_seconds=0.1)
    async def print_pages(self, pages: dict[str, int]) -> dict[str, int]:
        return pages

    @task(delegated=True)
    async def sign(self) -> str:
        self.tokens.append(task_context().delegation_token)
        return ""


class Book(Workflow):
    press = Workflow.new_service(Press)

    async def make(self) -> str:
        pages = [self.dispatch(self.press.print_page, number) for number in range(3)]
        for page in pages:
            await page
        return await self.press.sign()


async def test_tasks_of_batches_and_delegated_ones_are_told(sim: Simulation) -> None:
    """S7, S8."""
    press = RealPress()
    sim.add_service(press)
    sim.add_workflow(Book)
    heard: list[CloudEvent] = []
    sim.add_event_listener(heard.extend)
    handle = await sim.client.dispatch(sim.client.new_workflow(Book).make)
    await sim.sleep(2)
    types = [event.get_type() for event in heard]
    assert types.count(EventType.TASK_STARTED) == types.count(EventType.TASK_DISPATCH) == 4
    assert types.count(EventType.TASK_COMPLETED) == 3
    assert types.count(EventType.TASK_DELEGATION_COMPLETED) == 1
    await sim.client.complete_delegated_task(press.tokens[0], "signed")
    assert await handle.result() == "signed"
    await sim.sleep(2)
    ended = [event for event in heard if event.get_type() == EventType.WORKFLOW_TASK_COMPLETED]
    data = ended[-1].get_data()
    assert isinstance(data, dict)
    assert data["by"] == "sim-client"
