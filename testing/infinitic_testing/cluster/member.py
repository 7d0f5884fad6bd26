"""One worker of a cluster, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from infinitic.runtime.service_executor import blocking
from infinitic.worker.worker import Worker
from infinitic_testing.cluster.catalog import Added
from infinitic_testing.cluster.layouts import Seat
from infinitic_testing.loop import Process, SkewedClock

if TYPE_CHECKING:
    from infinitic_testing.cluster.cluster import Cluster


class Member:
    """A worker and its process. It works from `start` until it is stopped or killed.

    Attributes:
        name: of the worker and the process.
        seat: its place in the cluster.
        process: its process.
        clock: its clock.
        worker: the worker.
        is_ready: true from the time at which the worker works.
        is_stopping: true once `stop` was called.
        has_exited: true once its worker has ended by itself or was stopped.

    Args:
        cluster: it belongs to this one.
        name: a new one.
        seat: the place that it takes.
        on_failure: called with the error that has ended its worker, if there is one.
    """

    def __init__(self, cluster: Cluster, name: str, seat: Seat, on_failure: Callable[[BaseException], None]) -> None:
        self.name = name
        self.seat = seat
        self.process = Process(name)
        self.clock = SkewedClock(cluster.clock)
        self.is_ready = False
        self.is_stopping = False
        self.has_exited = False
        self._cluster = cluster
        self._on_failure = on_failure
        settings = seat.settings
        self.worker = Worker(
            cluster.network.connect_transport(self.process),
            cluster.network.connect_storage(self.process),
            name=name,
            clock=self.clock,
            cache_size=settings.cache_size,
            cache_bytes=settings.cache_bytes,
            buffer_bytes=settings.buffer_bytes,
            shutdown_grace_period=settings.shutdown_grace_period,
            run_blocking=blocking.inline,
            codec=cluster.codec,
            middleware=cluster.middleware,
            seed=cluster.choices.stream(f"worker/{name}").getrandbits(32),
            on_stall=cluster.note_stall,
            make_id=cluster.choices.make_ids(name),
        )
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """True until its worker has ended, or its process was killed."""
        return self.process.is_alive

    def start(self) -> None:
        """Start the worker. It hosts what was added so far."""
        for number, added in self._cluster.catalog:
            self._host(number, added)
        self._task = self.process.start(self._live(), name=self.name)
        self._task.add_done_callback(self._note_end)

    def add(self, number: int, added: Added) -> None:
        """Host one more thing.

        Args:
            number: how many were added before it.
            added: what to host.
        """
        # In its process, since this starts tasks.
        self.process.start(self._host_soon(number, added))

    async def _host_soon(self, number: int, added: Added) -> None:
        if not self.is_stopping:
            self._host(number, added)

    def _host(self, number: int, added: Added) -> None:
        added.host(self.worker, self.seat, self.seat.roles_for(number))

    async def _live(self) -> None:
        async with self.worker.running(allow_empty=True):
            self.is_ready = True
            self._cluster.note_change()
            await self._end

    def stop(self) -> None:
        """Ask the worker to drain and end, as SIGTERM does."""
        self.is_stopping = True
        if not self._end.done():
            self._end.set_result(None)

    async def wait_ended(self) -> None:
        """Wait until the worker has ended, or its process was killed."""
        await self._cluster.wait_until(lambda: not self.is_alive)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error: BaseException | None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self.has_exited = True
        # The process exits. What it has not closed, such as its connections, ends with it.
        self.process.kill()
        if error is not None:
            self._on_failure(error)
