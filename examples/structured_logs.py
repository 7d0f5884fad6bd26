"""Logs as JSON with the ids of workflow and task, and the tenant of the caller in each line.

Run it with ``python examples/structured_logs.py``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from infinitic import CallNext, Client, ClientCall, LogContext, LogFilter, Middleware, TaskContext, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

logger = logging.getLogger("shop")

tenant: ContextVar[str] = ContextVar("tenant", default="")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, with the fields that `LogFilter` has added."""

    names = ("tenant", "workflow_name", "workflow_id", "service_name", "task_name", "task_id", "retry_index")

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: getattr(record, name, "") for name in self.names}
        known = {name: value for name, value in fields.items() if value != ""}
        return json.dumps({"level": record.levelname, "message": record.getMessage(), **known})


class Tenants(Middleware):
    """Carries the tenant from the client to the tasks. Each of their log lines has it."""

    carried_meta = frozenset({"tenant"})

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        call.meta["tenant"] = tenant.get().encode()
        return await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        token = tenant.set(context.meta["tenant"].decode())
        try:
            return await call_next()
        finally:
            tenant.reset(token)


def add_tenant(record: logging.LogRecord) -> bool:
    """A filter of a handler: what it adds stands beside what `LogFilter` adds."""
    record.tenant = tenant.get()
    return True


class Payments:
    def charge(self, euros: int) -> str:
        # This runs in a thread. The line has all ids there, too.
        logger.info("charging %d euros", euros)
        return f"{tenant.get()} paid {euros} euros"


class Shop(Workflow):
    payments = Workflow.new_service(Payments)

    async def sell(self, euros: int) -> str:
        # Silent in replay.
        self.logger.info("selling")
        return await self.dispatch(self.payments.charge, euros)


SERVICES: list[Callable[[], object]] = [Payments]
WORKFLOWS: list[type[Workflow]] = [Shop]
# The first one is the outermost.
MIDDLEWARE: list[Callable[[], Middleware]] = [LogContext, Tenants]


async def scenario(client: Client) -> dict[str, str]:
    lines = Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        tenant.set("ada")
        handle = await client.dispatch(client.new_workflow(Shop).sell, 42)
        outcome = await handle.result()
    finally:
        logger.removeHandler(lines)
        logger.setLevel(logging.NOTSET)
    (line,) = lines.written
    line = line.replace(handle.workflow_id, "WORKFLOW")
    return {"outcome": outcome, "line": line}


class Lines(logging.Handler):
    """Keeps the lines. A real program takes `logging.StreamHandler`."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.setFormatter(JsonFormatter())
        self.addFilter(LogFilter())
        self.addFilter(add_tenant)

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


async def main() -> None:
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage, middleware=[make() for make in MIDDLEWARE])
        worker.add_service(Payments())
        worker.add_workflow(Shop)
        async with worker.running():
            for name, outcome in (await scenario(worker.client)).items():
                print(f"{name}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
