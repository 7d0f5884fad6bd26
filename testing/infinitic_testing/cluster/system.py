"""What a `Simulation` runs: workers, and all that they share. There are two kinds of systems.

`SingleWorker` is the plain one, without latency and faults. `Cluster` has several workers, each in
a process of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infinitic.client.client import Client
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.definitions.workflows import Workflow
from infinitic.errors import InfiniticError
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.worker.listeners import Listener
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.explaining import explain_workflows
from infinitic_testing.loop import DeadlockError
from infinitic_transports.memory import Broker, InMemoryTransport

Versions = Sequence[type[Workflow] | Callable[[], Workflow]]


class System(ABC):
    """Workers with their broker, storage, clock and client.

    Attributes:
        clock: the virtual clock.
        transport: a direct connection to the broker, without latency and faults.
        storage: a direct connection to the storage.
        database: what the storage keeps.
        client: the client of the test.
    """

    clock: Clock
    transport: InMemoryTransport
    storage: Storage
    database: Database
    client: Client

    @property
    def broker(self) -> Broker:
        """The broker of all workers."""
        return self.transport.broker

    @property
    @abstractmethod
    def stalled(self) -> Mapping[str, InfiniticError]:
        """The instances that have stalled so far, by id, and why."""

    @abstractmethod
    def add_service(self, implementation: object, **options: Any) -> None:
        """Host a service. Arguments and errors are those of `Worker.add_service`."""

    @abstractmethod
    def add_workflow(self, versions: Versions, **options: Any) -> None:
        """Host versions of a workflow. Arguments and errors are those of `Worker.add_workflow`."""

    @abstractmethod
    def add_event_listener(self, listener: Listener, **options: Any) -> None:
        """Host an event listener, and have all workers publish events.

        Arguments and errors are those of `Worker.add_event_listener`.
        """

    @abstractmethod
    def find_specs(self, workflow: str) -> Mapping[int, WorkflowSpec]:
        """Return the versions of a workflow whose code is hosted, by its name."""

    def explain_failure(self, error: BaseException) -> list[str]:
        """Say of a run that has failed which workflows have stalled, and what the others wait for.

        Args:
            error: what the run raised. The message of a `DeadlockError` says all this already.

        Returns:
            Lines for people. The system may be closed.
        """
        if isinstance(error, DeadlockError):
            return []
        # The connection of the system may be closed.
        storage = ensure_checked(InMemoryStorage(self.database))
        return explain_workflows(storage, self.find_specs, self.stalled)

    @abstractmethod
    async def open(self) -> None:
        """Start the workers and the client."""

    @abstractmethod
    async def run_until_idle(self) -> None:
        """Wait until nothing can run any more, unless time passes."""

    @abstractmethod
    async def settle(self) -> None:
        """The test has ended without an error: let the system come to rest, and check it.

        Raises:
            InvariantViolated: something is wrong with what happened, or with what is left.
        """

    @abstractmethod
    async def close(self, error: BaseException | None) -> None:
        """Stop the workers and the client, and close the connections.

        Args:
            error: what the test raised, or None.

        Raises:
            Exception: what made a worker fail. `error` may be a `CancelledError` of this.
        """
