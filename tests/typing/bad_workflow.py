"""Errors in workflow code, with the reports of both type checkers. Only checked, see `shop`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal

from infinitic import Channel, Deferred, Receiver, Workflow, all_of, any_of, method, workflow
from tests.typing.shop import Flight, Hotel, Request, Trip


class Code(Trip):
    async def stubs(self, request: Request) -> None:
        await self.flights.book("Rome")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await self.flights.book()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await self.flights.book(request, request)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await self.flights.book(trip=request)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await self.flights.refund(Flight(""), reason=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await self.flights.cancel(request)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        _hotel: Hotel = await self.flights.book(request)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        _price: float = self.flights.price(request)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        await self.payments.charge(Decimal(1), "visa")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await self.flights.price(request)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]

    async def other_workflows(self, request: Request) -> None:
        other = self.get_workflow_by_id(Trip, "t1")
        await other.book("Rome")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await other.approvals.send("yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        _flight: Flight = await self.new_workflow(Trip).book(request)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        _number: Deferred[int] = self.dispatch(self.new_workflow(Trip).book, request)  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
        self.new_workflow(Trip, meta={"k": "text"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
        self.get_workflow_by_id(Trip, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def dispatches(self, request: Request) -> None:
        self.dispatch(self.flights.book, "Rome")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.dispatch(self.flights.book)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        self.dispatch(self.flights.book, request, request)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        self.dispatch(self.flights.book, trip=request)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        self.dispatch(self.flights.refund, Flight(""), reason=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.dispatch(self.flights.price, request, currency=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.dispatch(self.flights.book(request))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.dispatch("book", request)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        _hotel: Deferred[Hotel] = self.dispatch(self.flights.book, request)  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
        _stars: Deferred[str] = self.dispatch(self.hotels.stars, Hotel(""))  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
        _number: str = await self.dispatch(self.hotels.stars, Hotel(""))  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]

    async def combinations(self, request: Request) -> None:
        flight = self.dispatch(self.flights.book, request)
        hotel = self.dispatch(self.hotels.book, request)
        booking = self.flights.book(request)
        any_of(flight, booking)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        all_of(flight, 3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        _ = flight | request  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
        _ = flight & booking  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
        _won: Flight = await (flight | hotel)  # type: ignore[operator]  # pyright: ignore[reportAssignmentType]
        _both: tuple[Hotel, Flight] = await all_of(flight, hotel)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        _one, _two, _three = await (flight & hotel)  # type: ignore[misc]  # pyright: ignore[reportAssignmentType, reportUnknownVariableType]
        _first: Flight = await any_of(flight, self.timer(3))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
        _ = (await (flight | hotel)).number  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        _list: list[Flight] = await all_of(flight, flight, hotel)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    async def ordinary_asyncio(self, request: Request) -> None:
        _flight, _hotel, _stars = await asyncio.gather(self.flights.book(request), self.hotels.book(request))  # type: ignore[misc]  # pyright: ignore[reportAssignmentType, reportUnknownVariableType]
        _name: str = await asyncio.create_task(self.flights.book(request))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
        _seconds: int = await asyncio.wait_for(self.timer(5), 60)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]

    async def channels(self) -> None:
        _answer: Receiver[str] = self.approvals.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        _text: str = await self.approvals.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        self.approvals.receive(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.approvals.receive(limit="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        self.approvals.receive(where=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
        _flight: Flight = await self.events.receive(Hotel)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
        Channel[bool](True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        Channel[bool](keep="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def tools(self) -> None:
        def dice(sides: int) -> int:
            return sides

        self.timer("5 minutes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        _due: float = await self.timer(5)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        self.inline(dice, "six")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.inline(dice)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        _text: str = self.inline(dice, 6)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        await self.wait_until(True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.now = datetime.min  # type: ignore[assignment, method-assign]  # pyright: ignore[reportAttributeAccessIssue]
        self.context.workflow_id = "another"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@workflow(version="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
class Versioned(Workflow):
    async def book(self) -> None: ...


@workflow("Trip")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUntypedClassDecorator]
class Positional(Workflow):
    @method(total_timeout="1 s")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    async def book(self) -> None: ...

    @method(timeout=1)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    async def cancel(self) -> None: ...


class Stubs(Workflow):
    tags = Workflow.new_service(Trip, tags=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    meta = Workflow.new_service(Trip, meta={"who": "me"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    contract = Workflow.new_service("Flights")  # type: ignore[arg-type, var-annotated]  # pyright: ignore[reportArgumentType, reportUnknownVariableType]


workflow(Flight)
