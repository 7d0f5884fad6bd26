"""The program of a peer in another process.

It reads a pickled `Errand`, does it, prints what it has in hand as one line of JSON, and waits to
be killed.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Message, Transport


@dataclass(frozen=True)
class Errand:
    """What a peer in another process does before it is killed.

    Attributes:
        connect: makes its connection.
        topic: where everything happens.
        subscription: of its consumer.
        prefetch: of its consumer.
        durable: whether its consumer is of a durable subscription.
        publish: what it publishes, when its consumer has joined.
        take: how many messages it takes in hand.
        ack: how many of them it acknowledges, from the first one.
    """

    connect: Callable[[], Transport]
    topic: Topic
    subscription: str
    prefetch: int = 100
    durable: bool = True
    publish: list[Message] = field(default_factory=list[Message])
    take: int = 0
    ack: int = 0


async def run(errand: Errand) -> None:
    """Do an errand, say so, and wait to be killed."""
    transport = errand.connect()
    consumer = await transport.subscribe(errand.topic, errand.subscription, errand.prefetch, durable=errand.durable)
    if errand.publish:
        await transport.publish(errand.topic, errand.publish)
    taken: list[Delivery] = []
    while len(taken) < errand.take:
        taken += await consumer.receive(errand.take - len(taken))
    await consumer.ack(taken[: errand.ack])
    await asyncio.sleep(transport.capabilities.ack_durability)
    in_hand = [delivery.message.body.decode() for delivery in taken[errand.ack :]]
    sys.stdout.write(json.dumps(in_hand) + "\n")
    sys.stdout.flush()
    await _wait_for_ever(consumer)


async def _wait_for_ever(consumer: Consumer) -> None:
    """Wait. The consumer is an argument, so that nothing of it is collected meanwhile."""
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """Do the errand that can be read."""
    errand = pickle.load(sys.stdin.buffer)
    assert isinstance(errand, Errand)
    asyncio.run(run(errand))
