"""Clients: stubs of workflows, handles, signals. Only checked, see `shop`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from infinitic import Channel, Client, Worker, WorkflowHandle, WorkflowInfo, WorkflowStatus
from infinitic.storage import Page
from infinitic.transport import Transport
from infinitic_testing.simulation import Simulation
from tests.typing.shop import Flight, Hotel, Receipt, Request, Trip


async def opening(transport: Transport, worker: Worker, sim: Simulation) -> None:
    async with Client(transport, name="shop") as client:
        assert_type(client, Client)
    async with worker.running() as running:
        assert_type(running, Worker)
        assert_type(running.client, Client)
    assert_type(sim.client, Client)


async def starting(client: Client, request: Request) -> None:
    trip = client.new_workflow(Trip, meta={"who": b"me"})
    assert_type(trip, Trip)
    started: Coroutine[Any, Any, Receipt] = trip.book(request)
    assert_type(await started, Receipt)
    assert_type(await trip.book(request), Receipt)
    assert_type(await client.new_workflow(Trip).book(request, points=3), Receipt)
    assert_type(await trip.add_bonus(3), int)

    handle = await client.dispatch(trip.book, request, points=3)
    assert_type(handle, WorkflowHandle[Receipt])
    handle = await client.dispatch(trip.book, request)
    _receipt: Receipt | None = await (await client.dispatch(trip.book, request)).result()
    assert_type(await client.dispatch(trip.add_bonus, points=3), WorkflowHandle[int])
    assert_type(handle.workflow_id, str)
    assert_type(await handle.result(), Receipt)
    assert_type(await handle.result(timeout=60), Receipt)


async def finding(client: Client) -> None:
    running = client.get_workflow_by_id(Trip, "id")
    assert_type(running, Trip)
    assert_type(running.approvals, Channel[bool])
    await running.approvals.send(True)
    await running.events.send(Flight("AF1"), confirm=True)
    await running.events.send(Hotel("Ritz"))
    assert_type(await running.add_bonus(10), int)
    assert_type(await client.dispatch(running.add_bonus, 10), WorkflowHandle[int])

    assert_type(client.get_handle(Trip.book, "id"), WorkflowHandle[Receipt])
    assert_type(client.get_handle(Trip.add_bonus, "id"), WorkflowHandle[int])
    assert_type(await client.get_handle(Trip.book, "id").result(), Receipt)


async def operating(client: Client) -> None:
    running = client.get_workflow_by_id(Trip, "id")
    handle = client.get_handle(Trip.book, "id")
    await client.cancel(running)
    await client.cancel(handle, confirm=True)
    assert_type(await client.cancel(running, method_id="id"), str | None)
    await client.terminate(running, reason="wrong", confirm=True)
    assert_type(await client.complete_timers(handle, method_id="id"), str | None)
    await client.retry_workflow_task(running)
    assert_type(await client.describe(handle), WorkflowInfo)
    assert_type(await client.query(running.balance), int)
    assert_type(await client.query(running.balance, factor=2), int)
    assert_type((await client.describe(running)).workflow_id, str)
    page = await client.list_workflows(name="Trip", status=WorkflowStatus.RUNNING, limit=10)
    assert_type(page, Page)
    assert_type(page.found[0].key.id, str)
