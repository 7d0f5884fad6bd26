"""The workflow that the web applications use: an order that waits for its payment."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from infinitic import Channel, Worker, Workflow, query
from infinitic.storage import Storage
from infinitic.transport import Transport


class Warehouse:
    async def ship(self, item: str) -> str:
        return f"{item} is on its way"


class Order(Workflow):
    warehouse = Workflow.new_service(Warehouse)
    payments = Channel[int]()

    def __init__(self) -> None:
        self.state = "waiting for the payment"

    async def place(self, item: str) -> str:
        paid = await (self.payments.receive() | self.timer(timedelta(days=1)))
        if isinstance(paid, int):
            self.state = "paid"
            self.state = await self.warehouse.ship(item)
        else:
            self.state = "nobody has paid"
        return self.state

    @query
    def status(self) -> str:
        return self.state


@asynccontextmanager
async def run_worker(transport: Transport, storage: Storage) -> AsyncGenerator[Worker, None]:
    """Run a worker. In production, workers are processes of their own."""
    async with transport, storage:
        worker = Worker(transport, storage)
        worker.add_service(Warehouse)
        worker.add_workflow(Order)
        async with worker.running():
            yield worker
