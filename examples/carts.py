"""Tags and custom ids: one cart for each shopper, and one offer for all carts of a shop.

Run it with ``python examples/carts.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from infinitic import Channel, Client, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class Cart(Workflow):
    """What a shopper wants to buy. There is one cart at a time: its custom id is the shopper."""

    items = Channel[str]()
    discount = 0

    async def fill(self, count: int) -> str:
        bought = [await self.items.receive() for _ in range(count)]
        return f"{', '.join(bought)}, {self.discount} % off"

    async def offer(self, percent: int) -> None:
        self.discount = max(self.discount, percent)


SERVICES: list[Callable[[], object]] = []
WORKFLOWS: list[type[Workflow]] = [Cart]


async def scenario(client: Client) -> dict[str, str]:
    # The shopper has two windows open. Both ask for a cart, and get the same one.
    window = client.new_workflow(Cart, custom_id="Ada", tags={"shop:Lisbon"})
    first, second = [await client.dispatch(window.fill, 2) for _ in range(2)]
    other = await client.dispatch(client.new_workflow(Cart, custom_id="Grace", tags={"shop:Lisbon"}).fill, 1)

    # Her cart is found by her name.
    await client.get_workflow_by_custom_id(Cart, "Ada").items.send("a book", confirm=True)

    # All open carts of the shop get an offer, and then a gift.
    in_lisbon = client.get_workflow_by_tag(Cart, "shop:Lisbon")
    carts = await client.get_ids(in_lisbon)
    await client.broadcast(in_lisbon.offer, 10)
    await in_lisbon.items.send("a gift")
    assert await first.result() == await second.result()
    return {"carts": str(len(carts)), "Ada": await first.result(), "Grace": await other.result()}


async def main() -> None:
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage)
        worker.add_workflow(Cart)
        async with worker.running():
            for name, outcome in (await scenario(worker.client)).items():
                print(f"{name}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
