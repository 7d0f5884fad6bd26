"""One broker, one database and one client, and workers that come and go, in virtual time.

`World.open` opens a world, and `World.host` starts workers in it. `run_scenario` does both for a
scenario that needs one worker for each role, and nothing special.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from infinitic import Client, Worker
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.runtime.service_executor import blocking
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import Topic
from infinitic.transport import Message, Transport, UnknownTopic
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.invariants import Invariants, InvariantViolated
from infinitic_testing.loop import VirtualClock, VirtualLoop, run
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.recording import RecordingTransport

Hosting = Callable[[Worker, Case], None]
"""Gives a worker its roles in a case: one of the functions `host_…`."""

Hosts = list[asyncio.Task[None]]
"""Tasks that run workers. Cancelling one stops its worker at once."""

LONGEST_DELAY = 90_000.0
"""Seconds. No wake and no delayed message stays longer than this in the broker."""

LONGEST_RETRIES = 100.0
"""Seconds. A message that keeps failing parks its key before this time is over."""

RETENTION = 10 * 86_400.0
"""Seconds. It is longer than `LONGEST_DELAY`, so that a test can look at closed instances."""


def host_all(worker: Worker, case: Case) -> None:
    """Host everything of a case on one worker."""
    host_services(worker, case)
    for workflow in case.workflows:
        worker.add_workflow(workflow, retention=RETENTION)


def host_services(worker: Worker, case: Case) -> None:
    """Host only the services of a case."""
    for service in case.services:
        worker.add_service(service())


def host_engines(worker: Worker, case: Case) -> None:
    """Host engines and services of a case. The code of its workflows runs elsewhere."""
    host_services(worker, case)
    for workflow in case.workflows:
        worker.add_workflow_state_engine(workflow)
        worker.add_workflow_tag_engine(workflow)


def host_executors(worker: Worker, case: Case) -> None:
    """Host only the code of the workflows of a case. Their state engines run elsewhere."""
    for workflow in case.workflows:
        worker.add_workflow_executor(workflow, retention=RETENTION)


class World:
    """All that survives the death of a worker: broker, database and client.

    The client has a connection of its own, which is never cut.

    Attributes:
        published: all messages that anybody published so far, in order.
        violations: of the rules of `infinitic_testing.invariants`. At the end there must be none.
        invariants: checks these rules.
        workers: all workers so far, in order of creation.

    Args:
        broker: a special broker. None: an ordinary one.
        database: a special database. None: an ordinary one.
        is_watched: False: the rules of `infinitic_testing.invariants` are not checked. They do not
            hold if a test sends what no program sends, or if its broker or database does not do
            what it should.
    """

    def __init__(
        self, broker: Broker | None = None, database: Database | None = None, *, is_watched: bool = True
    ) -> None:
        self.published: list[tuple[Topic, Message]] = []
        self.violations: list[InvariantViolated] = []
        self.clock = VirtualClock()
        self.broker = broker or ObservedBroker()
        self.database = database or ObservedDatabase()
        self.invariants = Invariants(
            self.database, self.broker, clock=self.clock, specs=self._find_specs, on_violation=self.violations.append
        )
        if is_watched and isinstance(self.broker, ObservedBroker) and isinstance(self.database, ObservedDatabase):
            self.broker.observer = self.database.observer = self.invariants
        self.storage = ensure_checked(InMemoryStorage(self.database))
        self.transport = self.connect()
        self.client = Client(self.transport, storage=self.storage, name="client", clock=self.clock)
        self.workers: list[Worker] = []
        self._connections: list[Transport] = []
        # Nothing else keeps these tasks from the garbage collector.
        self._hosts: list[asyncio.Task[None]] = []

    def _find_specs(self, name: str) -> Mapping[int, WorkflowSpec]:
        for worker in self.workers:
            if specs := worker.workflow_specs(name):
                return specs
        return {}

    def connect(self) -> RecordingTransport:
        """Make a new connection to the broker. It records what is published."""
        return RecordingTransport(InMemoryTransport(self.broker, clock=self.clock), self.published)

    async def deliver_again(self, messages: Iterable[tuple[Topic, Message]]) -> None:
        """Publish messages once more, unchanged, as a redelivery of any age."""
        connection = InMemoryTransport(self.broker, clock=self.clock)
        for topic, message in messages:
            # The topic of a client that is gone no longer exists.
            with suppress(UnknownTopic):
                await connection.publish(topic, [message])
        await connection.close()

    def worker(self, transport: Transport | None = None, storage: Storage | None = None, **options: Any) -> Worker:
        """Make a worker that hosts nothing yet.

        Args:
            transport: its connection to the broker. None: a new one.
            storage: its connection to the database. None: a new one.
            options: further arguments of `Worker`.
        """
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
        """Make a worker behind a fence.

        Args:
            fence: its fence.
            zombie: True: after `Fence.resume` the worker can publish again.
            options: further arguments of `Worker`.
        """
        transport = FencedTransport(self.connect(), fence, reconnect=self.connect if zombie else None)
        return self.worker(transport, FencedStorage(InMemoryStorage(self.database), fence), **options)

    def transport_of(self, number: int) -> RecordingTransport:
        """Return the connection of a worker, by its number in the order of creation."""
        connection = self._connections[number]
        assert isinstance(connection, RecordingTransport)
        return connection

    def start(self, worker: Worker) -> asyncio.Task[None]:
        """Run a worker in a task, and return the task. Cancelling it stops the worker at once."""
        host = asyncio.get_running_loop().create_task(_host(worker), name=worker.name)
        self._hosts.append(host)
        return host

    def host(self, case: Case, *hostings: Hosting, fence: Fence | None = None, **options: Any) -> Hosts:
        """Make and start one worker for each of `hostings`, and return their tasks.

        Args:
            case: what the workers host.
            hostings: the roles of each worker.
            fence: a fence in front of all of them. None: no fence.
            options: further arguments of `Worker`.
        """
        hosts: Hosts = []
        for hosting in hostings:
            worker = self.worker(**options) if fence is None else self.fenced(fence, **options)
            hosting(worker, case)
            hosts.append(self.start(worker))
        return hosts

    async def run_until_idle(self) -> None:
        """Wait until nothing can run any more at this instant. Time does not move."""
        await cast(VirtualLoop, asyncio.get_running_loop()).wait_idle()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[World]:
        """Open the client for the block. At the end stop all workers, and check `violations`."""
        try:
            async with self.client:
                yield self
                assert not self.violations, str(self.violations[0])
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop all workers at once. Others may come."""
        hosts, self._hosts = self._hosts, []
        await stop(hosts)

    async def settle(self) -> None:
        """Let time pass until nothing is on its way: no stale wake, no retry, no forgotten task."""
        await self.run_until_idle()
        while (due := self.broker.find_next_due()) is not None and due - self.clock.now() < LONGEST_DELAY:
            await asyncio.sleep(max(0.001, due - self.clock.now()))
            await self.run_until_idle()
        await asyncio.sleep(LONGEST_RETRIES)
        await self.run_until_idle()

    def backlog(self) -> dict[str, tuple[int, int, int]]:
        """Count backlog, unacknowledged and delayed messages by topic, where there are any.

        What executors tell each other does not count: one that was cut off while it subscribed does
        not read what is sent to it.
        """
        found = dict[str, tuple[int, int, int]]()
        for topic, subscriptions in self.broker.overview().items():
            for stats in subscriptions.values():
                waits = stats.backlog or stats.unacked or stats.delayed
                if waits and not topic.startswith("service-control:"):
                    found[topic] = (stats.backlog, stats.unacked, stats.delayed)
        return found


async def _host(worker: Worker) -> None:
    async with worker.running():
        await asyncio.get_running_loop().create_future()


async def stop(hosts: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks of workers, and wait until they end."""
    tasks = list(hosts)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run_scenario(
    scenario: Callable[[World], Awaitable[None]],
    case: Case,
    *hostings: Hosting,
    database: Database | None = None,
    workers_must_live: bool = False,
    is_watched: bool = True,
) -> None:
    """Open a world, start one worker for each of `hostings`, and run a scenario in it.

    Args:
        scenario: begins when all workers are ready.
        case: what the workers host.
        hostings: the roles of each worker. None: one worker hosts everything.
        database: a special database. None: an ordinary one.
        workers_must_live: True: also check that no worker ended by itself.
        is_watched: see `World`.
    """

    async def main() -> None:
        world = World(database=database, is_watched=is_watched)
        async with world.open():
            hosts = world.host(case, *(hostings or (host_all,)))
            await world.run_until_idle()
            await scenario(world)
            await world.run_until_idle()
            assert not workers_must_live or not any(host.done() for host in hosts), "a worker has ended"

    run(main())
