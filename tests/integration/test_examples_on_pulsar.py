"""Every example has its outcome on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from bench import servers
from infinitic import Worker, ids
from infinitic_storages.memory import InMemoryStorage
from tests.examples.test_examples import EXAMPLES, OUTCOMES
from tests.integration.stack import need


@pytest.mark.parametrize("name", OUTCOMES)
def test_it_has_its_outcome(name: str) -> None:
    need()
    example = EXAMPLES[name]

    async def play() -> dict[str, str]:
        async with servers.transport(f"test_{ids.new_id()[:8]}") as transport, asyncio.timeout(60):
            worker = Worker(transport, InMemoryStorage())
            for service in example.SERVICES:
                worker.add_service(service)
            for workflow in example.WORKFLOWS:
                worker.add_workflow(workflow)
            async with worker.running():
                return await example.scenario(worker.client)

    assert asyncio.run(play()) == OUTCOMES[name]
