"""Waiting for people: a purchase needs a yes from outside before its deadline.

The answer is a signal, and the deadline is a durable timer.

Run it with ``python examples/approval.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from infinitic import Channel, Client, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

DEADLINE = 1.5
"""Seconds. In real life ``timedelta(days=2)``: the storage must live that long, not the process."""


@dataclass(frozen=True)
class Purchase:
    item: str
    price: int


@dataclass(frozen=True)
class Decision:
    """The signal. Any type that has a type hint can be one."""

    approved: bool
    by: str


class Mail(Protocol):
    async def ask(self, purchase: Purchase) -> None: ...


class Shop(Protocol):
    async def order(self, purchase: Purchase) -> str: ...


class MailServer(Mail):
    async def ask(self, purchase: Purchase) -> None:
        print(f"  mail: may we buy a {purchase.item} for {purchase.price}?")


class OnlineShop(Shop):
    async def order(self, purchase: Purchase) -> str:
        print(f"  shop: a {purchase.item} is on its way")
        return f"order of a {purchase.item}"


class Approval(Workflow):
    mail = Workflow.new_service(Mail)
    shop = Workflow.new_service(Shop)
    decisions = Channel[Decision]()  # outside: client.get_workflow_by_id(Approval, id).decisions.send(...)

    async def request(self, purchase: Purchase) -> str:
        await self.mail.ask(purchase)
        # The first of the two. A signal that came before this line is kept by its channel.
        match await (self.decisions.receive() | self.timer(DEADLINE)):
            case Decision(approved=True, by=manager):
                return f"{await self.shop.order(purchase)}, approved by {manager}"
            case Decision(by=manager):
                return f"refused by {manager}"
            case _:
                return "nobody answered in time"


SERVICES: list[Callable[[], object]] = [MailServer, OnlineShop]
WORKFLOWS: list[type[Workflow]] = [Approval]


async def scenario(client: Client) -> dict[str, str]:
    """Three purchases: one is approved, one refused, one forgotten."""
    requests = {
        purchase.item: await client.dispatch(client.new_workflow(Approval).request, purchase)
        for purchase in (Purchase("desk", 300), Purchase("yacht", 90_000), Purchase("lamp", 40))
    }
    # The manager may use another process, on another day. Only the id is needed.
    desk = client.get_workflow_by_id(Approval, requests["desk"].workflow_id)
    await desk.decisions.send(Decision(approved=True, by="Grace"))
    yacht = client.get_workflow_by_id(Approval, requests["yacht"].workflow_id)
    await yacht.decisions.send(Decision(approved=False, by="Grace"))
    return {item: await handle.result() for item, handle in requests.items()}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for service in SERVICES:
        worker.add_service(service)
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print(f"Three requests, {DEADLINE} s to decide:")
        outcome = await scenario(worker.client)
    for item, result in outcome.items():
        print(f"{item}: {result}")


if __name__ == "__main__":
    asyncio.run(main())
