"""The booking that ``infinitic demo`` runs: four services, and a workflow that uses them.

It is ordinary user code. It says what it does through `logging`: the timeline of the demo is this
log. `pace` is the factor for the seconds that services pretend to work. Two events tell the demo
when to cut off the worker, and when to approve.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from infinitic import Channel, ExponentialBackoff, Workflow, task, task_context, workflow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TripRequest:
    """The trip that is wanted. `remind_after` is in seconds."""

    traveller: str
    manager: str
    city: str
    nights: int
    remind_after: float


@dataclass(frozen=True)
class Booking:
    """A seat or a room, and its price in euros."""

    what: str
    price: int


@dataclass(frozen=True)
class Approval:
    """The value of the signal: what the manager decided."""

    by: str
    granted: bool


@dataclass(frozen=True)
class Receipt:
    """The result of the workflow: what was booked."""

    flight: str
    hotel: str
    euros: int
    approved_by: str


class NotApproved(Exception):
    """The manager has refused. The seat and the room were cancelled."""


# ── Contracts: what the workflow knows of the services ──


class Flights(Protocol):
    """Books seats."""

    async def book(self, city: str) -> Booking: ...
    async def cancel(self, booking: Booking) -> None: ...


class Hotels(Protocol):
    """Books rooms."""

    async def book(self, city: str, nights: int) -> Booking: ...
    async def cancel(self, booking: Booking) -> None: ...


class Payments(Protocol):
    """Takes payments."""

    async def charge(self, traveller: str, euros: int) -> None: ...


class Mail(Protocol):
    """Sends mail."""

    async def ask(self, manager: str, request: str) -> None: ...
    async def remind(self, manager: str) -> None: ...


# ── The workflow: ordinary asyncio code that resumes where it stopped if its process dies ──


@workflow(name="Trip")
class Trip(Workflow):
    """Books a flight and a hotel, waits for an approval, and pays."""

    flights = Workflow.new_service(Flights)
    hotels = Workflow.new_service(Hotels)
    payments = Workflow.new_service(Payments)
    mail = Workflow.new_service(Mail)
    approvals = Channel[Approval]()

    async def book(self, request: TripRequest) -> Receipt:
        """Book a trip. If it is refused, nothing stays booked."""
        self.logger.info("books a trip to %s for %s", request.city, request.traveller)
        flight = await self.flights.book(request.city)
        hotel = await self.hotels.book(request.city, request.nights)
        euros = flight.price + hotel.price
        approval = await self._approval(request, euros)
        if not approval.granted:
            self.logger.info("refused by %s: cancels the flight and the hotel", approval.by)
            await asyncio.gather(self.flights.cancel(flight), self.hotels.cancel(hotel))
            raise NotApproved(f"{approval.by} said no")
        self.logger.info("got the signal: approved by %s", approval.by)
        await self.payments.charge(request.traveller, euros)
        return Receipt(flight.what, hotel.what, euros, approval.by)

    async def _approval(self, request: TripRequest, euros: int) -> Approval:
        await self.mail.ask(request.manager, f"{request.traveller} to {request.city} for {euros} euros")
        while True:
            self.logger.info("waits for a signal; sets a timer of %g s to send a reminder", request.remind_after)
            match await (self.approvals.receive() | self.timer(request.remind_after)):
                case Approval() as approval:
                    return approval
                case _:
                    self.logger.info("the timer has ended, and no signal came")
                    await self.mail.remind(request.manager)


# ── The services: plain classes. They may do anything, and run on any machine ──


class Airline(Flights):
    """An airline that always has a seat."""

    def __init__(self, pace: float) -> None:
        self._pace = pace

    async def book(self, city: str) -> Booking:
        await asyncio.sleep(0.5 * self._pace)
        log.info("seat 12A to %s is booked", city)
        return Booking(f"seat 12A to {city}", 280)

    async def cancel(self, booking: Booking) -> None:
        log.info("%s is free again", booking.what)


class HotelChain(Hotels):
    """A hotel that answers at the third attempt. It sets `answering` while it looks for a room."""

    def __init__(self, pace: float, answering: asyncio.Event) -> None:
        self._pace = pace
        self._answering = answering

    @task(retry=ExponentialBackoff(minimum_seconds=0.4, random_factor=0, maximum_retries=5))
    async def book(self, city: str, nights: int) -> Booking:
        attempt = task_context().retry_index + 1
        await asyncio.sleep(0.2 * self._pace)
        if attempt <= 2:
            log.warning("attempt %d fails: the hotel does not answer; its policy retries", attempt)
            raise ConnectionError("the hotel does not answer")
        log.info("attempt %d: the hotel answers, and looks for a room", attempt)
        self._answering.set()
        await asyncio.sleep(0.8 * self._pace)
        log.info("attempt %d: room 7 in %s is booked", attempt, city)
        return Booking(f"room 7 in {city}, {nights} nights", 150 * nights)

    async def cancel(self, booking: Booking) -> None:
        log.info("%s is free again", booking.what)


class Bank(Payments):
    """A bank where everybody has enough money."""

    def __init__(self, pace: float) -> None:
        self._pace = pace

    async def charge(self, traveller: str, euros: int) -> None:
        await asyncio.sleep(0.3 * self._pace)
        log.info("%s pays %d euros", traveller, euros)


class MailServer(Mail):
    """A mail server. It sets `reminded` when it has sent a reminder."""

    def __init__(self, pace: float, reminded: asyncio.Event) -> None:
        self._pace = pace
        self._reminded = reminded

    async def ask(self, manager: str, request: str) -> None:
        await asyncio.sleep(0.2 * self._pace)
        log.info("asks %s: %s?", manager, request)

    async def remind(self, manager: str) -> None:
        log.info("reminds %s", manager)
        self._reminded.set()
