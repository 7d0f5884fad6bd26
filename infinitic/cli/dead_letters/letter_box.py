"""Reads, removes and replays dead letters, on any transport.

Dead letters stay in their topic. To look at them, a command takes nothing in hand, if the adapter
can do that. To remove them it receives them. Those that it does not acknowledge go back to the
broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from infinitic import topics
from infinitic.cli.output import decode_body, format_instant
from infinitic.clock import Clock
from infinitic.engines.workflow.tags import forget_claim
from infinitic.errors import InfiniticError
from infinitic.ids import new_id
from infinitic.messages import tags
from infinitic.messages.engine import Unpark, encode
from infinitic.messages.partial_reading import read_unique_start
from infinitic.runtime.publisher import ATTEMPTS, CAUSE, CUT, ORIGIN
from infinitic.topics import Topic
from infinitic.transport import (
    Consumer,
    Delivery,
    Message,
    Peeked,
    Transport,
    UnknownTopic,
    UnsupportedCapability,
)

HEADER_PREFIX = "infinitic-"
"""The beginning of the names of headers that a message got on its way to the dead letters."""

MAX_SEARCHED = 10_000
"""How many letters of a topic are looked through for an id."""

SEARCH_PAGE = 1000

RECEIVE_SECONDS = 3.0
"""How long to wait for a letter that should be there. Another consumer may have received it."""


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """A dead letter.

    Args:
        id: the id of the message. All messages to an instance have the id of the instance.
        key: the key of the message.
        topic: the topic that it came from.
        cause: why it was given up.
        attempts: how often it was delivered.
        published_at: when it came to the dead letters.
        size: the bytes of its body.
        headers: its headers, if it is shown whole.
        body: its body, if it is shown whole.
    """

    id: str
    key: str | None
    topic: str
    cause: str
    attempts: int | None
    published_at: str | None
    size: int
    headers: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    body: Any = msgspec.UNSET


class LetterBox:
    """The dead letters of one topic that were there when it was opened.

    Args:
        topic: the topic that the letters came from.
        expected: how many letters there are.
        consumer: receives them; None if there are none.
        patience: how long to wait for a letter, in seconds.
    """

    def __init__(self, topic: Topic, expected: int, consumer: Consumer | None, patience: float) -> None:
        self.topic = topic
        self.expected = expected
        self.received = 0
        self._consumer = consumer
        self._patience = patience

    async def receive(self, most: int) -> list[Delivery]:
        """Receive up to `most` more letters.

        There are none if all were received, here or by another consumer.
        """
        wanted = min(most, self.expected - self.received)
        if self._consumer is None or wanted < 1:
            return []
        try:
            async with asyncio.timeout(self._patience):
                deliveries = await self._consumer.receive(wanted)
        except TimeoutError:
            return []
        self.received += len(deliveries)
        return deliveries

    async def iterate_pages(self, size: int, most: int = MAX_SEARCHED) -> AsyncIterator[list[Delivery]]:
        """Receive letters page by page.

        Args:
            size: how many letters a page has at most.
            most: how many letters at most, in all pages together.
        """
        while self.received < most and (page := await self.receive(min(size, most - self.received))):
            yield page

    async def remove(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters that were received."""
        if self._consumer is not None:
            await self._consumer.ack(deliveries)


@asynccontextmanager
async def open_letter_box(
    transport: Transport, topic: Topic, max_unacked: int, patience: float = RECEIVE_SECONDS
) -> AsyncGenerator[LetterBox]:
    """Open the dead letters of a topic. A topic that does not exist has none.

    Args:
        transport: the connection to the broker.
        topic: the topic that the letters came from.
        max_unacked: how many letters may be received and not removed at once.
        patience: how long to wait for a letter, in seconds.
    """
    letters = topics.dead_letters(topic)
    subscription = letters.subscription
    assert subscription is not None
    stats = (await transport.stats(letters)).subscriptions.get(subscription)
    expected = 0 if stats is None else stats.backlog + stats.unacked
    if not expected:
        yield LetterBox(topic, 0, None, patience)
        return
    try:
        consumer = await transport.subscribe(letters, subscription, max(1, min(max_unacked, expected)))
    except UnknownTopic:
        yield LetterBox(topic, 0, None, patience)
        return
    try:
        yield LetterBox(topic, expected, consumer, patience)
    finally:
        await consumer.close()


async def peek_letters(
    transport: Transport, topic: Topic, limit: int, patience: float = RECEIVE_SECONDS
) -> tuple[list[Peeked], int]:
    """Look at the dead letters of a topic, oldest first.

    Nothing is taken in hand: several people may look at once, and replay and drop meanwhile. An
    adapter that cannot do that receives the letters, and gives them back.

    Args:
        transport: the connection to the broker.
        topic: the topic that the letters came from.
        limit: how many letters at most.
        patience: how long to wait for a letter, in seconds, if they have to be received.

    Returns:
        The letters, and how many there are in all.
    """
    letters = topics.dead_letters(topic)
    subscription = letters.subscription
    assert subscription is not None
    stats = (await transport.stats(letters)).subscriptions.get(subscription)
    total = 0 if stats is None else stats.backlog + stats.unacked
    if not total or limit < 1:
        return [], total
    try:
        return await transport.peek(letters, subscription, limit), total
    except UnsupportedCapability:
        async with open_letter_box(transport, topic, limit, patience) as box:
            received = [each async for page in box.iterate_pages(limit, limit) for each in page]
            return [Peeked(each.message, each.published_at) for each in received], total


def make_letter(topic: Topic, letter: Peeked, *, whole: bool = False) -> DeadLetter:
    """Make a letter as people see it.

    Args:
        topic: the topic that it came from.
        letter: the letter.
        whole: with headers and body.
    """
    message = letter.message
    headers = message.headers
    attempts = headers.get(ATTEMPTS, "")
    return DeadLetter(
        message.id,
        message.key,
        headers.get(ORIGIN, topic.name),
        headers.get(CAUSE, ""),
        int(attempts) if attempts.isdecimal() else None,
        format_instant(letter.published_at),
        len(message.body),
        dict(headers) if whole else msgspec.UNSET,
        decode_body(message.body) if whole else msgspec.UNSET,
    )


async def find_deliveries(box: LetterBox, ids: Collection[str], *, whole: bool = False) -> list[Delivery]:
    """Find letters by their ids, among the first `MAX_SEARCHED` of a box.

    Args:
        box: an open box.
        ids: the ids. Several letters may have the id of one instance.
        whole: whether the other letters of the same instances are wanted as well. They are also
            found by the id of their instance.
    """
    letters = [each async for page in box.iterate_pages(SEARCH_PAGE) for each in page]
    if not (whole and is_of_instances(box)):
        return [each for each in letters if each.message.id in ids]
    keys = {each.message.key for each in letters if each.message.id in ids or each.message.key in ids}
    return [each for each in letters if each.message.key in keys]


def is_of_instances(box: LetterBox) -> bool:
    """Tell whether these letters were for instances of a workflow, whose order counts."""
    return box.topic.subscription == topics.STATE_ENGINE


async def replay_deliveries(
    transport: Transport, clock: Clock, unparked: set[str], box: LetterBox, deliveries: Sequence[Delivery]
) -> None:
    """Publish letters to where they came from, in order, and then remove them here.

    Before the first letter of an instance goes what unparks it, if it is parked.

    Args:
        transport: the connection to the broker.
        clock: the time that goes into messages.
        unparked: the ids of instances whose letters were published before. Those of these letters
            are added.
        box: the box that the letters were received from.
        deliveries: the letters.

    Raises:
        InfiniticError: a letter was cut because it was too large, or came from an unknown topic.
    """
    by_topic: dict[str, tuple[Topic, list[Message]]] = {}
    # The broker promises no order of dead letters. They were published in order.
    for each in sorted(deliveries, key=lambda delivery: delivery.published_at):
        topic = _find_origin(box, each)
        messages = by_topic.setdefault(topic.name, (topic, []))[1]
        restored = _restore_message(each.message)
        key = restored.key
        if key and topic.subscription == topics.STATE_ENGINE and key not in unparked:
            unparked.add(key)
            unpark = Unpark(made_at=clock.now(), request_id=new_id())
            messages.append(Message(key, key, encode(unpark)))
        topic, restored = _claim_first(topic, restored, clock.now())
        by_topic.setdefault(topic.name, (topic, []))[1].append(restored)
    await transport.declare([topic for topic, _ in by_topic.values()])
    for topic, messages in by_topic.values():
        await transport.publish(topic, messages)
    await box.remove(deliveries)


def _claim_first(topic: Topic, message: Message, now: float) -> tuple[Topic, Message]:
    """Have the tag engine claim the custom id of a start again, which may be freed since.

    Args:
        topic: where the letter came from.
        message: the letter.
        now: seconds since the Unix epoch.

    Returns:
        The message to send instead, and where. All but such a start stays as it is.
    """
    if topic.subscription != topics.STATE_ENGINE or not message.key:
        return topic, message
    start = read_unique_start(message.body)
    if start is None:
        return topic, Message(message.id, message.key, forget_claim(message.body), message.headers)
    claim = tags.Reclaim(made_at=now, id=message.key, start=msgspec.Raw(message.body))
    tagged = topics.workflow_tag(topic.name.partition(":")[2])
    return tagged, Message(message.id, tags.make_custom_id_key(start.custom_id), tags.encode(claim))


def _restore_message(message: Message) -> Message:
    if CUT in message.headers:
        raise InfiniticError(
            f"The letter {message.id} cannot be replayed: only the beginning of its {message.headers[CUT]} bytes "
            "was kept, because it was too large for the dead letters"
        )
    headers = {name: value for name, value in message.headers.items() if not name.startswith(HEADER_PREFIX)}
    return Message(message.id, message.key, message.body, headers)


def _find_origin(box: LetterBox, delivery: Delivery) -> Topic:
    name = delivery.message.headers.get(ORIGIN, box.topic.name)
    if name == box.topic.name:
        return box.topic
    kind, _, of = name.partition(":")
    for make_topic in (
        topics.service_executor,
        topics.workflow_engine,
        topics.workflow_executor,
        topics.workflow_tag,
        topics.service_tag,
        topics.workflow_events,
        topics.service_events,
    ):
        if of and make_topic(of).name == f"{kind}:{of}":
            return make_topic(of)
    raise InfiniticError(
        f"The letter {delivery.message.id} cannot be replayed: this release does not know the topic '{name}' "
        "that it came from"
    )
