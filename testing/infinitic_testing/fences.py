"""Power cuts: adapters around broker and storage that stop a worker at a chosen operation.

Use them to test what another worker does after a crash::

    async def main() -> None:
        broker, database, clock = Broker(), Database(), VirtualClock()
        fence = Fence(at=17, after=True)
        transport = FencedTransport(InMemoryTransport(broker, clock=clock), fence)
        storage = FencedStorage(InMemoryStorage(database), fence)
        worker = Worker(transport, storage, clock=clock)
        ...

    infinitic_testing.loop.run(main())

The 17th operation of this worker takes effect, but the worker never learns of it. After the cut,
nothing that the worker does reaches broker or storage, and nothing comes back. Its calls wait for
ever, like the code of a dead process. Only `close` returns, and does nothing.

What a task does without broker and storage is not stopped, for instance a service that sleeps.
Give `Fence.on_cut` a function that cancels it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from infinitic.errors import UsageError
from infinitic.shared_commit import SharedCommit
from infinitic.storage import Storage
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Transport, TransportClosed
from infinitic_testing.intercepting import (
    InterceptedCommit,
    InterceptedConsumer,
    InterceptedStorage,
    InterceptedTransport,
    Interceptor,
    Operation,
    share_intercepted,
)

T = TypeVar("T")


@runtime_checkable
class SupportsCrash(Protocol):
    """A connection that can end as if its process died. `InMemoryTransport` is one."""

    def crash(self) -> None:
        """End now. The broker gives all unacknowledged messages to other consumers."""


class Fence:
    """Counts the operations of one worker, and cuts its power at one of them.

    An operation is one call to broker or storage, such as "publish service-executor:Flights" or
    "commit". A `receive` counts when it has messages. If the cut is there, a dead worker holds
    these messages.

    Attributes:
        operations: the names of the operations so far. After a cut, the last one is the one at
            which the power was cut.
        is_down: true from `cut` until `resume`.

    Args:
        at: the number of the operation at which the power is cut, counted from 1. None: only
            `cut` does it.
        after: True: the operation takes effect, and its reply is lost. False: it has no effect.
        latency: returns how many seconds a message travels. It is called for the way to the
            broker or database, and again for the way back. None: no time passes.
    """

    def __init__(
        self, at: int | None = None, *, after: bool = False, latency: Callable[[], float] | None = None
    ) -> None:
        self.operations: list[str] = []
        self.is_down = False
        self._at = at
        self._after = after
        self._latency = latency
        self._callbacks: list[Callable[[], object]] = []
        self._power: asyncio.Future[None] | None = None
        self._was_cancelled = False

    def on_cut(self, callback: Callable[[], object]) -> None:
        """Add a function that is called at the instant of the cut, in the order of adding.

        Args:
            callback: called without arguments. It must not raise.
        """
        self._callbacks.append(callback)

    def cut(self) -> None:
        """Cut the power now. If it is cut already, nothing happens."""
        if not self.is_down:
            self.is_down = True
            self._power = asyncio.get_running_loop().create_future()
            for callback in self._callbacks:
                callback()

    def resume(self) -> None:
        """End the cut: it was only a long pause of the process. All waiting calls continue.

        For the broker, the old consumers are dead, and stay so. But the worker reaches its storage
        again. It can also publish again, if its `FencedTransport` has `reconnect`.
        """
        if self._power is not None and not self._power.done():
            self.is_down = False
            self._power.set_result(None)

    async def wait_for_power(self) -> None:
        """Wait until `resume`. After a wait was cancelled, later ones raise `CancelledError`."""
        if self._was_cancelled:
            raise asyncio.CancelledError
        assert self._power is not None
        try:
            await asyncio.shield(self._power)
        except asyncio.CancelledError:
            self._was_cancelled = True
            raise

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Count and perform one operation. While the power is cut, wait instead.

        Args:
            operation: its name in `operations`.
            call: performs it.
        """
        if self.is_down:
            await self.wait_for_power()
        self.operations.append(operation)
        here = len(self.operations) == self._at
        if here and not self._after:
            self.cut()
        await self._pass_latency()
        try:
            return await call()
        finally:
            if here and self._after:
                self.cut()
            await self._pass_latency()

    async def _pass_latency(self) -> None:
        if self._latency is not None and not self.is_down:
            await asyncio.sleep(self._latency())
        if self.is_down:
            await self.wait_for_power()


class FencedTransport(InterceptedTransport):
    """A connection to a broker, behind a fence. At the cut, `inner` crashes.

    Args:
        inner: the connection. It must have a method `crash`, as `InMemoryTransport` has.
        fence: the same one as for the storage of this worker.
        reconnect: makes the connection for `publish` and `declare` after `resume`. None: they fail
            then, as the consumers do.

    Raises:
        UsageError: `inner` has no method `crash`.
    """

    __slots__ = ("_fence", "_reconnect", "_shared", "_storage")

    def __init__(self, inner: Transport, fence: Fence, *, reconnect: Callable[[], Transport] | None = None) -> None:
        if not isinstance(inner, SupportsCrash):
            raise UsageError(f"A fence needs a transport with a method crash(), and {inner!r} has none")
        super().__init__(inner, _Gate(fence))
        self._fence = fence
        self._reconnect = reconnect
        self._shared: InterceptedCommit | None = None
        self._storage: Storage | None = None
        fence.on_cut(inner.crash)
        fence.on_cut(self._replace_connection)

    def make_consumer(self, inner: Consumer, topic: Topic) -> Consumer:
        return _FencedConsumer(inner, self._fence, topic)

    def share_commit(self, storage: Storage) -> SharedCommit | None:
        """The commit of the two inner connections, which counts as one operation."""
        found = share_intercepted(self.inner, storage)
        if found is None:
            return None
        self._shared = InterceptedCommit(*found)
        self._storage = storage
        return self._shared

    def _replace_connection(self) -> None:
        if self._reconnect is not None:
            self.inner = self._reconnect()
            found = None if self._storage is None else share_intercepted(self.inner, self._storage)
            if self._shared is not None and found is not None:
                self._shared.inner = found[0]


class _FencedConsumer(InterceptedConsumer):
    __slots__ = ("_fence",)

    def __init__(self, inner: Consumer, fence: Fence, topic: Topic) -> None:
        super().__init__(inner, _Gate(fence), topic)
        self._fence = fence

    async def wait_for_messages(self, max_messages: int) -> list[Delivery]:
        if self._fence.is_down:
            await self._fence.wait_for_power()
        try:
            return await self.inner.receive(max_messages)
        except TransportClosed:
            # Perhaps because of the crash. A dead worker does not hear of that.
            if self._fence.is_down:
                await self._fence.wait_for_power()
            raise


class FencedStorage(InterceptedStorage):
    """A connection to a storage, behind a fence.

    Args:
        inner: the connection.
        fence: the same one as for the transport of this worker.
    """

    __slots__ = ()

    def __init__(self, inner: Storage, fence: Fence) -> None:
        super().__init__(inner, _Gate(fence))


class _Gate(Interceptor):
    """Lets a fence count and perform each operation by its text."""

    __slots__ = ("_fence",)

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        return await self._fence.perform(str(operation), call)

    async def close(self, call: Callable[[], Awaitable[None]]) -> None:
        if not self._fence.is_down:
            await call()
