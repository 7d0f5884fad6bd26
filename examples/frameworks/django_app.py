"""A web application with Django and its plain views: they use `SyncClient`.

In a project, the views and `get_client` are in files of their own, and `settings.configure` is your
settings file. Run ``python -m examples.frameworks.django_app`` to see it with a worker in the same
process.
"""

from __future__ import annotations

import atexit
import json
from functools import cache

import django
from anyio.from_thread import start_blocking_portal
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client as Browser, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from examples.frameworks.orders import Order, run_worker
from infinitic import SyncClient, WorkflowUnknownError
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


@cache
def open_client() -> SyncClient:
    """Open the one client of this process, at its first use.

    A server that forks its processes must not open it before: threads do not survive a fork.
    """
    client = SyncClient.from_config("infinitic.yml").__enter__()
    atexit.register(client.__exit__, None, None, None)
    return client


def get_client() -> SyncClient:
    """The client of this process. The settings say how it is opened; tests set another one."""
    client: SyncClient = settings.INFINITIC_CLIENT()
    return client


if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["shop"],
        INFINITIC_CLIENT=open_client,
        ROOT_URLCONF=__name__,
        SECRET_KEY="only an example",
    )
    django.setup()


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Start an order. A second request with the same number starts nothing."""
    new = json.loads(request.body)
    client = get_client()
    handle = client.dispatch(client.new_workflow(Order, custom_id=new["number"]).place, new["item"])
    return JsonResponse({"id": handle.workflow_id}, status=202)


@require_GET
def show_order(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """Ask an order for its status, also after it has ended."""
    client = get_client()
    try:
        status = client.query(client.get_workflow_by_id(Order, workflow_id).status)
    except WorkflowUnknownError:
        return JsonResponse({"detail": "there is no such order"}, status=404)
    return JsonResponse({"status": status})


@csrf_exempt
@require_POST
def take_payment(request: HttpRequest) -> HttpResponse:
    """The bank calls this. With `confirm`, it is told if there is no such order."""
    payment = json.loads(request.body)
    client = get_client()
    order = client.get_workflow_by_custom_id(Order, payment["number"])
    try:
        client.run(order.payments.send, payment["amount"], confirm=True)
    except WorkflowUnknownError:
        return JsonResponse({"detail": "there is no such order"}, status=404)
    return HttpResponse(status=204)


urlpatterns = [
    path("orders", place_order),
    path("orders/<str:workflow_id>", show_order),
    path("webhooks/payments", take_payment),
]


def scenario(client: SyncClient) -> dict[str, str]:
    """Place an order twice, pay for it, and look at it, as a browser does."""
    browser = Browser(SERVER_NAME="shop")
    new, payment = {"number": "7", "item": "lamp"}, {"number": "7", "amount": 30}
    with override_settings(INFINITIC_CLIENT=lambda: client):
        placed = browser.post("/orders", new, content_type="application/json")
        again = browser.post("/orders", new, content_type="application/json")
        order = placed.json()["id"]
        before = browser.get(f"/orders/{order}")
        paid = browser.post("/webhooks/payments", payment, content_type="application/json")
        client.get_handle(Order.place, order).result(timeout=10)
        after = browser.get(f"/orders/{order}")
        late = browser.post("/webhooks/payments", payment, content_type="application/json")
        unknown = browser.get("/orders/8")
    return {
        "same order": str(again.json()["id"] == order),
        "before": before.json()["status"],
        "after": after.json()["status"],
        "answers": " ".join(str(each.status_code) for each in (placed, again, paid, late, unknown)),
    }


def main() -> dict[str, str]:
    """Run the scenario beside a worker, on one broker in memory."""
    transport, storage = InMemoryTransport(), InMemoryStorage()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(run_worker(transport, storage)),
        SyncClient(transport, storage=storage, portal=portal) as client,
    ):
        return scenario(client)


if __name__ == "__main__":
    for what, outcome in main().items():
        print(f"{what}: {outcome}")
