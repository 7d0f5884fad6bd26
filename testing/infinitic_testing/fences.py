"""Power cuts: adapters around the ports of one worker that stop all it does at a chosen operation.

::

    fence = Fence(at=17, after=True)
    worker = Worker(FencedTransport(InMemoryTransport(broker), fence), FencedStorage(InMemoryStorage(database), fence))

At its 17th operation the worker goes dark: that operation has taken effect, its reply is lost. From then on nothing
that the worker does reaches broker or storage, and nothing comes back to it: its calls wait for ever, as the code of a
dead process does. Only `close` returns, without effect; once one call that waits was cancelled, so are later ones. What
tasks do without a port (a service in the middle of a sleep) is not stopped: give `on_cut` what cancels them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from infinitic.errors import UsageError
from infinitic.storage import Change, Outcome, Page, Published, Query, Segment, StateKey, StateStorage, Storage, Stored
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Message, TopicStats, Transport, TransportClosed

T = TypeVar("T")


@runtime_checkable
class Crashes(Protocol):
    """A connection whose power can be cut: what it has in hand goes to others."""

    def crash(self) -> None:
        """Cut it now."""


class Fence:
    """Counts the operations of a worker, and cuts its power at one of them.

    An operation is one call of a port, such as "publish service-executor:Flights" or "commit". A `receive` counts when
    it has got something: cut there, the messages are in the hands of a dead worker.

    Args:
        at: the number of the operation, from 1, at which the power is cut. None: only by `cut`.
        after: cut once the operation has taken effect, its reply lost. False: before it does.
        latency: asked for the seconds that the way to the broker or database takes, and again for the way back.
    """

    def __init__(
        self, at: int | None = None, *, after: bool = False, latency: Callable[[], float] | None = None
    ) -> None:
        self.operations: list[str] = []
        """The operations so far. The last one is where the power was cut."""
        self.is_down = False
        self._at = at
        self._after = after
        self._latency = latency
        self._callbacks: list[Callable[[], object]] = []
        self._power: asyncio.Future[None] | None = None
        self._cleared = False

    def on_cut(self, callback: Callable[[], object]) -> None:
        """Have `callback` called at the instant of the cut, after those that were there before."""
        self._callbacks.append(callback)

    def cut(self) -> None:
        """Cut the power now. Nothing happens if it is cut already."""
        if not self.is_down:
            self.is_down = True
            self._power = asyncio.get_running_loop().create_future()
            for callback in self._callbacks:
                callback()

    def resume(self) -> None:
        """It was no power cut but a long pause: every call that waits goes on, as a zombie's does.

        Its consumers have been fenced by the broker and stay so; its storage, and its transport if that reconnects,
        are within its reach again.
        """
        if self._power is not None and not self._power.done():
            self.is_down = False
            self._power.set_result(None)

    async def dark(self) -> None:
        """Wait for power."""
        if self._cleared:
            raise asyncio.CancelledError
        assert self._power is not None
        try:
            await asyncio.shield(self._power)
        except asyncio.CancelledError:
            self._cleared = True
            raise

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Perform an operation, unless the power is cut."""
        if self.is_down:
            await self.dark()
        self.operations.append(operation)
        here = len(self.operations) == self._at
        if here and not self._after:
            self.cut()
        await self._travel()
        try:
            return await call()
        finally:
            if here and self._after:
                self.cut()
            await self._travel()

    async def _travel(self) -> None:
        if self._latency is not None and not self.is_down:
            await asyncio.sleep(self._latency())
        if self.is_down:
            await self.dark()


class FencedTransport(Transport):
    """A connection to a broker, behind a fence: at the cut, `inner` is crashed.

    Args:
        inner: the connection; it must have a method `crash`, as `InMemoryTransport` has.
        fence: shared with the storage of the same worker.
        reconnect: makes the connection that `publish` and `declare` use when the fence was cut and resumed. None: they
            fail, as the consumers do.

    Raises `UsageError` for a connection that cannot be crashed.
    """

    __slots__ = ("_fence", "_inner", "_reconnect", "capabilities")

    def __init__(self, inner: Transport, fence: Fence, *, reconnect: Callable[[], Transport] | None = None) -> None:
        if not isinstance(inner, Crashes):
            raise UsageError(f"A fence needs a transport whose power can be cut, and {inner!r} has no method crash()")
        self.capabilities = inner.capabilities
        self._inner: Transport = inner
        self._fence = fence
        self._reconnect = reconnect
        fence.on_cut(inner.crash)
        fence.on_cut(self._renew)

    def _renew(self) -> None:
        if self._reconnect is not None:
            self._inner = self._reconnect()

    async def declare(self, topics: Iterable[Topic]) -> None:
        await self._fence.perform("declare", lambda: self._inner.declare(topics))

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        await self._fence.perform(f"publish {topic.name}", lambda: self._inner.publish(topic, messages))

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        async def join() -> Consumer:
            inner = await self._inner.subscribe(topic, subscription, prefetch, durable=durable)
            return _FencedConsumer(inner, self._fence, topic.name)

        return await self._fence.perform(f"subscribe {topic.name}", join)

    async def stats(self, topic: Topic) -> TopicStats:
        return await self._fence.perform(f"stats {topic.name}", lambda: self._inner.stats(topic))

    async def close(self) -> None:
        if not self._fence.is_down:
            await self._inner.close()


class _FencedConsumer(Consumer):
    __slots__ = ("_fence", "_inner", "_received", "_topic")

    def __init__(self, inner: Consumer, fence: Fence, topic: str) -> None:
        self._inner = inner
        self._fence = fence
        self._topic = topic
        self._received: list[Delivery] = []  # on its way: a `receive` that is cancelled or fails loses nothing

    async def receive(self, max_messages: int) -> list[Delivery]:
        if self._fence.is_down:
            await self._fence.dark()
        try:
            if not self._received:
                self._received = await self._inner.receive(max_messages)
        except TransportClosed:  # perhaps by the crash, of which a dead worker does not hear
            if self._fence.is_down:
                await self._fence.dark()
            raise
        await self._fence.perform(f"receive {self._topic}", _nothing)
        received, self._received = self._received, []
        return received

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        await self._fence.perform(f"ack {self._topic}", lambda: self._inner.ack(deliveries))

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        await self._fence.perform(f"nack {self._topic}", lambda: self._inner.nack(delivery, delay))

    async def close(self) -> None:
        if not self._fence.is_down:
            await self._inner.close()


async def _nothing() -> None:
    """What a `receive` still has to do once it has got something."""


class FencedStorage(Storage):
    """A connection to a storage, behind a fence."""

    __slots__ = ("_fence", "_inner", "capabilities", "states")

    def __init__(self, inner: Storage, fence: Fence) -> None:
        self.capabilities = inner.capabilities
        self.states = _FencedStates(inner.states, fence)
        self._inner = inner
        self._fence = fence

    async def prepare(self) -> None:
        await self._fence.perform("prepare", self._inner.prepare)

    async def close(self) -> None:
        if not self._fence.is_down:
            await self._inner.close()


class _FencedStates(StateStorage):
    __slots__ = ("_fence", "_inner")

    def __init__(self, inner: StateStorage, fence: Fence) -> None:
        self._inner = inner
        self._fence = fence

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        return await self._fence.perform("load", lambda: self._inner.load(keys))

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
            return self._inner.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)

        return await self._fence.perform("history", read)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return await self._fence.perform("commit", lambda: self._inner.commit(changes))

    async def find(self, query: Query) -> Page:
        return await self._fence.perform("find", lambda: self._inner.find(query))

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self._fence.perform("purge", lambda: self._inner.purge(now, limit))
