"""One broker, one database and one client, and workers that come, die and come back, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

from infinitic import Client, Worker
from infinitic.messages.decoding import UnknownMessageType
from infinitic.runtime.service_executor import blocking
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import Topic
from infinitic.transport import Message, Transport, UnknownTopic
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import VirtualClock, VirtualLoop, run as run_virtual
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.causes import check_cause
from tests.simulation.recording import RecordingTransport

T = TypeVar("T")
Hosting = Callable[[Worker, Case], None]

QUIET_SECONDS = 90_000.0
"""Longer than any wake or postponed message stays in the broker."""

RESTLESS_SECONDS = 100.0
"""Longer than a message is tried again before its key is parked."""

RETENTION = 10 * 86_400.0
"""Longer than that: what is closed is there to be looked at."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on virtual time."""
    return run_virtual(main)


def fused(worker: Worker, case: Case) -> None:
    """Everything of a case on one worker."""
    services(worker, case)
    for workflow in case.workflows:
        worker.add_workflow(workflow, retention=RETENTION)


def services(worker: Worker, case: Case) -> None:
    """The services of a case."""
    for service in case.services:
        worker.add_service(service())


def engines(worker: Worker, case: Case) -> None:
    """The state engines of a case, and its services: the code of its workflows runs elsewhere."""
    services(worker, case)
    for workflow in case.workflows:
        worker.add_workflow_state_engine(workflow)


def executors(worker: Worker, case: Case) -> None:
    """The code of the workflows of a case: their state engines run elsewhere."""
    for workflow in case.workflows:
        worker.add_workflow_executor(workflow, retention=RETENTION)


class World:
    """What survives the death of a worker. The client has its own connection, which is never cut.

    `published` is all that was ever published, by whomever, in order; `phantoms` is what of it had no durable cause.
    """

    def __init__(self, broker: Broker | None = None, database: Database | None = None) -> None:
        self.published: list[tuple[Topic, Message]] = []
        self.phantoms: list[str] = []
        self.clock = VirtualClock()
        self.broker = broker or Broker()
        self.database = database or Database()
        self.storage = ensure_checked(InMemoryStorage(self.database))
        self.transport = self.connect()
        self.client = Client(self.transport, storage=self.storage, name="client", clock=self.clock)
        self.workers: list[Worker] = []
        self._connections: list[Transport] = []
        self._hosts: list[asyncio.Task[None]] = []  # nothing else keeps them from the garbage collector

    def connect(self) -> RecordingTransport:
        """A new connection to the broker."""
        return RecordingTransport(InMemoryTransport(self.broker, clock=self.clock), self.published, self._check)

    def _check(self, topic: Topic, message: Message) -> None:
        try:
            with suppress(UnknownMessageType):  # nobody here knows what its cause may be
                check_cause(self.database, topic, message)
        except AssertionError as error:
            self.phantoms.append(f"{topic.name}: {error}")

    async def deliver_again(self, messages: Iterable[tuple[Topic, Message]]) -> None:
        """Have the broker deliver messages once more, unchanged."""
        connection = InMemoryTransport(self.broker, clock=self.clock)
        for topic, message in messages:
            with suppress(UnknownTopic):  # a client that is gone
                await connection.publish(topic, [message])
        await connection.close()

    def worker(self, transport: Transport | None = None, storage: Storage | None = None, **options: Any) -> Worker:
        """A worker that hosts nothing yet."""
        connection = transport or self.connect()
        self._connections.append(connection)
        worker = Worker(
            connection,
            storage or InMemoryStorage(self.database),
            name=f"worker-{len(self.workers) + 1}",
            clock=options.pop("clock", self.clock),
            run_blocking=options.pop("run_blocking", blocking.inline),
            seed=1,
            **options,
        )
        self.workers.append(worker)
        return worker

    def fenced(self, fence: Fence, *, zombie: bool = False, **options: Any) -> Worker:
        """A worker behind a fence. A zombie is one that can publish again after a pause."""
        transport = FencedTransport(self.connect(), fence, reconnect=self.connect if zombie else None)
        return self.worker(transport, FencedStorage(InMemoryStorage(self.database), fence), **options)

    def transport_of(self, number: int) -> RecordingTransport:
        """The connection of a worker, by the order in which they came."""
        connection = self._connections[number]
        assert isinstance(connection, RecordingTransport)
        return connection

    def start(self, worker: Worker) -> asyncio.Task[None]:
        """Run a worker in a task of its own; cancelling that stops it at once."""
        host = asyncio.get_running_loop().create_task(_host(worker), name=worker.name)
        self._hosts.append(host)
        return host

    async def quiet(self) -> None:
        """Return when nothing can run any more at this instant."""
        await cast(VirtualLoop, asyncio.get_running_loop()).wait_idle()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[World]:
        """The client listens; in the end all that is left of the workers is cleared away."""
        try:
            async with self.client:
                yield self
                assert not self.phantoms, f"published before its cause was durable: {self.phantoms}"
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop all workers at once. Others may come."""
        hosts, self._hosts = self._hosts, []
        await stop(hosts)

    async def settle(self) -> None:
        """Let time pass until nothing is on its way any more: stale wakes, retries in lanes, tasks nobody waits for."""
        while (due := self.broker.next_due()) is not None and due - self.clock.now() < QUIET_SECONDS:
            await asyncio.sleep(max(0.001, due - self.clock.now()))
            await self.quiet()
        await asyncio.sleep(RESTLESS_SECONDS)
        await self.quiet()

    def backlog(self) -> dict[str, tuple[int, int, int]]:
        """Backlog, unacknowledged and delayed of each subscription that has any, by topic."""
        found = dict[str, tuple[int, int, int]]()
        for topic, subscriptions in self.broker.overview().items():
            for stats in subscriptions.values():
                if stats.backlog or stats.unacked or stats.delayed:
                    found[topic] = (stats.backlog, stats.unacked, stats.delayed)
        return found


async def _host(worker: Worker) -> None:
    async with worker.running():
        await asyncio.get_running_loop().create_future()


async def stop(hosts: Iterable[asyncio.Task[None]]) -> None:
    """Cancel hosts and wait for their end."""
    tasks = list(hosts)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def played(case: Case, scenario: Callable[[World], Awaitable[None]], database: Database | None = None) -> None:
    """Run a scenario in a world with one worker, which hosts a case."""

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            worker = world.worker()
            fused(worker, case)
            world.start(worker)
            await world.quiet()
            await scenario(world)

    run(main())
