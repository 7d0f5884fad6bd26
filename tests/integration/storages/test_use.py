"""A storage carries whole examples."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from examples import booking_saga, hello
from infinitic import Worker
from infinitic_transports.memory import InMemoryTransport
from tests.examples.test_examples import OUTCOMES
from tests.integration.storages.databases import Place


@pytest.mark.parametrize("example", ["hello", "booking_saga"])
def test_examples(empty: Place, example: str) -> None:
    module: Any = {"hello": hello, "booking_saga": booking_saga}[example]

    async def run() -> dict[str, str]:
        async with empty.storage() as storage:
            worker = Worker(InMemoryTransport(), storage)
            for service in module.SERVICES:
                worker.add_service(service)
            for workflow in module.WORKFLOWS:
                worker.add_workflow(workflow)
            async with worker.running(), asyncio.timeout(60):
                outcome: dict[str, str] = await module.scenario(worker.client)
                return outcome

    assert asyncio.run(run()) == OUTCOMES[example]
