"""Beside the plugin of anyio: its own tests and fixtures stay its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infinitic_testing.loop import VirtualLoop
from infinitic_testing.simulation import Simulation

pytestmark = pytest.mark.anyio

LOOPS: list[asyncio.AbstractEventLoop] = []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def connection(anyio_backend: str) -> AsyncIterator[str]:
    LOOPS.append(asyncio.get_running_loop())
    yield "connected"
    assert asyncio.get_running_loop() is LOOPS[-1]


@pytest.fixture
async def later(sim: Simulation, connection: str) -> str:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await sim.sleep(86_400)
    return connection


async def test_beside(sim: Simulation, connection: str, later: str) -> None:
    assert connection == later == "connected"
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert not isinstance(LOOPS[-1], VirtualLoop)


async def test_its_own(connection: str) -> None:
    assert asyncio.get_running_loop() is LOOPS[-1]
