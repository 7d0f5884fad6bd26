"""A saga: a trip is booked step by step. If one step fails, the steps before it are undone.

The last step is undone first. Compensation is ordinary code: here it is `AsyncExitStack` of Python.
Run it with ``python examples/booking_saga.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from infinitic import Client, ExponentialBackoff, TaskFailedError, Worker, Workflow, WorkflowFailedError, task
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

# Compensations must succeed in the end.
KEEP_TRYING = ExponentialBackoff(minimum_seconds=0.2, maximum_seconds=60, maximum_retries=1000)


@dataclass(frozen=True)
class Booking:
    code: str
    price: int


class Flights(Protocol):
    async def book(self, city: str) -> Booking: ...
    async def cancel(self, booking: Booking) -> None: ...


class Hotels(Protocol):
    async def book(self, city: str, nights: int) -> Booking: ...
    async def cancel(self, booking: Booking) -> None: ...


class Payments(Protocol):
    async def charge(self, card: str, amount: int) -> str: ...


class CardDeclined(Exception):
    """Without a retry policy, the first failure of a task is final."""


class Airline(Flights):
    async def book(self, city: str) -> Booking:
        print(f"  flights: a seat to {city}")
        return Booking(f"seat {city}-12A", 280)

    @task(retry=KEEP_TRYING)
    async def cancel(self, booking: Booking) -> None:
        print(f"  flights: {booking.code} is free again")


class HotelChain(Hotels):
    async def book(self, city: str, nights: int) -> Booking:
        print(f"  hotels: {nights} nights in {city}")
        return Booking(f"room {city}-7", 150 * nights)

    @task(retry=KEEP_TRYING)
    async def cancel(self, booking: Booking) -> None:
        print(f"  hotels: {booking.code} is free again")


class Bank(Payments):
    async def charge(self, card: str, amount: int) -> str:
        print(f"  payments: {amount} from {card}")
        if amount > 1000:
            raise CardDeclined(f"{amount} is above the limit of {card}")
        return f"{amount} paid by {card}"


class NotBooked(Exception):
    """All is undone. Public attributes of an exception travel with it."""

    def __init__(self, reason: str, undone: list[str]) -> None:
        super().__init__(reason)
        self.undone = undone


class Trip(Workflow):
    flights = Workflow.new_service(Flights)
    hotels = Workflow.new_service(Hotels)
    payments = Workflow.new_service(Payments)

    def __init__(self) -> None:
        self.undone: list[str] = []  # attributes are rebuilt by replay: nothing has to be saved

    async def book(self, city: str, nights: int, card: str) -> str:
        try:
            async with AsyncExitStack() as compensations:
                flight = await self.flights.book(city)
                compensations.push_async_callback(self._undo, self.flights.cancel, flight)
                hotel = await self.hotels.book(city, nights)
                compensations.push_async_callback(self._undo, self.hotels.cancel, hotel)
                payment = await self.payments.charge(card, flight.price + hotel.price)
                compensations.pop_all()  # everything worked: nothing to undo
        except TaskFailedError as error:
            raise NotBooked(str(error.last_failure.exception), self.undone) from error
        return f"{flight.code}, {hotel.code}, {payment}"

    async def _undo(self, cancel: Callable[[Booking], Awaitable[None]], booking: Booking) -> None:
        await cancel(booking)
        self.undone.append(booking.code)


SERVICES: list[Callable[[], object]] = [Airline, HotelChain, Bank]
WORKFLOWS: list[type[Workflow]] = [Trip]


async def scenario(client: Client) -> dict[str, str]:
    """One trip that can be paid for, and one that cannot."""
    outcome = {"Lisbon": await client.new_workflow(Trip).book("Lisbon", nights=2, card="Ada's card")}
    try:
        outcome["Tokyo"] = await client.new_workflow(Trip).book("Tokyo", nights=14, card="Ada's card")
    except WorkflowFailedError as error:
        outcome["Tokyo"] = str(error.failure)
        outcome["Undone"] = ", ".join(error.failure.attributes["undone"])
    return outcome


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for service in SERVICES:
        worker.add_service(service)
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print("Two trips, one too expensive:")
        outcome = await scenario(worker.client)
    for trip, result in outcome.items():
        print(f"{trip}: {result}")


if __name__ == "__main__":
    asyncio.run(main())
