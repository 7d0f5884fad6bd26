"""A web application with FastAPI: it starts workflows, asks them, and signals them from a webhook.

In production: ``uvicorn examples.frameworks.fastapi_app:app`` with a file ``infinitic.yml``.
Run ``python -m examples.frameworks.fastapi_app`` to see it with a worker in the same process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from examples.frameworks.orders import Order, run_worker
from infinitic import Client, UsageError, WorkflowUnknownError
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

routes = APIRouter()


async def get_client(request: Request) -> Client:
    """The client of this application: there is one for the whole process."""
    client: Client = request.app.state.client
    return client


InfiniticClient = Annotated[Client, Depends(get_client)]


class NewOrder(BaseModel):
    number: str
    item: str


class Payment(BaseModel):
    number: str
    amount: int


@routes.post("/orders", status_code=202)
async def place_order(new: NewOrder, client: InfiniticClient) -> dict[str, str]:
    """Start an order. A second request with the same number starts nothing."""
    order = client.new_workflow(Order, custom_id=new.number)
    handle = await client.dispatch(order.place, new.item)
    return {"id": handle.workflow_id}


@routes.get("/orders/{workflow_id}")
async def show_order(workflow_id: str, client: InfiniticClient) -> dict[str, str]:
    """Ask an order for its status, also after it has ended."""
    return {"status": await client.query(client.get_workflow_by_id(Order, workflow_id).status)}


@routes.post("/webhooks/payments", status_code=204)
async def take_payment(payment: Payment, client: InfiniticClient) -> None:
    """The bank calls this. With `confirm`, it is told if there is no such order."""
    order = client.get_workflow_by_custom_id(Order, payment.number)
    await order.payments.send(payment.amount, confirm=True)


async def answer_unknown(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "there is no such order"}, status_code=404)


async def answer_wrong(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=422)


def make_app(open_client: Callable[[], AbstractAsyncContextManager[Client]] = Client.from_config) -> FastAPI:
    """Make the application.

    Args:
        open_client: makes the client when the application starts. Tests give another one.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with open_client() as client:
            app.state.client = client
            yield

    app = FastAPI(title="Orders", lifespan=lifespan)
    app.include_router(routes)
    app.add_exception_handler(WorkflowUnknownError, answer_unknown)
    app.add_exception_handler(UsageError, answer_wrong)
    return app


app = make_app()


async def scenario(client: Client) -> dict[str, str]:
    """Place an order twice, pay for it, and look at it. The client is one that runs already."""

    @asynccontextmanager
    async def use_client() -> AsyncGenerator[Client, None]:
        yield client

    web = make_app(use_client)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://shop") as browser,
    ):
        placed = await browser.post("/orders", json={"number": "7", "item": "lamp"})
        again = await browser.post("/orders", json={"number": "7", "item": "lamp"})
        order = placed.json()["id"]
        before = await browser.get(f"/orders/{order}")
        paid = await browser.post("/webhooks/payments", json={"number": "7", "amount": 30})
        await client.get_handle(Order.place, order).result()
        after = await browser.get(f"/orders/{order}")
        late = await browser.post("/webhooks/payments", json={"number": "7", "amount": 30})
        unknown = await browser.get("/orders/8")
        wrong = await browser.get(f"/orders/{'8' * 256}")
    return {
        "same order": str(again.json()["id"] == order),
        "before": before.json()["status"],
        "after": after.json()["status"],
        "answers": " ".join(str(each.status_code) for each in (placed, again, paid, late, unknown, wrong)),
    }


async def main() -> None:
    async with run_worker(InMemoryTransport(), InMemoryStorage()) as worker:
        for what, outcome in (await scenario(worker.client)).items():
            print(f"{what}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
