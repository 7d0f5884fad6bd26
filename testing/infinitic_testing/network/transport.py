"""A connection of a process to the broker of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from infinitic.errors import TransportError
from infinitic.publishing import publish_together
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep
from infinitic.storage import Outcome, Storage
from infinitic.topics import Topic
from infinitic.transport import Batch, Consumer, Delivery, Message
from infinitic_testing.intercepting import (
    Happened,
    InterceptedCommit,
    InterceptedTransport,
    Interceptor,
    Operation,
    share_intercepted,
)
from infinitic_testing.memory_pair import MemoryCommit
from infinitic_testing.network.consumer import NetworkConsumer, cast_consumer
from infinitic_testing.network.link import Link
from infinitic_testing.network.sides import run_at_once
from infinitic_transports.memory import InMemoryTransport
from infinitic_transports.memory.transport import InMemoryConsumer

AfterPublish = Callable[[Topic, Sequence[Message]], None]


class NetworkTransport(InterceptedTransport):
    """A connection of one process.

    Args:
        inner: the connection to the broker, without any way between.
        link: the way there.
        after_publish: called on the far side when messages were accepted.
        groups_acks: whether `ack` returns before the broker knows, as with Pulsar.

    Attributes:
        consumers: those that are there, in the order of joining.
    """

    __slots__ = ("_after_publish", "_groups_acks", "_link", "consumers")

    inner: InMemoryTransport

    def __init__(self, inner: InMemoryTransport, link: Link, after_publish: AfterPublish, *, groups_acks: bool) -> None:
        super().__init__(inner, link)
        # An acknowledgement that is on its way is lost when its process dies.
        durability = max(inner.capabilities.ack_durability, 2 * link.fates.latency)
        self.capabilities = replace(inner.capabilities, ack_durability=durability)
        self._link = link
        self._after_publish = after_publish
        self._groups_acks = groups_acks
        self.consumers: dict[NetworkConsumer, None] = {}

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        async def publish() -> None:
            await self.inner.publish(topic, messages)
            self._after_publish(topic, messages)

        await self._link.perform(Operation("publish", topic, messages=messages), publish)

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        """Send all at once. Each batch has a way and a fate of its own, and any may be first."""
        return await publish_together(self.publish, batches)

    def share_commit(self, storage: Storage) -> SharedCommit | None:
        """The commit of the two inner connections. It travels on the way to the storage."""
        found = share_intercepted(self.inner, storage)
        if found is None:
            return None
        shared, link = found
        assert isinstance(shared, MemoryCommit)
        return NetworkCommit(shared, link, self._after_publish)

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        def join() -> InMemoryConsumer:
            return cast_consumer(
                run_at_once(lambda: self.inner.subscribe(topic, subscription, prefetch, durable=durable))
            )

        async def subscribe() -> NetworkConsumer:
            consumer = NetworkConsumer(
                join(), self._link, topic, join, self._forget, groups_acks=self._groups_acks, is_durable=durable
            )
            self.consumers[consumer] = None
            return consumer

        return await self._link.perform(Operation("subscribe", topic), subscribe)

    def _forget(self, consumer: NetworkConsumer) -> None:
        self.consumers.pop(consumer, None)

    async def close(self) -> None:
        for consumer in list(self.consumers):
            await consumer.close()
        await self.inner.close()

    def crash(self) -> None:
        """End the connection, as the broker does when its process has died."""
        for consumer in list(self.consumers):
            consumer.end()
        self.inner.crash()


class NetworkCommit(InterceptedCommit):
    """The commit that broker and storage of a network share. It takes effect at one instant.

    Args:
        inner: the commit itself.
        interceptor: the way to the storage.
        after_publish: called on the far side when messages were accepted.
    """

    __slots__ = ("_after_publish",)

    inner: MemoryCommit

    def __init__(self, inner: MemoryCommit, interceptor: Interceptor, after_publish: AfterPublish) -> None:
        super().__init__(inner, interceptor)
        self._after_publish = after_publish

    async def commit_inner(self, steps: Sequence[WholeStep], operation: Operation) -> list[Outcome | Unsent]:
        happened = operation.happened
        assert happened is not None
        topics = {step.change.key: _find_topic(step.consumer) for step in steps}

        def note(step: WholeStep, sent: Sequence[Batch], settled: Sequence[Delivery]) -> None:
            happened.append(Happened(step.change, sent, topics[step.change.key], settled))

        self.inner.note = note
        results = await super().commit_inner(steps, operation)
        for each in happened:
            for batch in each.sent:
                self._after_publish(*batch)
        return results


def _find_topic(consumer: Consumer) -> Topic:
    assert isinstance(consumer, NetworkConsumer)
    return consumer.topic
