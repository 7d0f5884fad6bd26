"""A worker for each role, on real servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bench import servers
from infinitic import Client, Worker, Workflow

Connect = Callable[[], Awaitable[Worker]]
"""Makes a worker with connections of its own."""


@asynccontextmanager
async def connections(
    database: str, label: str, folder: Path
) -> AsyncGenerator[tuple[AsyncExitStack, Connect, Client]]:
    """Connect a client to Pulsar and a database, and let workers be made.

    Args:
        database: its name.
        label: of topics and tables.
        folder: of the file of SQLite.

    Returns:
        What closes them at the end, what makes a worker, and a client.
    """
    async with AsyncExitStack() as stack:

        async def connect() -> Worker:
            transport = await stack.enter_async_context(servers.broker(database, label, folder))
            return Worker(transport, await stack.enter_async_context(servers.storage(database, label, folder)))

        transport = await stack.enter_async_context(servers.broker(database, label, folder))
        storage = await stack.enter_async_context(servers.storage(database, label, folder))
        yield stack, connect, await stack.enter_async_context(Client(transport, storage=storage))


@asynccontextmanager
async def each_role_alone(
    database: str, label: str, folder: Path, workflows: Sequence[type[Workflow]], services: Sequence[Any]
) -> AsyncGenerator[Client]:
    """Run a worker for each role, and one for all services.

    Args:
        database: its name.
        label: of topics and tables.
        folder: of the file of SQLite.
        workflows: the classes of the workflows.
        services: an instance of each service.

    Returns:
        A client, which reads the storage as well.
    """
    async with connections(database, label, folder) as (stack, connect, client):
        tags, engine, code, work = [await connect() for _ in range(4)]
        for workflow in workflows:
            tags.add_workflow_tag_engine(workflow)
            engine.add_workflow_state_engine(workflow)
            code.add_workflow_executor(workflow)
        for service in services:
            work.add_service(service)
        for worker in (tags, engine, code, work):
            await stack.enter_async_context(worker.running())
        yield client
