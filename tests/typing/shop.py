"""The classes that the other files use: values, three contracts, and a workflow.

These files are never run. `make check` checks them with mypy and pyright. `assert_type` says which
type must be inferred. A planted error has an ignore comment for each checker. If the error is not
found, the checker reports the comment as unneeded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from infinitic import Channel, Workflow, method, query, service, task, workflow


@dataclass
class Request:
    city: str
    nights: int = 1


@dataclass
class Flight:
    number: str


@dataclass
class Hotel:
    name: str


@dataclass
class Receipt:
    flight: Flight
    hotel: Hotel


class Flights(ABC):
    """An abstract class as a contract."""

    @abstractmethod
    async def book(self, request: Request) -> Flight: ...

    @abstractmethod
    async def refund(self, flight: Flight, /, *, reason: str = "") -> None: ...

    @abstractmethod
    def price(self, request: Request, currency: str = "EUR") -> Decimal: ...


@service(name="Hotels", total_timeout=60)
class Hotels(Protocol):
    """A Protocol as a contract."""

    async def book(self, request: Request) -> Hotel: ...

    def stars(self, hotel: Hotel) -> int: ...

    def later(self, hotel: Hotel) -> Awaitable[str]: ...


class Payments:
    """A plain class, which is its own contract."""

    @task(attempt_timeout=30)
    async def charge(self, amount: Decimal, *, card: str) -> str:
        return f"{card}: {amount}"

    def fee(self, *amounts: Decimal) -> Decimal:
        return sum(amounts, Decimal())


@workflow(name="Trip", version=1)
class Trip(Workflow):
    flights = Workflow.new_service(Flights)
    hotels = Workflow.new_service(Hotels, tags={"eu"}, total_timeout=60)
    payments = Workflow.new_service(Payments)
    approvals = Channel[bool]()
    events = Channel[Flight | Hotel](keep=10)
    points: int = 0

    async def book(self, request: Request, *, points: int = 0) -> Receipt:
        self.points += points
        return Receipt(await self.flights.book(request), await self.hotels.book(request))

    @query
    def balance(self, factor: int = 1) -> int:
        return self.points * factor

    @method(name="add", total_timeout=5)
    async def add_bonus(self, points: int) -> int:
        self.points += points
        return self.points
