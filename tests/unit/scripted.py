"""A transport whose every delivery, outage and pause is written by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from infinitic.messages import service
from infinitic.messages.service import ExecuteTask
from infinitic.topics import Topic
from infinitic.transport import Capabilities, Consumer, Delivery, Message, MessageTooLarge, TopicStats, Transport


class ScriptedConsumer(Consumer):
    """Gives what the test puts into it, and notes what is acknowledged."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Delivery | Exception] = asyncio.Queue()
        self.acked: list[Delivery] = []
        self.closed = False

    async def receive(self, max_messages: int) -> list[Delivery]:
        received = list[Delivery]()
        while not received or (len(received) < max_messages and not self.waiting.empty()):
            given = await self.waiting.get()
            if isinstance(given, Exception):
                raise given
            received.append(given)
        return received

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.acked += deliveries

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        raise AssertionError("executors give nothing back that way")

    async def close(self) -> None:
        self.closed = True


class ScriptedTransport(Transport):
    """Notes what is published, once the test lets it pass.

    `limit` is the true limit of the broker, whatever its capabilities say.
    """

    def __init__(self, max_payload: int = 5 * 1024 * 1024, limit: int | None = None) -> None:
        self.capabilities = Capabilities(max_payload=max_payload)
        self.limit = max_payload if limit is None else limit
        self.published: list[tuple[Topic, Message]] = []
        self.consumers: dict[str, ScriptedConsumer] = {}
        self.before_publish: Callable[[Topic], asyncio.Future[None] | None] = lambda topic: None

    async def declare(self, topics: Iterable[Topic]) -> None:
        pass

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        gate = self.before_publish(topic)
        if gate is not None:
            await gate
        for message in messages:
            if len(message.body) > self.limit:
                raise MessageTooLarge(len(message.body), self.limit, topic.name)
        self.published += [(topic, message) for message in messages]

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        return self.consumers.setdefault(topic.name, ScriptedConsumer())

    async def stats(self, topic: Topic) -> TopicStats:
        return TopicStats({})

    async def close(self) -> None:
        pass

    def on(self, kind: str) -> list[Message]:
        """What was published on topics of this kind."""
        return [message for topic, message in self.published if topic.name.startswith(f"{kind}:")]


def request(arguments: object = (), *, position: int = 0, task: str = "work", **fields: Any) -> ExecuteTask:
    """A task as the state engine sends it."""
    return ExecuteTask(
        workflow_id="w",
        workflow_name="Job",
        position=position,
        sequence=1,
        service="Desk",
        task=task,
        arguments=Raw(msgspec.json.encode(arguments)),
        made_at=1.0,
        **fields,
    )


def delivery(message: ExecuteTask | bytes, *, attempt: int = 1) -> Delivery:
    """A delivery of it."""
    body = message if isinstance(message, bytes) else service.encode(message)
    return Delivery(Message("id", None, body), attempt, 1.0)
