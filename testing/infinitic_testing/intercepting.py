"""Adapters around another broker and storage that put one function into the way of each call.

Fences and the simulated network are made of them. Each call becomes an `Operation`, and goes
through `Interceptor.perform`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from infinitic.shared_commit import SharedCommit, SharesCommits, Unsent, WholeStep
from infinitic.storage import (
    Change,
    Claim,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    Stored,
    TagChange,
    TagKey,
    TagStorage,
)
from infinitic.topics import Topic
from infinitic.transport import Batch, Consumer, Delivery, Message, Peeked, TopicStats, Transport

T = TypeVar("T")


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One call to a broker or a storage. Its text is, for instance, "publish client:a" or "commit".

    Attributes:
        verb: the name of the method.
        topic: the topic, for calls to a broker that concern one.
        messages: what a publish sends.
        deliveries: what a consumer has received, or acknowledges, or gives back.
        changes: what a commit writes.
        now: the time of a purge, in seconds since the Unix epoch.
        tag_changes: what an update of tags writes. A claim is written as the change that adds the
            member: it takes effect only if it is granted.
        happened: filled with what has happened when whole steps are committed; None: a commit
            writes only.
    """

    verb: str
    topic: Topic | None = None
    messages: Sequence[Message] = ()
    deliveries: Sequence[Delivery] = ()
    changes: Sequence[Change | Published] = ()
    now: float = 0.0
    tag_changes: Sequence[TagChange] = ()
    happened: list[Happened] | None = None

    def __str__(self) -> str:
        return self.verb if self.topic is None else f"{self.verb} {self.topic.name}"


class Happened(msgspec.Struct, frozen=True, gc=False):
    """What has happened of a step that was committed as a whole.

    Attributes:
        change: what was written.
        sent: its messages, by topic. Those that nobody listens for are left out.
        topic: where its inputs came from.
        settled: the inputs that were in hand, and are acknowledged.
    """

    change: Change
    sent: Sequence[Batch]
    topic: Topic
    settled: Sequence[Delivery]


class Interceptor(ABC):
    """What stands between a process and its broker or storage."""

    __slots__ = ()

    @abstractmethod
    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """Perform an operation, or let it fail.

        Args:
            operation: what is called.
            call: calls it.
        """

    @abstractmethod
    async def close(self, call: Callable[[], Awaitable[None]]) -> None:
        """Close a connection or a consumer. It must not raise, and not wait for long.

        Args:
            call: closes it.
        """


class Passing(Interceptor):
    """Lets everything pass. For adapters that override the few methods that they change."""

    __slots__ = ()

    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    async def close(self, call: Callable[[], Awaitable[None]]) -> None:
        await call()


class InterceptedTransport(Transport):
    """A connection to a broker, of which each call goes through an interceptor.

    Args:
        inner: the connection.
        interceptor: what stands in the way.
    """

    __slots__ = ("capabilities", "inner", "interceptor")

    def __init__(self, inner: Transport, interceptor: Interceptor) -> None:
        self.capabilities = inner.capabilities
        self.inner = inner
        self.interceptor = interceptor

    def make_consumer(self, inner: Consumer, topic: Topic) -> Consumer:
        """Make the consumer that the caller of `subscribe` gets.

        Args:
            inner: the consumer of the inner connection.
            topic: of the consumer.
        """
        return InterceptedConsumer(inner, self.interceptor, topic)

    async def declare(self, topics: Iterable[Topic]) -> None:
        await self.interceptor.perform(Operation("declare"), lambda: self.inner.declare(topics))

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        operation = Operation("publish", topic, messages=messages)
        await self.interceptor.perform(operation, lambda: self.inner.publish(topic, messages))

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        async def join() -> Consumer:
            inner = await self.inner.subscribe(topic, subscription, prefetch, durable=durable)
            return self.make_consumer(inner, topic)

        return await self.interceptor.perform(Operation("subscribe", topic), join)

    async def stats(self, topic: Topic) -> TopicStats:
        return await self.interceptor.perform(Operation("stats", topic), lambda: self.inner.stats(topic))

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        operation = Operation("peek", topic)
        return await self.interceptor.perform(operation, lambda: self.inner.peek(topic, subscription, limit))

    async def close(self) -> None:
        await self.interceptor.close(self.inner.close)


class InterceptedConsumer(Consumer):
    """A consumer, of which each call goes through an interceptor.

    A `receive` is an operation when it has messages. They stay here until it has succeeded: a
    `receive` that is cancelled or fails loses nothing.

    Args:
        inner: the consumer.
        interceptor: what stands in the way.
        topic: of the consumer.
    """

    __slots__ = ("_received", "inner", "interceptor", "topic")

    def __init__(self, inner: Consumer, interceptor: Interceptor, topic: Topic) -> None:
        self.inner = inner
        self.interceptor = interceptor
        self.topic = topic
        self._received: list[Delivery] = []

    async def wait_for_messages(self, max_messages: int) -> list[Delivery]:
        """Wait until the inner consumer has messages.

        Args:
            max_messages: 1 or more.
        """
        return await self.inner.receive(max_messages)

    async def receive(self, max_messages: int) -> list[Delivery]:
        received: list[Delivery] = []
        while not received:
            if not self._received:
                self._received = await self.wait_for_messages(max_messages)
            await self.interceptor.perform(Operation("receive", self.topic, deliveries=self._received), _do_nothing)
            # Meanwhile an adapter may have taken them back.
            received = self._received[:max_messages]
            self._received = self._received[max_messages:]
        return received

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        settled = list(deliveries)
        operation = Operation("ack", self.topic, deliveries=settled)
        await self.interceptor.perform(operation, lambda: self.inner.ack(settled))

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        operation = Operation("nack", self.topic, deliveries=[delivery])
        await self.interceptor.perform(operation, lambda: self.inner.nack(delivery, delay))

    async def close(self) -> None:
        await self.interceptor.close(self.inner.close)


async def _do_nothing() -> None:
    """What is left to do for a `receive` that has messages."""


class InterceptedStorage(Storage):
    """A connection to a storage, of which each call goes through an interceptor.

    Args:
        inner: the connection.
        interceptor: what stands in the way.
    """

    __slots__ = ("capabilities", "inner", "interceptor", "states", "tags")

    def __init__(self, inner: Storage, interceptor: Interceptor) -> None:
        self.capabilities = inner.capabilities
        self.states = _InterceptedStates(inner.states, interceptor)
        self.tags = _InterceptedTags(inner.tags, interceptor)
        self.inner = inner
        self.interceptor = interceptor

    async def prepare(self) -> None:
        await self.interceptor.perform(Operation("prepare"), self.inner.prepare)
        self.capabilities = self.inner.capabilities

    async def close(self) -> None:
        await self.interceptor.close(self.inner.close)


class _InterceptedStates(StateStorage):
    __slots__ = ("inner", "interceptor")

    def __init__(self, inner: StateStorage, interceptor: Interceptor) -> None:
        self.inner = inner
        self.interceptor = interceptor

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return await self.interceptor.perform(Operation("load"), lambda: self.inner.load(keys))

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        def read() -> Awaitable[list[Segment]]:
            return self.inner.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)

        return await self.interceptor.perform(Operation("history"), read)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        operation = Operation("commit", changes=changes)
        return await self.interceptor.perform(operation, lambda: self.inner.commit(changes))

    async def find(self, query: Query) -> Page:
        return await self.interceptor.perform(Operation("find"), lambda: self.inner.find(query))

    async def count(self, query: Query) -> int:
        return await self.interceptor.perform(Operation("count"), lambda: self.inner.count(query))

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self.interceptor.perform(Operation("purge", now=now), lambda: self.inner.purge(now, limit))


class _InterceptedTags(TagStorage):
    __slots__ = ("inner", "interceptor")

    def __init__(self, inner: TagStorage, interceptor: Interceptor) -> None:
        self.inner = inner
        self.interceptor = interceptor

    async def update(self, changes: Sequence[TagChange]) -> None:
        operation = Operation("update_tags", tag_changes=changes)
        await self.interceptor.perform(operation, lambda: self.inner.update(changes))

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        def read() -> Awaitable[list[str]]:
            return self.inner.members(key, until=until, after=after, limit=limit)

        return await self.interceptor.perform(Operation("list_members"), read)

    async def count(self, key: TagKey) -> int:
        return await self.interceptor.perform(Operation("count_members"), lambda: self.inner.count(key))

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        operation = Operation("claim", tag_changes=[TagChange(key, id, True, version, at)])
        return await self.interceptor.perform(operation, lambda: self.inner.claim(key, id, version, at))

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self.interceptor.perform(Operation("purge_tags", now=now), lambda: self.inner.purge(now, limit))


class InterceptedCommit(SharedCommit):
    """The commit that a transport and a storage share, behind the interceptor of the storage.

    An intercepted transport hands it out only if it has `share_commit`. Others change what is
    published or acknowledged, and nothing of a commit would go their way.

    Args:
        inner: the commit of the inner connections.
        interceptor: what stands in the way.
    """

    __slots__ = ("inner", "interceptor")

    def __init__(self, inner: SharedCommit, interceptor: Interceptor) -> None:
        self.inner = inner
        self.interceptor = interceptor

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        operation = Operation("commit", changes=[step.change for step in steps], happened=[])
        return await self.interceptor.perform(operation, lambda: self.commit_inner(steps, operation))

    async def commit_inner(self, steps: Sequence[WholeStep], operation: Operation) -> list[Outcome | Unsent]:
        """Commit steps, each with the inner consumer in place of the intercepted one."""
        unwrapped: list[WholeStep] = []
        for step in steps:
            assert isinstance(step.consumer, InterceptedConsumer)
            unwrapped.append(replace(step, consumer=step.consumer.inner))
        return await self.inner.commit(unwrapped)


def share_intercepted(inner: Transport, storage: Storage) -> tuple[SharedCommit, Interceptor] | None:
    """Find the commit that a connection shares with an intercepted storage.

    Args:
        inner: the connection, not intercepted.
        storage: None is found for one that is not intercepted.

    Returns:
        The commit of the inner connections, and the interceptor of the storage.
    """
    if not isinstance(storage, InterceptedStorage) or not isinstance(inner, SharesCommits):
        return None
    shared = inner.share_commit(storage.inner)
    return None if shared is None else (shared, storage.interceptor)
