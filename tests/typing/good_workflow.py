"""Workflow code: stubs, `dispatch`, timers, channels, asyncio. Only checked, see `shop`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from logging import Logger, LoggerAdapter
from random import Random
from typing import Any, Protocol, assert_type
from uuid import UUID

from infinitic import Channel, Deferred, DeferredStatus, Receiver, Workflow, WorkflowContext, method, workflow
from tests.typing.shop import Flight, Flights, Hotel, Hotels, Payments, Receipt, Request, Trip


class Abstract(ABC):
    @abstractmethod
    async def open(self, number: int) -> str: ...


@workflow(name="described")
class Described(Protocol):
    async def close(self) -> int: ...


class Code(Trip):
    trips = Workflow.new_workflow(Trip, meta={"k": b"v"})

    async def stubs(self, request: Request) -> None:
        assert_type(self.flights, Flights)
        assert_type(self.hotels, Hotels)
        assert_type(self.payments, Payments)
        called: Coroutine[Any, Any, Flight] = self.flights.book(request)
        assert_type(await called, Flight)
        assert_type(await self.flights.book(request), Flight)
        assert_type(await self.hotels.book(request=request), Hotel)
        assert_type(await self.payments.charge(Decimal(1), card="visa"), str)
        await self.flights.refund(Flight(""), reason="ill")

    async def dispatches(self, request: Request) -> None:
        assert_type(self.dispatch(self.flights.book, request), Deferred[Flight])
        assert_type(self.dispatch(self.hotels.book, request=request), Deferred[Hotel])
        assert_type(self.dispatch(self.payments.charge, Decimal(1), card="visa"), Deferred[str])
        assert_type(self.dispatch(self.flights.refund, Flight(""), reason="ill"), Deferred[None])
        # Contract methods that are no coroutine functions.
        assert_type(self.dispatch(self.flights.price, request, currency="USD"), Deferred[Decimal])
        assert_type(self.dispatch(self.hotels.stars, Hotel("")), Deferred[int])
        assert_type(self.dispatch(self.payments.fee, Decimal(1), Decimal(2)), Deferred[Decimal])
        assert_type(self.hotels.later(Hotel("")), Awaitable[str])
        assert_type(self.dispatch(self.hotels.later, Hotel("")), Deferred[str])

    async def dispatches_by_context(self, request: Request) -> Hotel | None:
        """An expected type does not disturb."""
        flight: Flight = await self.dispatch(self.flights.book, request)
        price: Decimal = await self.dispatch(self.flights.price, request)
        hotel: Deferred[Hotel] = self.dispatch(self.hotels.book, request)
        perhaps: Deferred[Hotel | None] = self.dispatch(self.hotels.book, request)
        many: list[Deferred[Flight]] = [self.dispatch(self.flights.book, each) for each in [request]]
        await asyncio.gather(hotel, perhaps, *many)
        assert_type((flight, price), tuple[Flight, Decimal])
        return await self.dispatch(self.hotels.book, request)

    async def deferreds(self, request: Request) -> None:
        flight = self.dispatch(self.flights.book, request)
        assert_type(await flight, Flight)
        assert_type(flight.result(), Flight)
        assert_type(flight.id, str)
        assert_type(flight.status(), DeferredStatus)
        assert_type(flight.is_completed(), bool)
        assert_type(flight.cancel(), bool)
        future: asyncio.Future[Flight] = flight
        assert_type(await future, Flight)

    async def other_workflows(self, request: Request) -> None:
        assert_type(self.trips, Trip)
        assert_type(await self.trips.book(request), Receipt)
        assert_type(self.dispatch(self.trips.book, request), Deferred[Receipt])
        abstract, protocol = self.new_workflow(Abstract), self.new_workflow(Described, total_timeout=60)
        assert_type(await abstract.open(3), str)
        assert_type(self.dispatch(protocol.close), Deferred[int])
        other = self.get_workflow_by_id(Trip, "t1", meta={"k": b"v"})
        assert_type(await other.book(request), Receipt)
        assert_type(await other.approvals.send(True), None)
        assert_type(await self.get_workflow_by_id(Described, "d1").close(), int)

    async def timers(self) -> None:
        assert_type(self.timer(5), Deferred[datetime])
        assert_type(self.timer(0.5), Deferred[datetime])
        assert_type(await self.timer(timedelta(days=2)), datetime)
        assert_type(await self.timer(datetime(2030, 1, 1, tzinfo=UTC)), datetime)

    async def channels(self) -> None:
        assert_type(self.approvals, Channel[bool])
        receiver = self.approvals.receive()
        assert_type(receiver, Receiver[bool])
        assert_type(await receiver, bool)
        assert_type(receiver.status(), DeferredStatus)
        async for approval in self.approvals.receive(limit=3, where="?@ == true"):
            assert_type(approval, bool)
        assert_type(await self.events.receive(), Flight | Hotel)
        assert_type(self.events.receive(Hotel, where={"name": "Ritz"}), Receiver[Hotel])
        assert_type(await self.events.receive(type=Flight), Flight)

    async def tools(self) -> None:
        def dice(sides: int, *, loaded: bool = False) -> int:
            return 6 if loaded else sides

        assert_type(self.inline(dice, 6, loaded=True), int)
        assert_type(self.inline(lambda: "text"), str)
        assert_type(self.now(), datetime)
        assert_type(self.random, Random)
        assert_type(self.random.random(), float)
        assert_type(self.uuid4(), UUID)
        assert_type(self.context, WorkflowContext)
        assert_type(self.context.workflow_id, str)
        assert_type(self.logger, LoggerAdapter[Logger])
        await self.wait_until(lambda: self.points > 10)

    async def ordinary_asyncio(self, request: Request) -> Receipt:
        flight, hotel = await asyncio.gather(self.flights.book(request), self.dispatch(self.hotels.book, request))
        assert_type(flight, Flight)
        assert_type(hotel, Hotel)
        async with asyncio.TaskGroup() as group:
            booking = group.create_task(self.flights.book(request))
        assert_type(booking, asyncio.Task[Flight])
        assert_type(await asyncio.create_task(self.hotels.book(request)), Hotel)
        assert_type(await asyncio.wait_for(self.approvals.receive(), 60), bool)
        assert_type(await asyncio.wait_for(self.dispatch(self.flights.book, request), 60), Flight)
        assert_type(await asyncio.shield(self.dispatch(self.flights.book, request)), Flight)
        done, _ = await asyncio.wait({self.dispatch(self.flights.book, request)})
        assert_type(done.pop().result(), Flight)
        for each in asyncio.as_completed([self.dispatch(self.flights.book, request)]):
            assert_type(await each, Flight)
        return Receipt(flight, hotel)


@workflow
class Bare(Workflow):
    @method
    async def one(self, x: int, /, *, y: str = "") -> str:
        return y * x

    @method(name="zwei", total_timeout=timedelta(days=1))
    async def two(self, *xs: int) -> list[int]:
        return [*xs]


@workflow(name="Versioned", version=2, retention=timedelta(days=7), replay_check="strict")
class Versioned(Workflow):
    def __init__(self, start: int = 0) -> None:
        self.total = start

    async def add(self, x: int) -> int:
        self.total += x
        return self.total


async def decorators_keep_signatures() -> None:
    assert_type(Bare(), Bare)
    assert_type(Versioned(5), Versioned)
    assert_type(await Bare().one(1, y=""), str)
    assert_type(await Bare().two(1, 2), list[int])
    assert_type(await Versioned().add(1), int)
