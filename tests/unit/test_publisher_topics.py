"""A publisher sends to several topics at once, except where one of them has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic import topics
from infinitic.errors import TransportError
from infinitic.publishing import publish_together
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic
from infinitic.transport import (
    Batch,
    Message,
    MessageTooLarge,
    Outgoing,
    TransportClosed,
    TransportUnavailable,
    UnknownTopic,
)
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport

TAGS = topics.workflow_tag("Order")
ENGINE = topics.workflow_engine("Order")
TASKS = topics.service_executor("Mailer")
CLIENT = topics.client("c")
ALL = (CLIENT, ENGINE, TAGS, TASKS)


class Slow(InMemoryTransport):
    """Takes a second for each publish, and fails once with what the test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.failing: dict[str, list[Exception]] = {}

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self.log.append(f"to {topic.name}")
        await asyncio.sleep(1.0)
        for error in self.failing.get(topic.name, ()):
            self.failing[topic.name].remove(error)
            raise error
        await super().publish(topic, messages)
        self.log.append(f"at {topic.name}")

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        return await publish_together(self.publish, batches)


async def prepare() -> tuple[Slow, Publisher]:
    transport = Slow()
    await transport.declare([ENGINE, TAGS, TASKS])
    await transport.subscribe(CLIENT, "c", 10, durable=False)
    return transport, Publisher(transport)


async def count(transport: Slow, *which: Topic) -> list[int]:
    return [sum(each.backlog for each in (await transport.stats(topic)).subscriptions.values()) for topic in which]


MAIL = [Outgoing(topic, Message(str(number), "k", b"")) for number in (1, 2) for topic in ALL]


def test_all_are_sent_at_once_behind_those_to_tag_engines() -> None:
    """S37: who has an answer must find the custom id freed."""

    async def play() -> None:
        transport, publisher = await prepare()
        await publisher.publish(MAIL)
        names = [topic.name for topic in (CLIENT, ENGINE, TASKS)]
        assert transport.log == [f"to {TAGS.name}", f"at {TAGS.name}"] + [
            f"{what} {name}" for what in ("to", "at") for name in names
        ]
        assert asyncio.get_running_loop().time() < 2.5
        assert await count(transport, *ALL) == [2, 2, 2, 2]

    run(play())


def test_answers_wait_where_they_have_to() -> None:
    async def play() -> None:
        transport, publisher = await prepare()
        await publisher.publish(MAIL, answers_last=True)
        assert transport.log[-2:] == [f"to {CLIENT.name}", f"at {CLIENT.name}"]
        assert f"at {TASKS.name}" in transport.log[:-2]

    run(play())


@pytest.mark.parametrize("error", [TransportUnavailable("away"), UnknownTopic("gone")])
def test_what_fails_is_sent_again_alone(error: TransportError) -> None:
    async def play() -> None:
        transport, publisher = await prepare()
        transport.failing = {TASKS.name: [error]}
        await publisher.publish(MAIL)
        assert await count(transport, *ALL) == [2, 2, 2, 2]
        assert [each for each in transport.log if each.startswith("to")].count(f"to {TASKS.name}") == 2
        assert len([each for each in transport.log if each.startswith("to")]) == 5

    run(play())


def test_what_is_refused_is_raised_once_all_else_is_sent() -> None:
    async def play() -> None:
        transport, publisher = await prepare()
        refusal = MessageTooLarge(2, 1, ENGINE.name)
        transport.failing = {ENGINE.name: [refusal], TASKS.name: [TransportUnavailable("away")]}
        with pytest.raises(MessageTooLarge) as caught:
            await publisher.publish(MAIL)
        assert caught.value is refusal
        assert await count(transport, *ALL) == [2, 0, 2, 2]

    run(play())


def test_what_waits_for_a_refusal_is_not_sent() -> None:
    async def play() -> None:
        transport, publisher = await prepare()
        transport.failing = {TAGS.name: [MessageTooLarge(2, 1, TAGS.name)]}
        with pytest.raises(MessageTooLarge):
            await publisher.publish(MAIL)
        assert await count(transport, *ALL) == [0, 0, 0, 0]

    run(play())


def test_a_client_that_is_gone_is_passed_over() -> None:
    """S37."""

    async def play() -> None:
        transport, publisher = await prepare()
        gone = topics.client("gone")
        await publisher.publish([*MAIL, Outgoing(gone, Message("1", None, b""))])
        assert await count(transport, *ALL, gone) == [2, 2, 2, 2, 0]

    run(play())


def test_a_closed_connection_ends_it() -> None:
    async def play() -> None:
        transport, publisher = await prepare()
        transport.failing = {ENGINE.name: [TransportClosed("closed")]}
        with pytest.raises(TransportClosed):
            await publisher.publish(MAIL)

    run(play())


def test_a_failed_batch_leaves_none_on_its_way() -> None:
    """What comes back says what was sent: nothing may be sent after that."""

    async def play() -> None:
        transport, _ = await prepare()
        done: list[str] = []

        async def publish(topic: Topic, messages: Sequence[Message]) -> None:
            if topic is ENGINE:
                raise TransportClosed("closed")
            await asyncio.sleep(1.0)
            done.append(topic.name)

        with pytest.raises(TransportClosed):
            await publish_together(publish, [(ENGINE, []), (TASKS, [])])
        assert done == [TASKS.name]
        await transport.close()

    run(play())
