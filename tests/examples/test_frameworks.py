"""The examples of frameworks run, and give what their pages in the documentation say."""

from __future__ import annotations

import asyncio
import re

import pytest

from examples.frameworks import containers, django_app, fastapi_app, orders
from infinitic_testing.simulation import Simulation
from tests.architecture.project import ROOT

SHOP = {
    "same order": "True",
    "before": "waiting for the payment",
    "after": "lamp is on its way",
    "answers": "202 202 204 404 404",
}
PAGES = {"fastapi": "fastapi_app.py", "django": "django_app.py", "containers": "containers.py"}


@pytest.mark.infinitic(cache_size=0)
async def test_fastapi_places_an_order_and_takes_a_payment(sim: Simulation) -> None:
    """Also if each step replays the whole history."""
    sim.add_service(orders.Warehouse)
    sim.add_workflow(orders.Order)
    assert await fastapi_app.scenario(sim.client) == SHOP | {"answers": f"{SHOP['answers']} 422"}


def test_fastapi_runs_on_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(fastapi_app.main())
    assert "after: lamp is on its way" in capsys.readouterr().out


def test_django_places_an_order_and_takes_a_payment() -> None:
    assert django_app.main() == SHOP


async def test_services_are_made_by_a_function_and_by_a_container(sim: Simulation) -> None:
    log: list[str] = []
    container = containers.make_shop_container(log)
    sim.add_service(lambda: container.get(containers.SavingMailer))
    sim.add_workflow(containers.Greeting)
    assert await containers.scenario(sim.client) == {"Ada": "greeted"}
    assert container.get(containers.MailServer).sent == ["shop@example.com to Ada: Hello Ada"]
    assert log == ["Ada", "closed"]
    container.close()

    other = containers.make_mailer()
    await other.send("Grace", "Hello")
    assert other.server.sent == ["shop@example.com to Grace: Hello"]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_the_code_of_the_example(page: str) -> None:
    source = (ROOT / "examples" / "frameworks" / PAGES[page]).read_text(encoding="utf-8")
    shown = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        for part in block.strip().split("\n\n\n"):
            if not part.startswith("# "):
                assert part.strip("\n") in source, f"not in the example:\n{part}"
