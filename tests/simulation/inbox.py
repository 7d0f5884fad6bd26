"""A workflow that reads signals, and what tests send to it."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow, topics
from infinitic.messages import events
from infinitic.storage import StateKey
from infinitic.topics import Topic
from infinitic.transport import Message
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.world import World


class Inbox(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        receiver = self.letters.receive()
        return [await receiver for _ in range(count)]


CASE = Case("inbox", (Inbox,), lambda client: asyncio.sleep(0), ())
ENGINE = topics.workflow_engine("Inbox")


async def send(world: World, key: str, *bodies: bytes, topic: Topic = ENGINE) -> None:
    """Publish messages for one instance, in this order."""
    await world.transport.publish(topic, [Message(key, key, body) for body in bodies])


def read_signals(world: World, key: str) -> list[str]:
    """Return the values of the signals in the history of an instance, as JSON."""
    _, segments = read_instances(world.database)[StateKey("Inbox", key)]
    return [
        bytes(event.value).decode() for event in decode_history(segments) if isinstance(event, events.SignalReceived)
    ]


async def start(world: World, count: int) -> str:
    """Start an instance that reads so many signals, and return its id."""
    handle = await world.client.dispatch(world.client.new_workflow(Inbox).read, count)
    await world.run_until_idle()
    return handle.workflow_id
