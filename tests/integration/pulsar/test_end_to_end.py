"""A worker and its client on Pulsar: the examples come out as they do in memory."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Worker
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.examples.test_examples import EXAMPLES, OUTCOMES, make_middleware


@pytest.mark.parametrize("example", OUTCOMES)
def test_an_example_has_its_outcome(settings: PulsarSettings, example: str) -> None:
    module = EXAMPLES[example]

    async def play() -> dict[str, str]:
        async with asyncio.timeout(40), PulsarTransport(settings) as transport:
            worker = Worker(transport=transport, storage=InMemoryStorage(), middleware=make_middleware(example))
            for service in module.SERVICES:
                worker.add_service(service)
            for workflow in module.WORKFLOWS:
                worker.add_workflow(workflow)
            async with worker.running():
                return await module.scenario(worker.client)

    assert asyncio.run(play()) == OUTCOMES[example]
