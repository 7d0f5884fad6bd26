"""Child workflows: an order ships its parcels in parallel, and each parcel is a workflow.

A parcel that fails tells its order the whole chain of causes. A parcel that takes too long is
cancelled where it runs. All parcels report to one account, which is a workflow that runs already.

Run it with ``python examples/parcels.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from infinitic import (
    Channel,
    Client,
    TaskFailedError,
    Worker,
    Workflow,
    WorkflowFailedError,
    WorkflowTimedOutError,
    task,
    workflow,
)
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

PATIENCE = 1.5
"""Seconds. In real life ``timedelta(days=3)``."""


class Warehouse(Protocol):
    async def pick(self, item: str) -> str: ...


class OneWarehouse(Warehouse):
    @task(retry=lambda retry_index, error: None)
    async def pick(self, item: str) -> str:
        if item == "unicorn":
            raise LookupError("there are no unicorns")
        return f"a {item}"


@workflow(name="Parcel")
class ParcelContract(Protocol):
    """What an order has to know of parcels. Their code may be on other workers."""

    async def ship(self, item: str, account_id: str) -> str: ...


class Account(Workflow):
    """Counts what was shipped, for all orders of a customer."""

    closing = Channel[bool]()

    def __init__(self) -> None:
        self.shipped = 0

    async def open(self) -> int:
        await self.closing.receive()
        return self.shipped

    async def count(self, parcels: int) -> int:
        self.shipped += parcels
        return self.shipped


class Parcel(Workflow, ParcelContract):
    warehouse = Workflow.new_service(Warehouse)

    async def ship(self, item: str, account_id: str) -> str:
        picked = await self.warehouse.pick(item)
        if item == "piano":
            await asyncio.sleep(3600)  # nobody can carry it
        # The account is another instance that runs. A method of it can be awaited.
        await self.get_workflow_by_id(Account, account_id).count(1)
        return picked


class Order(Workflow):
    parcels = Workflow.new_workflow(ParcelContract, total_timeout=PATIENCE)

    async def place(self, items: list[str], account_id: str) -> str:
        parcels = [self.dispatch(self.parcels.ship, item, account_id) for item in items]
        told: list[str] = []
        for item, parcel in zip(items, parcels, strict=True):
            try:
                told.append(await parcel)
            except WorkflowTimedOutError:
                told.append(f"no {item}: it took too long")
            except WorkflowFailedError as error:
                cause = error.cause
                why = cause.last_failure.exception.message if isinstance(cause, TaskFailedError) else error.failure
                told.append(f"no {item}: {why}")
        return ", ".join(told)


SERVICES: list[Callable[[], object]] = [OneWarehouse]
WORKFLOWS: list[type[Workflow]] = [Account, Parcel, Order]


async def scenario(client: Client) -> dict[str, str]:
    """One order whose parcels arrive, and one with a parcel that does not exist, and a slow one."""
    account = await client.dispatch(client.new_workflow(Account).open)
    first, second = await asyncio.gather(
        client.new_workflow(Order).place(["book", "lamp"], account.workflow_id),
        client.new_workflow(Order).place(["chair", "unicorn", "piano"], account.workflow_id),
    )
    await client.get_workflow_by_id(Account, account.workflow_id).closing.send(True)
    return {"first": first, "second": second, "shipped": str(await account.result())}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for service in SERVICES:
        worker.add_service(service)
    for workflow_class in WORKFLOWS:
        worker.add_workflow(workflow_class)
    async with worker.running():
        for what, result in (await scenario(worker.client)).items():
            print(f"{what}: {result}")


if __name__ == "__main__":
    asyncio.run(main())
