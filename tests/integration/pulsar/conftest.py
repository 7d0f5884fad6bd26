"""A namespace of its own for each module of tests, on the broker of `make services`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import pytest

from infinitic.ids import new_id
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.required import reach

BROKER = os.environ.get("INFINITIC_PULSAR_URL", "pulsar://127.0.0.1:6650")
WEB = os.environ.get("INFINITIC_PULSAR_WEB_URL", "http://127.0.0.1:8080")
PATIENCE = 30.0

Test = Callable[[PulsarTransport], Coroutine[Any, Any, None]]


class Play(Protocol):
    """Runs a test on a transport that is closed afterwards, or on several of one namespace."""

    def __call__(self, test: Test) -> None: ...


@pytest.fixture(scope="module")
def settings() -> Iterator[PulsarSettings]:
    """Settings with a fresh namespace, which is deleted afterwards."""
    for url in (BROKER, WEB):
        reach("Pulsar", url)
    made = PulsarSettings(
        broker_service_url=BROKER, web_service_url=WEB, tenant="infinitic", namespace=f"test-{new_id()[:12]}"
    )
    yield made

    async def clean() -> None:
        async with PulsarTransport(made) as transport:
            await transport.admin.delete_namespace()

    asyncio.run(clean())


@pytest.fixture
def play(settings: PulsarSettings) -> Play:
    """See `Play`."""

    def run(test: Test) -> None:
        async def body() -> None:
            async with asyncio.timeout(PATIENCE), PulsarTransport(settings) as transport:
                await test(transport)

        asyncio.run(body())

    return run
