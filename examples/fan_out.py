"""Work in parallel: `asyncio.gather` over calls, and `all_of` over dispatched tasks.

Run it with ``python examples/fan_out.py``. It runs thirteen tasks of 0.3 seconds each in about one
second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from infinitic import Client, Worker, Workflow, all_of
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

SECONDS = 0.3
"""What each task takes."""

CARRIERS = {"Snail": 4, "Hare": 9, "Tortoise": 5, "Dodo": 0}
"""Names, and prices for a kilogram."""


@dataclass(frozen=True)
class Quote:
    carrier: str
    price: int


class Carriers(Protocol):
    async def quote(self, carrier: str, kilograms: int) -> Quote: ...
    async def label(self, carrier: str, parcel: str) -> str: ...
    async def announce(self, carrier: str) -> str: ...


class CarrierGateway(Carriers):
    async def quote(self, carrier: str, kilograms: int) -> Quote:
        await asyncio.sleep(SECONDS)
        if carrier == "Dodo":
            raise ConnectionError("the Dodo does not answer any more")
        return Quote(carrier, CARRIERS[carrier] * kilograms)

    async def label(self, carrier: str, parcel: str) -> str:
        await asyncio.sleep(SECONDS)
        return f"{carrier}/{parcel}"

    async def announce(self, carrier: str) -> str:
        await asyncio.sleep(SECONDS)
        return f"pick-up by {carrier}"


class Shipment(Workflow):
    carriers = Workflow.new_service(Carriers)

    async def ship(self, parcels: dict[str, int]) -> list[str]:
        # Ordinary asyncio: all quotes at once. A carrier that fails does not affect the others.
        weight = sum(parcels.values())
        answers = await asyncio.gather(
            *(self.carriers.quote(carrier, weight) for carrier in CARRIERS), return_exceptions=True
        )
        best = min((each for each in answers if isinstance(each, Quote)), key=lambda quote: quote.price)

        # dispatch() starts a task now and returns a Deferred. Await it later: alone, with `|` and
        # `&`, or with all_of.
        pick_up = self.dispatch(self.carriers.announce, best.carrier)
        labels = all_of(*(self.dispatch(self.carriers.label, best.carrier, parcel) for parcel in parcels))
        return [f"{best.carrier} for {best.price}", await pick_up, *await labels]


SERVICES: list[Callable[[], object]] = [CarrierGateway]
WORKFLOWS: list[type[Workflow]] = [Shipment]


async def scenario(client: Client) -> dict[str, str]:
    """Eight parcels of different weights."""
    best, pick_up, *labels = await client.new_workflow(Shipment).ship({f"parcel-{n}": n for n in range(1, 9)})
    return {"best offer": best, "announced": pick_up, "labels": " ".join(labels)}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for service in SERVICES:
        worker.add_service(service, concurrency=100)  # tasks at once on this worker; more workers take more
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print(f"Thirteen tasks of {SECONDS} s each:")
        began = perf_counter()
        outcome = await scenario(worker.client)
        seconds = perf_counter() - began
    for what, result in outcome.items():
        print(f"  {what}: {result}")
    print(f"One after the other they take {13 * SECONDS:.1f} s, in parallel they took {seconds:.1f} s.")


if __name__ == "__main__":
    asyncio.run(main())
