"""Messages that a test sends itself, and the dead letters that it finds."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from infinitic import ids, topics
from infinitic.messages import engine
from infinitic.topics import Topic
from infinitic.transport import Message
from tests.simulation.world import World


def make_signal(world: World, text: str, **fields: Any) -> engine.Signal:
    """Make a signal to the channel `letters`, whose value is a text.

    Args:
        world: tells the time at which it is made.
        text: without characters that JSON must escape.
        fields: further fields of the message. They win over the usual ones.
    """
    usual: dict[str, Any] = {"made_at": world.clock.now(), "signal_id": ids.new_id(), "channel": "letters"}
    return engine.Signal(**usual | fields, value=Raw(b'"%b"' % text.encode()))


def encode_signal(world: World, text: str) -> bytes:
    """Make the body of a signal to the channel `letters`."""
    return engine.encode(make_signal(world, text))


async def take_dead_letters(world: World, topic: Topic) -> list[Message]:
    """Receive and acknowledge all dead letters of a topic."""
    dead = topics.dead_letters(topic)
    await world.transport.declare([dead])
    found: list[Message] = []
    consumer = await world.transport.subscribe(dead, "dead-letters", 10_000)
    while (await world.transport.stats(dead)).subscriptions["dead-letters"].backlog:
        deliveries = await consumer.receive(10_000)
        await consumer.ack(deliveries)
        found += [delivery.message for delivery in deliveries]
    await consumer.close()
    return found
