"""Publishes what engines want to be sent, in batches by topic. Topics are declared on first use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from infinitic import topics
from infinitic.engines.workflow.render import make_response
from infinitic.errors import TransportError
from infinitic.failures import fit_text
from infinitic.messages import client
from infinitic.messages.partial_reading import read_requester
from infinitic.runtime.backoff import retry_while_unavailable
from infinitic.topics import Topic
from infinitic.transport import (
    Batch,
    Delivery,
    Message,
    MessageTooLarge,
    Outgoing,
    Transport,
    TransportClosed,
    TransportUnavailable,
    UnknownTopic,
)

_logger = logging.getLogger("infinitic.runtime")

CAUSE = "infinitic-cause"
"""The header of a dead letter that says why it is one."""

ORIGIN = "infinitic-topic"
"""The header of a dead letter that names its topic."""

ATTEMPTS = "infinitic-attempts"
"""The header of a dead letter that says how often it was delivered."""

CUT = "infinitic-cut"
"""The header of a dead letter that was cut: how many bytes its body had."""

LONGEST_KEY = 255
"""How many characters of id and key stay in a dead letter that is cut."""

CUT_BYTES = 64 * 1024
"""How many bytes of its body stay in a dead letter that is cut, and at most half of what fits."""

CAUSE_BYTES = 2000
"""How many bytes of a reason, in UTF-8, go into a header."""


class Publisher:
    """Publishes through one transport, and waits with backoff while the broker is away.

    Args:
        transport: the connection to the broker.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._declared: set[str] = set()
        self._declaring: dict[str, asyncio.Lock] = {}

    async def publish(self, outgoing: Sequence[Outgoing], *, answers_last: bool = False) -> None:
        """Publish messages, in order within each topic. Those to tag engines go first.

        There is no other order between topics. A client that is gone is passed over (rule S37).

        Args:
            outgoing: any number of messages, also none.
            answers_last: whether answers to clients wait until all else is accepted.

        Raises:
            TransportError: what the broker refuses; not that it is away. What it does not refuse
                was sent, except what waits for what was refused.
        """
        if len(outgoing) == 1:
            await self.send(outgoing[0].topic, [outgoing[0].message])
            return
        by_topic: dict[str, tuple[Topic, list[Message]]] = {}
        last: Topic | None = None
        batch: list[Message] = []
        for each in outgoing:
            topic = each.topic
            # Most often many messages for one topic follow each other.
            if topic is not last:
                last = topic
                batch = by_topic.setdefault(topic.name, (topic, []))[1]
            batch.append(each.message)
        if last is not None and len(by_topic) == 1:
            await self.send(last, batch)
            return
        turns: tuple[list[Batch], ...] = ([], [], [])
        for each_batch in by_topic.values():
            turns[_find_turn(each_batch[0], answers_last=answers_last)].append(each_batch)
        for batches in turns:
            if batches:
                await self._send_all(batches)

    async def _send_all(self, batches: Sequence[Batch]) -> None:
        """Publish to several topics at once. What one of them refuses is raised at the end."""
        if len(batches) == 1:
            await self.send(*batches[0])
            return
        for topic, _ in batches:
            if topic.subscription is not None and topic.name not in self._declared:
                await self._declare_once(topic)
        refused: TransportError | None = None
        results = await self.transport.publish_all(batches)
        for (topic, messages), error in zip(batches, results, strict=True):
            if error is None:
                continue
            try:
                await self._send_again(topic, messages, error)
            except TransportClosed:
                raise
            except TransportError as final:
                refused = refused or final
        if refused is not None:
            raise refused

    async def send(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Publish messages to one topic, in order. It is declared first, if that is needed.

        Raises:
            TransportError: what the broker refuses; not that it is away.
        """
        if topic.subscription is not None and topic.name not in self._declared:
            await self._declare_once(topic)
        try:
            await self.transport.publish(topic, messages)
        except (TransportUnavailable, UnknownTopic) as error:
            await self._send_again(topic, messages, error)

    async def _send_again(self, topic: Topic, messages: Sequence[Message], error: TransportError) -> None:
        """Publish messages whose first publish has failed.

        Raises:
            TransportError: what the broker refuses; not that it is away.
        """

        async def publish() -> None:
            await self.transport.publish(topic, messages)

        what = f"Publishing to {topic.name}"
        try:
            if not isinstance(error, TransportUnavailable):
                raise error
            await retry_while_unavailable(what, publish)
        except UnknownTopic:
            if topics.is_for_listeners(topic):
                # It is made when it is first used. To look for it each time would cost more.
                _logger.debug("%s is declared", topic.name)
            elif topic.subscription is None:
                return
            else:
                _logger.error("%s is gone: it is declared anew", topic.name)
            await self.declare(topic)
            await retry_while_unavailable(what, publish)

    async def declare(self, topic: Topic) -> None:
        """Make a topic and its main subscription where they do not exist yet."""
        await retry_while_unavailable(f"Declaring {topic.name}", lambda: self.transport.declare([topic]))
        self._declared.add(topic.name)

    async def _declare_once(self, topic: Topic) -> None:
        """Declare a topic for all who want to publish to it now.

        During an outage many may wait. They must not all ask the broker when it is back.
        """
        async with self._declaring.setdefault(topic.name, asyncio.Lock()):
            if topic.name not in self._declared:
                await self.declare(topic)
        self._declaring.pop(topic.name, None)

    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        """Publish deliveries to the dead letters of their topic, in order.

        The caller acknowledges them.

        Clients and instances that wait for an answer to one of them are told. A dead letter that is
        too large is cut. Only messages that others have published can be that large.

        Args:
            topic: where the deliveries came from.
            deliveries: the messages.
            reason: why they are dead letters, for people.

        Raises:
            TransportError: what the broker refuses; not that it is away.
        """
        letters = [
            Message(
                delivery.message.id,
                delivery.message.key,
                delivery.message.body,
                _make_headers(delivery, topic, reason),
            )
            for delivery in deliveries
        ]
        dead = topics.dead_letters(topic)
        try:
            await self.send(dead, letters)
        except MessageTooLarge:
            for letter in letters:
                await self._send_letter(dead, letter)
        if topic.subscription in (topics.STATE_ENGINE, topics.TAG_ENGINE):
            await self.publish(_make_refusals(deliveries, reason))

    async def _send_letter(self, topic: Topic, letter: Message) -> None:
        try:
            await self.send(topic, [letter])
        except MessageTooLarge as error:
            _logger.error("The dead letter %s is cut: %s", letter.id[:100], error)
            await self.send(topic, [_cut(letter, error.limit)])


def _find_turn(topic: Topic, *, answers_last: bool) -> int:
    """What waits for what: each turn begins when the one before, if any, has been accepted."""
    # Who has the answer of an instance that has closed must find its custom id freed.
    if topic.subscription == topics.TAG_ENGINE:
        return 0
    return 2 if answers_last and topic.subscription is None else 1


def _cut(letter: Message, limit: int) -> Message:
    """The beginning of a dead letter, without the headers of others. `limit` is in bytes."""
    headers = {name: letter.headers[name] for name in (CAUSE, ORIGIN, ATTEMPTS)}
    headers[CUT] = str(len(letter.body))
    key = letter.key and letter.key[:LONGEST_KEY]
    return Message(letter.id[:LONGEST_KEY], key, letter.body[: min(CUT_BYTES, limit // 2)], headers)


def _make_refusals(deliveries: Sequence[Delivery], reason: str) -> list[Outgoing]:
    refusals: list[Outgoing] = []
    for delivery in deliveries:
        to = read_requester(delivery.message.body)
        if to is not None:
            unknown = client.WorkflowUnknown(to.request, fit_text(reason, CAUSE_BYTES))
            refusals.append(make_response(to, unknown, delivery.published_at))
    return refusals


def _make_headers(delivery: Delivery, topic: Topic, reason: str) -> Mapping[str, str]:
    cause = reason.encode(errors="backslashreplace")[:CAUSE_BYTES].decode(errors="ignore")
    return {
        **delivery.message.headers,
        CAUSE: cause,
        ORIGIN: topic.name,
        ATTEMPTS: str(delivery.attempt),
    }
