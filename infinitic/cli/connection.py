"""The connection of a command: an open client, its broker and database, and the project.

What a command does is a coroutine function that takes a `Connection`. `run_connected` opens the
connection for it, and turns errors into exit codes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from infinitic import topics
from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.log_warnings import get_last_warning
from infinitic.cli.options import ANSWER_SECONDS
from infinitic.cli.project import Project, load_config
from infinitic.client.client import Client
from infinitic.client.stubs import Target
from infinitic.definitions.workflow_contract import WorkflowContract
from infinitic.errors import InfiniticError, UsageError
from infinitic.ids import check_name
from infinitic.storage import StateKey, Storage
from infinitic.transport import Transport, TransportUnavailable

T = TypeVar("T")

CONNECT_SECONDS = 15.0
"""How long the broker or the database may take to answer."""


class NoAnswer(InfiniticError):
    """No state engine has answered in time."""


@dataclass(frozen=True)
class Connection:
    """What a command works with.

    Args:
        client: an open client.
        transport: the broker.
        storage: the database; None if the configuration has none.
        project: the services and workflows of the configuration.
    """

    client: Client
    transport: Transport
    storage: Storage | None = None
    project: Project = field(default_factory=Project)

    async def find_workflow_name(self, name: str | None, workflow_id: str) -> str:
        """Find the name of the workflow that an instance belongs to.

        Args:
            name: the name if it is known; it is checked and returned.
            workflow_id: the id of the instance. The storage is asked which workflow of the project
                has it.

        Raises:
            UsageError: the name is not given, and cannot be found.
            TransportUnavailable: the database does not answer.
        """
        return await find_workflow_name(self.project, self.storage, name, workflow_id)

    async def get_target(self, name: str, workflow_id: str) -> Target:
        """Return an instance as the client calls it, by names alone: its class is not needed.

        Args:
            name: the name of the workflow.
            workflow_id: the id of the instance. Whether it exists is not checked.

        Raises:
            InfiniticError: no workflow of this name ever ran at this broker.
        """
        check_name("The name of a workflow", name)
        check_name("A workflow id", workflow_id)
        if not (await self.transport.stats(topics.workflow_engine(name))).subscriptions:
            if name in self.project.workflows:
                raise InfiniticError(f"The workflow '{name}' has never run at this broker")
            raise InfiniticError(f"There is no workflow '{name}' at this broker; {self.project.describe_workflows()}")
        return self.make_target(name, workflow_id)

    def make_target(self, name: str, workflow_id: str) -> Target:
        """Return an instance as the client calls it, without asking the broker.

        Args:
            name: the name of the workflow, which is known to exist.
            workflow_id: the id of the instance.
        """
        return Target(self.client, WorkflowContract(name, {}, {}, {}), workflow_id, {})


async def find_workflow_name(project: Project, storage: Storage | None, name: str | None, workflow_id: str) -> str:
    """Find the name of the workflow that an instance belongs to.

    Args:
        project: the workflows of the configuration.
        storage: the database; None if the configuration has none.
        name: the name if it is known; it is checked and returned.
        workflow_id: the id of the instance.

    Raises:
        UsageError: the name is not given, and cannot be found.
        TransportUnavailable: the database does not answer.
    """
    check_name("A workflow id", workflow_id)
    if name is not None:
        return check_name("The name of a workflow", name)
    known = sorted(project.workflows)
    if storage is not None and known:
        async with limit_time(CONNECT_SECONDS, "The database did not answer"):
            stored = await storage.states.load([StateKey(each, workflow_id) for each in known])
        if len(stored) == 1:
            return next(iter(stored)).name
    if len(known) == 1:
        return known[0]
    raise UsageError(
        f"The storage has no workflow with the id {workflow_id}: give the name of the workflow with "
        f"--workflow NAME; {project.describe_workflows()}"
    )


def run_connected(config: Path, action: Callable[[Connection], Awaitable[T]]) -> T:
    """Open a connection, and run the action of a command with it.

    Args:
        config: the configuration file.
        action: what the command does.

    Raises:
        typer.Exit: it failed; the message is printed.
    """

    async def run() -> T:
        async with open_connection(config) as connection:
            return await action(connection)

    with exit_on_error():
        return asyncio.run(run())


def run_with_storage(config: Path, action: Callable[[Storage], Awaitable[T]]) -> T:
    """Open the database, and run the action of a command that needs nothing else.

    It works while the broker is away.

    Args:
        config: the configuration file.
        action: what the command does.

    Raises:
        typer.Exit: it failed; the message is printed.
    """

    async def run() -> T:
        storage = load_config(config).make_storage()
        if storage is None:
            raise UsageError(f"{config} has no storage, so there are no workflows to list: add the key storage")
        async with storage, limit_time(CONNECT_SECONDS, "The database did not answer"):
            return await action(storage)

    with exit_on_error():
        return asyncio.run(run())


@asynccontextmanager
async def open_connection(config: Path) -> AsyncGenerator[Connection]:
    """Connect to the broker and the database of a configuration, for the time of the block.

    A client waits for a broker that is away. This raises instead.

    Args:
        config: the configuration file.

    Raises:
        ConfigurationError: the file has mistakes.
        TransportUnavailable: the broker does not answer.
    """
    loaded = load_config(config)
    codec = loaded.make_codec()
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(loaded.make_transport())
        storage = loaded.make_storage()
        if storage is not None:
            await stack.enter_async_context(storage)
        async with limit_time(CONNECT_SECONDS, "The broker did not answer"):
            await reach_broker(transport)
            client = await stack.enter_async_context(Client(transport, storage=storage, codec=codec))
        yield Connection(client, transport, storage, Project.of(loaded))


async def reach_broker(transport: Transport, seconds: float = CONNECT_SECONDS) -> None:
    """Return if the broker answers.

    Args:
        transport: the connection to the broker.
        seconds: how long to wait for its answer.

    Raises:
        TransportUnavailable: it does not answer in time.
    """
    try:
        async with asyncio.timeout(seconds):
            await transport.stats(topics.service_executor("infinitic-doctor"))
    except TimeoutError:
        raise TransportUnavailable(f"The broker did not answer within {seconds:g} s") from None


async def wait_for_answer(connection: Connection, name: str, call: Awaitable[T], timeout: float = ANSWER_SECONDS) -> T:
    """Wait for the answer of a state engine.

    Args:
        connection: the connection of the command.
        name: the name of the workflow.
        call: what waits for the answer.
        timeout: how long to wait, in seconds.

    Raises:
        NoAnswer: there is no answer in time. The message says why, as far as that can be known.
    """
    try:
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError:
        reason = get_last_warning()
        if not reason and not await count_consumers(connection.transport, topics.workflow_engine(name)):
            reason = f"no worker has the state engine of '{name}': start one that hosts it"
        reason = reason or f"check that a worker with the state engine of '{name}' runs"
        raise NoAnswer(f"No answer within {timeout:g} s: {reason}") from None


async def count_consumers(transport: Transport, topic: topics.Topic) -> int:
    """Count the consumers of a topic. A topic that does not exist has none.

    Args:
        transport: the connection to the broker.
        topic: the topic; its main subscription is meant.
    """
    stats = (await transport.stats(topic)).subscriptions.get(topic.subscription or "")
    return 0 if stats is None else stats.consumers


@asynccontextmanager
async def limit_time(seconds: float, message: str) -> AsyncGenerator[None]:
    """Limit how long the block may wait for a broker or a database.

    Args:
        seconds: how long it may take.
        message: the beginning of the error, such as "The broker did not answer".

    Raises:
        TransportUnavailable: the block took longer. The message ends with the last warning.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        reason = get_last_warning() or "check that it runs, and that its address in the configuration is right"
        raise TransportUnavailable(f"{message} within {seconds:g} s: {reason}") from None
