"""Errors in client code, with the reports of both type checkers. Only checked, see `shop`."""

from __future__ import annotations

from infinitic import Client, WorkflowHandle
from tests.typing.shop import Flight, Receipt, Request, Trip


async def starting(client: Client, request: Request) -> None:
    trip = client.new_workflow(Trip)
    await trip.book("Rome")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await trip.book()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await trip.book(request, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await trip.book(request, price=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await trip.cancel(request)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    _flight: Flight = await trip.book(request)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await client.dispatch(trip.book, "Rome")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.dispatch(trip.book)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.dispatch(trip.book, request, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.dispatch(trip.book, request, price=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.dispatch(trip.book, request, points="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.dispatch(trip.book(request))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.new_workflow("Trip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.new_workflow(Trip, meta={"who": "me"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


async def waiting(client: Client, request: Request) -> None:
    _handle: WorkflowHandle[Flight] = await client.dispatch(client.new_workflow(Trip).book, request)  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    _number: int = await client.get_handle(Trip.book, "id").result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await client.get_handle(Trip.book, "id").result(timeout="60 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_handle(Trip.book)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.get_handle(Trip.book, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_handle("Trip.book", "id")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_handle(Trip.approvals, "id")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def signalling(client: Client) -> None:
    running = client.get_workflow_by_id(Trip, "id")
    await running.approvals.send("yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await running.approvals.send()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await running.approvals.send(True, False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await running.events.send(Receipt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = running.refusals  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    client.get_workflow_by_id(Trip, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.get_workflow_by_id("Trip", "id")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _bonus: str = await running.add_bonus(3)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await client.cancel(running, confirm="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.query(running.balance, "two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.query(running.balance, times=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _ = (await client.describe(running)).number  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    await client.list_workflows(status="running")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
