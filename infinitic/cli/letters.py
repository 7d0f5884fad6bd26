"""Dead letters: reading, removing and replaying them, on any transport.

They stay in the topic: whoever looks takes them in hand, and gives back those that it has not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from infinitic import topics
from infinitic.cli.output import instant, pretty
from infinitic.errors import InfiniticError
from infinitic.runtime.publisher import ATTEMPTS, CAUSE, CUT, ORIGIN
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Message, Transport, UnknownTopic

OURS = "infinitic-"
DEEPEST = 10_000
"""How many letters are looked through for an id."""

PATIENCE = 3.0
"""Seconds to wait for a letter that should be there: another consumer may have it in hand."""


class Letter(msgspec.Struct, omit_defaults=True):
    """A dead letter. `topic` is where it came from, `size` is in bytes of body."""

    id: str
    key: str | None
    topic: str
    cause: str
    attempts: int | None
    published_at: str | None
    size: int
    headers: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    body: Any = msgspec.UNSET


class Box:
    """The dead letters of one topic that were there when it was opened, in hand one after the other."""

    def __init__(self, topic: Topic, expected: int, consumer: Consumer | None, patience: float) -> None:
        self.topic = topic
        self.expected = expected
        self.seen = 0
        self._consumer = consumer
        self._patience = patience

    async def take(self, most: int) -> list[Delivery]:
        """Up to `most` more; none if there are no more, or if others have the rest in hand."""
        wanted = min(most, self.expected - self.seen)
        if self._consumer is None or wanted < 1:
            return []
        try:
            async with asyncio.timeout(self._patience):
                taken = await self._consumer.receive(wanted)
        except TimeoutError:
            return []
        self.seen += len(taken)
        return taken

    async def pages(self, size: int, most: int = DEEPEST) -> AsyncIterator[list[Delivery]]:
        """What `take` gives, up to `most` of them."""
        while self.seen < most and (taken := await self.take(min(size, most - self.seen))):
            yield taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters."""
        if self._consumer is not None:
            await self._consumer.ack(deliveries)


@asynccontextmanager
async def opened_box(
    transport: Transport, topic: Topic, in_hand: int, patience: float = PATIENCE
) -> AsyncGenerator[Box]:
    """The dead letters of a topic; at most `in_hand` are held at once. A topic that does not exist has none."""
    letters = topics.dead_letters(topic)
    subscription = letters.subscription
    assert subscription is not None
    stats = (await transport.stats(letters)).subscriptions.get(subscription)
    expected = 0 if stats is None else stats.backlog + stats.unacked
    if not expected:
        yield Box(topic, 0, None, patience)
        return
    try:
        consumer = await transport.subscribe(letters, subscription, max(1, min(in_hand, expected)))
    except UnknownTopic:
        yield Box(topic, 0, None, patience)
        return
    try:
        yield Box(topic, expected, consumer, patience)
    finally:
        await consumer.close()


def letter(box: Box, delivery: Delivery, *, whole: bool = False) -> Letter:
    """A letter as people see it; `whole`: with headers and body."""
    message = delivery.message
    headers = message.headers
    attempts = headers.get(ATTEMPTS, "")
    return Letter(
        message.id,
        message.key,
        headers.get(ORIGIN, box.topic.name),
        headers.get(CAUSE, ""),
        int(attempts) if attempts.isdecimal() else None,
        instant(delivery.published_at),
        len(message.body),
        dict(headers) if whole else msgspec.UNSET,
        pretty(message.body) if whole else msgspec.UNSET,
    )


async def counted(box: Box, limit: int) -> list[Letter]:
    """The first `limit` letters."""
    return [letter(box, each) async for page in box.pages(limit, limit) for each in page]


async def find(box: Box, wanted: Collection[str]) -> list[Delivery]:
    """The letters that have one of these ids. A workflow's have that of the instance: there may be several."""
    return [each async for page in box.pages(1000) for each in page if each.message.id in wanted]


async def replay(transport: Transport, box: Box, deliveries: Sequence[Delivery]) -> None:
    """Publish letters to where they came from, in order, and remove them when the broker has them there."""
    by_topic: dict[str, tuple[Topic, list[Message]]] = {}
    for each in deliveries:
        topic = _origin(box, each)
        by_topic.setdefault(topic.name, (topic, []))[1].append(_again(each.message))
    await transport.declare([topic for topic, _ in by_topic.values()])
    for topic, messages in by_topic.values():
        await transport.publish(topic, messages)
    await box.ack(deliveries)


def _again(message: Message) -> Message:
    if CUT in message.headers:
        raise InfiniticError(
            f"The letter {message.id} cannot be replayed: it is the beginning of a message of "
            f"{message.headers[CUT]} bytes, which was too large to be kept"
        )
    headers = {name: value for name, value in message.headers.items() if not name.startswith(OURS)}
    return Message(message.id, message.key, message.body, headers)


def _origin(box: Box, delivery: Delivery) -> Topic:
    name = delivery.message.headers.get(ORIGIN, box.topic.name)
    if name == box.topic.name:
        return box.topic
    kind, _, of = name.partition(":")
    for make in (topics.service_executor, topics.workflow_engine, topics.workflow_executor):
        if of and make(of).name == f"{kind}:{of}":
            return make(of)
    raise InfiniticError(
        f"The letter {delivery.message.id} came from '{name}', a topic that this release does not know"
    )
